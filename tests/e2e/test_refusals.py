"""What is refused, and how: the exit code, and words that name the field and the fix. No server is started."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import Struct

from tests.e2e.command import Home, Result

CATALOG = """
meters:
  - {key: calls, event_type: call, aggregation: COUNT}
features:
  - {key: calls, meter: METER}
plans:
  - {key: pro, currency: USD, cadence: P1M, rate_cards: [{feature: calls, price: {type: unit, amount: AMOUNT}}]}
"""


class Case(Struct, frozen=True):
    """A command line, and what has to come of it."""

    line: str
    code: int
    says: tuple[str, ...]
    """Words that standard error has to have."""
    files: dict[str, str] = {}
    settings: dict[str, str] = {}
    stdin: str = ""


CASES = [
    # Usage.
    Case("signals acme --limit 0", 2, ("--limit", "1")),
    Case("grant acme fifty", 2, ("`amount`", "like 50 or 12.5", "`fifty`")),
    Case("grant acme NaN", 2, ("`amount`", "`NaN`")),
    Case("invoice acme --as-of yesterday", 2, ("`--as-of`", "hint: write it as in 2026-", "in UTC", "`yesterday`")),
    Case("invoice acme --as-of 2026-04-01T00:00:00", 2, ("`--as-of`", "in UTC")),
    Case("invoice acme --as-of 9999-04-01", 2, ("`--as-of`", "1970 to")),
    Case("invoice acme --as-of 2026-04-01", 1, ("no ledger",)),
    Case("move acme --at tomorrow", 2, ("`--at`", "this_billing_cycle", "a date", "in UTC")),
    Case("move acme --at 2026-04-01", 1, ("no ledger",)),
    Case("grant acme 5 --effective-at 1.4.2026", 2, ("`--effective-at`", "in UTC")),
    Case("grant acme -5", 2, ("expected a number above 0, got `-5`", "hint: write it without the minus")),
    Case("grant acme -0.5", 2, ("got `-0.5`",)),
    Case("grant acme 5 --keyy k", 2, ("error: no such option: --keyy", "hint: did you mean `--key`?")),
    Case("grant acme", 2, ("error: missing argument `amount`", "hint: `tollway grant --help`")),
    Case("key create --role x", 2, ("error: `--role`: `x` is not one of `ingest`", "hint: `tollway key create")),
    Case("demo --rate 1", 2, ("--rate", "100")),
    Case("parked --reason lost", 2, ("`--reason`", "unknown_subject", "`lost`")),
    Case("dead-letters --reason lost", 2, ("`--reason`", "malformed", "`lost`")),
    # Files.
    Case("ingest missing.jsonl", 2, ("`missing.jsonl`", "No such file", "JSONL")),
    Case("ingest .", 2, ("`.`", "directory")),
    Case("quote missing.jsonl", 2, ("`missing.jsonl`", "No such file")),
    Case("run --file missing.jsonl", 2, ("`--file`", "`missing.jsonl`")),
    Case(
        "rate missing.jsonl --catalog good.yaml",
        2,
        ("`missing.jsonl`",),
        {"good.yaml": CATALOG.replace("METER", "calls").replace("AMOUNT", "1")},
    ),
    # Catalogs.
    Case("apply missing.yaml", 2, ("`missing.yaml`", "hint:")),
    Case("apply no.yaml", 2, ("hint:",), {"no.yaml": "meters: ["}),
    Case(
        "apply no.yaml",
        2,
        ("`$.plants`", "did you mean `plans`? known here: meters, features, plans"),
        {"no.yaml": "plants: []"},
    ),
    Case("apply no.yaml", 2, ("price.amount", "line 7", "hint:"), {"no.yaml": CATALOG.replace("AMOUNT", "one")}),
    Case(
        "rate events.jsonl --catalog no.yaml",
        2,
        ("$.features[0].meter", "line 5", "METER"),
        {"no.yaml": CATALOG.replace("AMOUNT", "1"), "events.jsonl": ""},
    ),
    Case(
        "rate /dev/null --catalog no.yaml",
        2,
        ("`$.meters[0].key` (line 3)", "did you mean `key` where `ky` is?"),
        {"no.yaml": CATALOG.replace("{key: calls, event_type", "{ky: calls, event_type")},
    ),
    Case(
        "rate /dev/null --catalog no.yaml",
        2,
        ("price.amount` (line 7)", "did you mean `amount` where `amout` is?"),
        {"no.yaml": CATALOG.replace("amount: AMOUNT", "amout: 1").replace("METER", "calls")},
    ),
    Case(
        "apply -",
        2,
        ("`$.plants`", "did you mean `plans`?"),
        stdin="plants: []",
    ),
    # Settings.
    Case("doctor", 2, (), settings={"TOLLWAY_WINDOW_SECONDS": "0"}),
    Case("up", 2, ("`TOLLWAY_WINDOW_SECONDS`", ">= 1", "`0`", "hint:"), settings={"TOLLWAY_WINDOW_SECONDS": "0"}),
    Case("up", 2, ("`TOLLWAY_WINDOWS_SECOND`", "TOLLWAY_WINDOW_SECONDS"), settings={"TOLLWAY_WINDOWS_SECOND": "5"}),
    Case("down", 2, ("`TOLLWAY_APY_PORT`", "`TOLLWAY_API_`"), settings={"TOLLWAY_APY_PORT": "5"}),
    Case(
        "up",
        2,
        ("`TOLLWAY_KAFKA_BOOTSTRAP_SERVERS`", "where `TOLLWAY_KAFKA_BOOTSTRAP_SERVER` is"),
        settings={"TOLLWAY_KAFKA_BOOTSTRAP_SERVER": "localhost:1"},
    ),
    # Nothing there, and nobody there.
    Case("balance acme", 1, ("no ledger", "tollway apply FILE", "TOLLWAY_HOME")),
    Case("grant acme 5", 1, ("no ledger",)),
    Case("invoice acme", 1, ("no ledger",)),
    Case("parked", 1, ("no ledger",)),
    Case(
        "ingest -",
        3,
        ("`TOLLWAY_REDIS_URL`", "refused", "hint:"),
        settings={"TOLLWAY_REDIS_URL": "redis://127.0.0.1:1", "TOLLWAY_POSTGRES_DSN": "postgresql://127.0.0.1:1/x"},
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Result, Path]]:
    """What came of each case, and its folder. They run side by side, for they mostly load modules."""

    def run(case: Case) -> tuple[Result, Path]:
        folder = tmp_path_factory.mktemp("case", numbered=True)
        for name, text in case.files.items():
            (folder / name).write_text(text)
        home = Home(folder / "home", case.settings)
        return home.run(*case.line.split(), folder=folder, stdin=case.stdin.encode()), folder

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(run, CASES))


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.line for case in CASES])
def test_what_is_refused_is_named_with_the_remedy(index: int, results: list[tuple[Result, Path]]) -> None:
    """Data stay off standard output, the message names what is wrong, and no home is made on the way."""
    case = CASES[index]
    result, folder = results[index]
    assert result.code == case.code, result.err
    if case.line != "doctor":
        assert result.err.startswith("error: ")
        assert "\nhint: " in result.err
    for words in case.says:
        assert words in result.err
    if case.line != "doctor":
        assert result.out == ""
    assert not (folder / "home").exists()
