"""Statements are found by their names, whatever file they are in."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.statements import Statements


def test_a_file_is_a_statement_or_has_several(tmp_path: Path) -> None:
    """By the file's name, or by the names in it, in any folder."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "one.sql").write_text("-- What it is.\nselect 1\n")
    (tmp_path / "deep" / "some.sql").write_text(
        "-- Two.\n\n-- name: two\nselect 2\n\n-- name: three\n-- Why.\nselect 3\n"
    )
    statement = Statements(tmp_path)
    assert statement("one") == b"-- What it is.\nselect 1\n"
    assert statement("two") == b"select 2\n"
    assert statement("three") == b"-- Why.\nselect 3\n"
    assert statement.by_name.keys() == {"one", "two", "three"}


def test_parts_are_filled_in(tmp_path: Path) -> None:
    """Other braces stay."""
    (tmp_path / "one.sql").write_text("select '{}' from {table}")
    assert Statements(tmp_path)("one", table="charges") == b"select '{}' from charges"


def test_a_name_stands_once(tmp_path: Path) -> None:
    """Else the one or the other would be taken."""
    (tmp_path / "one.sql").write_text("select 1")
    (tmp_path / "two.sql").write_text("-- name: one\nselect 1")
    with pytest.raises(AssertionError, match="two statements called `one`"):
        Statements(tmp_path)("one")


def test_a_file_with_names_has_no_statement_without_one(tmp_path: Path) -> None:
    """It could not be asked for."""
    (tmp_path / "some.sql").write_text("select 1\n\n-- name: one\nselect 1")
    with pytest.raises(AssertionError, match="has no name"):
        Statements(tmp_path)("one")
