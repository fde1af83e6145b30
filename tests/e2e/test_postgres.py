"""PostgreSQL's own programs on the ledger of embedded servers."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.command import ROOT, Home

CATALOG = str(ROOT / "config" / "catalog" / "demo.yaml")


def test_a_ledger_is_looked_into_backed_up_and_put_back_while_nothing_else_runs(tmp_path: Path) -> None:
    """Nobody has to know the server's port, user and password, nor how to start it alone."""
    first, second = Home(tmp_path / "first"), Home(tmp_path / "second")
    dump = str(tmp_path / "ledger.dump")
    first.ok("apply", CATALOG)
    told = first.ok("postgres", "psql", "-At", "-c", "select current_user, current_database(), count(*) from customers")
    assert told.out == "tollway|tollway|1\n"
    assert first.run("postgres", "psql", "-c", "select nothing").code == 1
    first.ok("postgres", "pg_dump", "--format", "custom", "--file", dump)
    assert "No embedded server was running." in first.here("down").err

    second.ok("postgres", "pg_restore", "--dbname", "tollway", dump)
    assert [one["key"] for one in second.ok("customers", "--json").json] == ["acme"]


def test_a_program_that_is_not_there_starts_no_server(tmp_path: Path) -> None:
    """It is named, with what there is."""
    home = Home(tmp_path / "home")
    ran = home.run("postgres", "pg_nothing")
    assert ran.code == 2
    assert ran.err.startswith("error: `program`: there is no `pg_nothing`\nhint: take psql, pg_dump")
    assert not home.path.exists()
