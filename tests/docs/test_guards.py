"""What holds of the sources as a whole; each guard finds a fault that is planted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sinks.postgres.statements import statement
from sinks.redis import keys
from tests.docs.guards import (
    LINES_MAX,
    SLEEPS_BY_RIGHT,
    SQL,
    bare_sleeps,
    impure,
    long_functions,
    longer_than_recorded,
    our_tests,
    redis_keys_elsewhere,
    sources,
    sql_in_python,
    texts,
)
from tests.docs.pages import ROOT
from tollway.gate import redis_feed

STEP_ID = re.compile(r'op\.\w+\("(\w+)"')
LONG_FUNCTIONS = Path(__file__).parent / "long_functions.txt"


def test_no_sql_is_in_python() -> None:
    """Statements are in `.sql` files, where they can be read, found and tried."""
    assert sql_in_python(sources()) == []


@pytest.mark.parametrize(
    "planted",
    [
        'rows = connection.execute("select id, body from customers where id = %s", [id])',
        'connection.execute(b"insert into signals (id) values (1)")',
        'connection.execute(f"delete from {table} where sink_seq > %s")',
        'connection.execute("update seen_ids" " set forgotten_at = null")',
        'QUERY = """\n    select count(*)\n    from commits\n"""',
        "connection.execute(\"set statement_timeout = '5s'\")",
        'notes.read(connection, "meter", "order by key")',
        'connection.execute("select 1")',
        'connection.execute("SELECT body FROM plans")',
    ],
)
def test_sql_that_is_planted_into_python_is_found(planted: str) -> None:
    """As a statement or a clause, with values in it or without."""
    assert len(sql_in_python({"tollway/new.py": planted})) == 1


@pytest.mark.parametrize("text", ["Select a plan from the list.", "From a request's arrival to its answer.", "order"])
def test_a_sentence_is_no_sql(text: str) -> None:
    """Help and messages may say select, from and order."""
    assert not SQL.search(text)


def test_each_statement_is_asked_for() -> None:
    """A statement that no Python names is dead."""
    named = {text for source in sources().values() for _, text in texts(source)}
    assert sorted(set(statement.by_name) - named) == []


def test_each_statement_says_what_it_is_or_is_one_of_a_file_that_does() -> None:
    """The first line of a file is a comment."""
    assert [str(path) for path in (ROOT / "sinks").rglob("*.sql") if not path.read_text().startswith("--")] == []


def test_keys_of_redis_are_named_in_one_file() -> None:
    """The gate says its own, and they are the same."""
    assert redis_keys_elsewhere(sources()) == []
    assert (redis_feed.SIGNALS, redis_feed.BALANCES) == (keys.SIGNALS, keys.BALANCES)


def test_a_key_of_redis_that_is_named_elsewhere_is_found() -> None:
    """As a text, or with values in it."""
    assert len(redis_keys_elsewhere({"tollway/new.py": 'client.get("tollway:signals")'})) == 1
    assert len(redis_keys_elsewhere({"dataflows/new.py": 'client.get(f"tollway:{customer}:new")'})) == 1


def test_the_core_is_pure() -> None:
    """`rating` reads nothing, writes nothing, has no clock, draws no lots, and computes without floats."""
    assert impure({place: text for place, text in sources().items() if place.startswith("rating/")}) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "from pathlib import Path",
        "from random import choice",
        "import sinks.metrics",
        "import psycopg",
        "now = datetime.now(UTC)",
        "today = date.today()",
        "print(amount)",
        "text = open(name).read()",
        "half = amount * 0.5",
        "amount = float(text)",
    ],
)
def test_what_is_not_pure_is_found(planted: str) -> None:
    """Planted into the core."""
    assert len(impure({"rating/new.py": planted})) == 1


def test_no_function_grows() -> None:
    """None is longer than 50 lines, but for some that are recorded, and only get shorter."""
    recorded = [int(line.split()[0]) for line in LONG_FUNCTIONS.read_text().splitlines() if line[:1].isdigit()]
    assert longer_than_recorded(long_functions(sources()), recorded) == []


def function(lines: int, name: str = "long") -> str:
    """A function of some lines."""
    return "\n".join([f"def {name}():", '    """What it', '    does."""', *["    x = 1"] * (lines - 1)])


def test_a_long_function_is_found() -> None:
    """A new one, and one that is longer than any that was recorded."""
    assert long_functions({"a.py": function(LINES_MAX)}) == []
    found = long_functions({"a.py": function(LINES_MAX + 1), "b.py": function(LINES_MAX + 9)})
    assert found == [(LINES_MAX + 9, "b.py long"), (LINES_MAX + 1, "a.py long")]
    assert longer_than_recorded(found, [LINES_MAX + 9, LINES_MAX + 1]) == []
    assert longer_than_recorded(found, [LINES_MAX + 8, LINES_MAX + 1]) == [
        f"b.py long: {LINES_MAX + 9} lines, expected at most {LINES_MAX + 8}"
    ]
    assert longer_than_recorded(found, [LINES_MAX + 9]) == [
        f"a.py long: {LINES_MAX + 1} lines, expected at most {LINES_MAX}"
    ]


def test_what_is_defined_in_a_function_counts_for_itself() -> None:
    """A wrapper around a long function is not long."""
    inner = "\n".join(f"    {line}" for line in function(LINES_MAX + 1, "inner").splitlines())
    found = long_functions({"a.py": f"class Outer:\n  def method(self):\n{inner}\n"})
    assert found == [(LINES_MAX + 1, "a.py Outer.method.inner")]


@pytest.mark.parametrize("folder", ["config", "rating", "sinks", "dataflows", "tollway"])
def test_types_come_along(folder: str) -> None:
    """Whoever imports them can check types."""
    assert (ROOT / folder / "py.typed").exists()


def test_the_steps_are_on_the_page_of_what_is_stable() -> None:
    """Recovery and metrics know them by their ids."""
    flow = (ROOT / "dataflows" / "rating_flow.py").read_text()
    page = (ROOT / "docs" / "stability.md").read_text()
    ids = set(STEP_ID.findall(flow))
    assert {"route", "rate", "ledger"} <= ids
    assert sorted(step_id for step_id in ids if f"`{step_id}`" not in page) == []


def test_hooks_fetch_nothing() -> None:
    """All of them run what `make setup` has installed."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    assert {hook["entry"].split()[0] for hook in hooks["repos"][0]["hooks"]} == {".venv/bin/ruff", ".venv/bin/mypy"}


def test_no_test_sleeps() -> None:
    """Those that may are there, and do."""
    found = our_tests()
    assert bare_sleeps(found) == []
    for path in SLEEPS_BY_RIGHT:
        assert bare_sleeps({"tests/elsewhere.py": found[path]}), path


@pytest.mark.parametrize("planted", ["time.sleep(1)", "sleep(0.1)", "await asyncio.sleep(2)"])
def test_a_sleep_that_is_planted_into_a_test_is_found(planted: str) -> None:
    """However it is called."""
    assert bare_sleeps({"tests/new.py": f"async def test_new():\n    {planted}\n"}) == ["tests/new.py:2"]
