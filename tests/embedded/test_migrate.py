"""Migrations are applied once, whole or not at all, by one process at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from sinks.postgres import migrate as migrate_module
from sinks.postgres.migrate import migrate
from tests.conftest import Stores


@pytest.fixture
def empty_dsn(stores: Stores) -> str:
    """A database with nothing in it."""
    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
    return stores.postgres_dsn


def test_each_migration_is_applied_once_in_order(empty_dsn: str) -> None:
    """The names newly applied are given; the second time there are none."""
    applied = migrate(empty_dsn)
    assert applied[0] == "0001_control"
    assert applied == sorted(applied)
    assert migrate(empty_dsn) == []
    with psycopg.connect(empty_dsn) as connection:
        row = connection.execute(
            "insert into control_log (kind, body) values ('meter', '{}') returning id, key_group"
        ).fetchone()
        assert row == (1, None)


def test_many_may_migrate_at_once(empty_dsn: str) -> None:
    """Of processes that migrate at once one does it, and the others wait for it."""
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [empty_dsn] * 4))
    assert sorted(map(bool, applied)) == [False, False, False, True]


def test_a_migration_that_fails_leaves_nothing(empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that fails takes back those before it; corrected, the migration is applied in full."""
    monkeypatch.setattr(migrate_module, "MIGRATIONS", tmp_path)
    migration = tmp_path / "0001_test.sql"
    migration.write_text("create table one (id int);\ncreate table two (id nonsense);\n")
    with pytest.raises(psycopg.errors.UndefinedObject):
        migrate(empty_dsn)
    migration.write_text("create table one (id int);\ncreate table two (id int);\n")
    assert migrate(empty_dsn) == ["0001_test"]


def test_what_an_earlier_version_has_applied_is_taken_over(empty_dsn: str) -> None:
    """It was marked in a table of a library's; nothing is applied again, and the rest is."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        first, second, *rest = sorted(migrate_module.MIGRATIONS.glob("*.sql"))
        connection.execute(first.read_bytes())
        connection.execute(second.read_bytes())
        connection.execute("create table _yoyo_migration (migration_id varchar(255), applied_at_utc timestamp)")
        for file in (first, second):
            connection.execute("insert into _yoyo_migration values (%s, '2026-01-02 03:04:05')", [file.stem])
    assert migrate(empty_dsn) == [file.stem for file in rest]
    assert migrate(empty_dsn) == []
    with psycopg.connect(empty_dsn) as connection:
        marked = connection.execute(
            "select name, applied_at::date::text from schema_migrations order by name"
        ).fetchall()
    assert marked[0] == (first.stem, "2026-01-02")


def test_a_migration_and_its_mark_are_one(empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies in between leaves neither."""
    monkeypatch.setattr(migrate_module, "MIGRATIONS", tmp_path)
    (tmp_path / "0001_test.sql").write_text("create table one (id int);\nselect pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg.OperationalError):
        migrate(empty_dsn)
    (tmp_path / "0001_test.sql").write_text("create table one (id int)")
    assert migrate(empty_dsn) == ["0001_test"]
