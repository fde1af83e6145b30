"""
The tutorial works as written, in both languages, each from nothing and in its order.

A block ```` ```sh run ```` runs in a shell and ```` ```python run ```` in one interpreter for the page. What it
answers follows: ```` ```text output ```` to the letter, ```` ```json answer ```` by its fields; `…` is anything.
What the dataflow has yet to do, a block that reads waits for, so such a block has to be safe to repeat.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.docs.pages import ROOT, Block, blocks
from tests.docs.test_examples import NOTHING, OUTPUT, pattern, ran, running
from tests.ports import free_port
from tests.waiting import read_until

PAGE = ROOT / "docs" / "tutorial.md"
ANSWER = ("json", "answer")
ADDRESS = "localhost:8888"
ANYTHING = "…"

Run = Callable[[Block], str]


def steps(language: str) -> Iterator[tuple[Block, Block]]:
    """The blocks of a language, each with what it is to answer."""
    found = [*blocks(PAGE), NOTHING]
    for block, after in pairwise(found):
        if block.info == (language, "run"):
            yield block, after if after.info in (OUTPUT, ANSWER) else NOTHING


def matches(documented: Any, found: Any) -> bool:
    """Whether an answer is as documented: `…` is anything, and as a field, any other fields."""
    match documented:
        case str() if ANYTHING in documented:
            parts = ".*".join(map(re.escape, documented.split(ANYTHING)))
            return documented == ANYTHING or (isinstance(found, str) and re.fullmatch(parts, found) is not None)
        case dict():
            wanted = {name: value for name, value in documented.items() if name != ANYTHING}
            if not isinstance(found, dict) or (ANYTHING not in documented and found.keys() != wanted.keys()):
                return False
            return all(name in found and matches(value, found[name]) for name, value in wanted.items())
        case list():
            return isinstance(found, list) and len(found) == len(documented) and all(map(matches, documented, found))
    return bool(documented == found)


def values(text: str) -> list[Any]:
    """The JSON values of a text, one after the other."""
    found, rest = [], text.strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


def is_as_documented(after: Block, printed: str) -> bool:
    """Whether a block answered what the page says."""
    if after.info == ANSWER:
        return matches(values(after.text), values(printed))
    return after is NOTHING or pattern(after.text).fullmatch(printed) is not None


def walk(language: str, run: Run) -> None:
    """Run all blocks of a language, each until it answers as documented."""
    found = list(steps(language))
    assert len(found) > 12
    for block, after in found:
        read_until(
            lambda: run(block),  # noqa: B023
            lambda printed: is_as_documented(after, printed),  # noqa: B023
            lambda printed: f"line {block.line} to answer\n{after.text}\nand it answered\n{printed}",  # noqa: B023
        )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Block], Block]]:
    """The servers of the page, on a port that is free: blocks are changed to ask there."""
    address = f"localhost:{free_port()}"
    start = next(block for block in blocks(PAGE) if "background" in block.info)
    port = address.partition(":")[2]
    with running(replace(start, text=f"env TOLLWAY_API_PORT={port} {start.text}"), tmp_path):
        yield lambda block: replace(block, text=block.text.replace(ADDRESS, address))


def test_the_tutorial_works_with_curl(here: Callable[[Block], Block], tmp_path: Path) -> None:
    """Every block for the shell answers what the page says."""
    walk("sh", lambda block: ran(here(block), tmp_path))


def test_the_tutorial_works_in_python(here: Callable[[Block], Block]) -> None:
    """Every block of Python prints what the page says."""
    names: dict[str, Any] = {}

    def run(block: Block) -> str:
        printed = io.StringIO()
        code = compile("\n" * block.line + here(block).text, str(PAGE), "exec")
        with redirect_stdout(printed):
            exec(code, names)
        return printed.getvalue()

    try:
        walk("python", run)
    finally:
        if "client" in names:
            names["client"].close()


def test_each_answer_follows_a_block_that_is_run() -> None:
    """An answer that nothing gives would never be checked; a block that asks elsewhere would not ask the test's API."""
    found = list(blocks(PAGE))
    for before, block in pairwise([NOTHING, *found]):
        assert "http://" not in block.text.replace(f"http://{ADDRESS}", "")
        if block.info in (OUTPUT, ANSWER):
            assert before.info[1:2] == ("run",), f"line {block.line}"
        else:
            assert block.info in (("sh", "run"), ("python", "run"), ("sh", "run", "background")), f"line {block.line}"
