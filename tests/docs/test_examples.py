"""
The examples of the documentation run, and come to what it says they come to.

A block ```` ```sh run ```` runs; `background` starts the dataflow and leaves it running; `exit 1` expects that exit
code; what one exports holds in those after it. A block ```` ```text output ```` after it is what it prints, where `…`
stands for anything. What the dataflow has yet to do, such a block waits for, so a block that is followed by its output
has to be safe to repeat.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.docs.pages import REFERENCE, ROOT, Block, blocks
from tests.waiting import PATIENCE_SECONDS, read_until, wait_for
from tollway.catalog_file import read_catalog, records
from tollway.control import utc_now

RUNNING = "The dataflow runs."
WALKS = ("README.md", "docs/quickstart.md")
OUTPUT = ("text", "output")
RUN = (("run",), ("kafka",))
"""What marks an example; those that need a Kafka broker run with its tests."""
NOTHING = Block((), "", 0)


def environment() -> dict[str, str]:
    """No settings but one, and the `tollway` of this checkout first on the path, as in an activated environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOLLWAY_", "COLUMNS"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    # No window ends while an example runs: usage before and after would be listed apart.
    # The API's port is any: others may run on this machine.
    settings = {"TOLLWAY_WINDOW_SECONDS": "1000000000", "TOLLWAY_API_PORT": "0"}
    return kept | {"PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **settings}


def ran(block: Block, folder: Path) -> str:
    """Run a block, which has to end with the exit code that it names. Returns what it printed."""
    expected = int(block.info[block.info.index("exit") + 1]) if "exit" in block.info else 0
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    printed = ended.stdout.decode()
    assert ended.returncode == expected, f"line {block.line} ended with {ended.returncode}:\n{printed}"
    return printed


@contextmanager
def running(block: Block, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the dataflow of a block; it ends well on Ctrl-C."""
    log = folder / "background.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {block.text}"], cwd=folder, env=environment(), stdout=output, stderr=output
        )
    try:
        wait_for(lambda: RUNNING in log.read_text() or process.poll() is not None, "the dataflow")
        assert process.poll() is None, log.read_text()
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def pattern(documented: str) -> re.Pattern[str]:
    """What a documented output allows: any white space for white space, and anything for `…`."""
    lines = []
    for line in documented.strip().splitlines():
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            words = [".*?".join(map(re.escape, word.split("…"))) for word in line.split()]
            lines.append(r"[^\S\n]*" + r"[^\S\n]+".join(words) + r"[^\S\n]*(?:\n|\Z)")
    return re.compile("".join(lines))


def check(block: Block, output: str | None, folder: Path) -> None:
    """Run a block, again and again until it prints what is documented, if anything is."""
    read_until(
        lambda: ran(block, folder),
        lambda printed: output is None or pattern(output).fullmatch(printed),
        lambda printed: f"line {block.line} to print\n{output}\nand it printed\n{printed}",
    )


@pytest.mark.parametrize("page", WALKS)
def test_the_examples_of_a_page_run_from_its_beginning_to_its_end(page: str, tmp_path: Path) -> None:
    """Whoever follows the page gets what it shows."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    found = list(blocks(ROOT / page))
    start = next(block for block in found if "background" in block.info)
    exports = ""
    with running(start, tmp_path):
        for block, after in pairwise([*found, NOTHING]):
            if block.info[:2] != ("sh", "run") or block is start:
                continue
            if block.text.startswith("export "):
                exports += block.text
            check(replace(block, text=exports + block.text), after.text if after.info == OUTPUT else None, tmp_path)


def test_documented_output_follows_an_example() -> None:
    """An output that no example prints would never be checked."""
    for page in WALKS:
        for before, block in pairwise([NOTHING, *blocks(ROOT / page)]):
            assert block.info != OUTPUT or before.info[1:2] in RUN, f"{page}, line {block.line}"


def test_the_catalogs_of_the_reference_can_be_used() -> None:
    """Each YAML block is a whole catalog, and applies to an empty one."""
    found = [block for block in blocks(REFERENCE / "catalog.md") if block.info == ("yaml",)]
    assert found
    for block in found:
        assert records(read_catalog(block.text), utc_now()), f"line {block.line}"
