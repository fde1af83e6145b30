"""All that is said to PostgreSQL, but for the migrations: the files of `sql/`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sinks.statements import Statements

statement: Final = Statements(Path(__file__).parent / "sql")
"""The text of a statement by its name."""
