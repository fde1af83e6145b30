"""Every case after a public bug report comes to the figures that are right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cases.selecting import is_same, select
from tests.e2e.command import Home

FOLDER = Path(__file__).parent
FILE_CASES = sorted(path.parent.name for path in FOLDER.glob("*/case.json"))
LIVE_CASES = sorted(path.parent.name for path in FOLDER.glob("*/live_case.py"))
LISTENS = re.compile(r"The API listens on (http://127\.0\.0\.1:\d+);")
AT_ONCE = 4
"""So many live cases share the Tollway that runs at the same time: most of the time each waits."""
PATIENCE_SECONDS = 120

Ended = subprocess.CompletedProcess[str]


@pytest.mark.parametrize("name", FILE_CASES)
def test_a_file_comes_to_the_figures_that_are_right(name: str, tmp_path: Path) -> None:
    """`tollway rate` and `tollway quote` give what the case expects."""
    folder = FOLDER / name
    case = json.loads((folder / "case.json").read_text())
    home = Home(tmp_path / "home", case.get("env", {}))
    result = _run(home, folder, case)
    found = {path: select(result, path) for path in case["expect"]}
    wrong = {path: found[path] for path, value in case["expect"].items() if not is_same(value, found[path])}
    assert wrong == {}, f"{case['title']}: expected {case['expect']}\n{result['stderr']}"


def _run(home: Home, folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    if case["run"] == "quote":
        quoted = home.here("quote", str(folder / "quote.jsonl"))
        document: dict[str, Any] = {"quote": [json.loads(line) for line in quoted.out.splitlines()]}
        return document | {"rc": quoted.code, "stderr": quoted.err}
    assert case["run"] == "rate", f"no way to run a case of `{case['run']}`"
    files = str(folder / "events.jsonl"), "--catalog", str(folder / "catalog.yaml")
    rated = home.here("rate", *files, "--as-of", case["as_of"], "--json")
    document = json.loads(rated.out) if rated.out else {}
    return document | {"rc": rated.code, "stderr": rated.err}


@pytest.fixture(scope="session")
def live_runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ended]]]:
    """The live cases of this session, against one Tollway; each ends by itself."""
    chosen = [name for item in request.session.items if (name := _live_case(item)) is not None]
    home = Home(tmp_path_factory.mktemp("cases") / "home", {"TOLLWAY_API_PORT": "0"})
    with home.up("up"), ThreadPoolExecutor(AT_ONCE) as pool:
        found = LISTENS.search(home.log().read_text())
        assert found is not None, home.log().read_text()
        yield {name: pool.submit(_run_live, name, found[1]) for name in chosen}


def _live_case(item: pytest.Item) -> str | None:
    name = getattr(item, "callspec", None) and item.callspec.params.get("live")  # type: ignore[attr-defined]
    return name if name in LIVE_CASES else None


def _run_live(name: str, url: str) -> Ended:
    return subprocess.run(
        [sys.executable, str(FOLDER / name / "live_case.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "CASE_BASE": url, "RUN_ID": name.partition("-")[0]},
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.timed  # as they were reported, they wait for seconds and not for what is to come
@pytest.mark.parametrize("live", LIVE_CASES)
def test_a_running_tollway_does_what_is_right(live: str, live_runs: dict[str, Future[Ended]]) -> None:
    """What the case looks at is all a PASS."""
    ended = live_runs[live].result()
    said = ended.stdout.splitlines()
    assert (ended.returncode, [line for line in said if line.startswith("FAIL")]) == (0, []), ended.stderr
    assert any(line.startswith("PASS") for line in said), "a case looks at something"
