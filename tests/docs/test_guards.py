"""What holds of the sources as a whole; each guard finds a fault that is planted."""

from __future__ import annotations

import pytest

from sinks.postgres.statements import statement
from tests.docs.guards import SQL, sources, sql_in_python, texts
from tests.docs.pages import ROOT


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
