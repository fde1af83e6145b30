"""
How commands talk: data to stdout, all else to stderr.

Exit codes: 0 done; 1 done, but some input was refused, or what was asked for is not there; 2 bad usage,
catalog, file or setting; 3 a server can't be reached or started, or went away; 70 a defect of Tollway; 130 and 141
ended by Ctrl-C, or since nobody reads the output any more.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import typer
from rich.console import Console

from config.settings import Settings, load_settings
from rating.events import INSTANT_MAX, INSTANT_MIN
from rating.money import minor_digits, plain
from tollway.instants import HOW, parse_instant
from tollway.table import lay_out, short_decimal

OK, REFUSED, BAD_INPUT, NO_SERVER, DEFECT = 0, 1, 2, 3, 70
INTERRUPTED, CLOSED = 130, 141
"""As a shell tells that a program was ended by Ctrl-C, or since the reader of its output had seen enough."""

WIDTH_OFF_TERMINAL = 500
"""Where nobody's terminal sets a width, a row of a table stays on one line."""


talk = Console(stderr=True, highlight=False, markup=False, emoji=False)
out = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDTH_OFF_TERMINAL)


def say(line: str) -> None:
    """Tell people something, as it is."""
    talk.print(line, soft_wrap=True)


def error(message: str) -> None:
    """Tell people what went wrong: a message, perhaps with a hint on a line of its own."""
    talk.print(f"error: {message}", soft_wrap=True, style="red")


def open_input(name: str, what: str) -> tuple[BinaryIO, int | None]:
    """
    Open what a command reads: a file, a pipe, or standard input for `-`.

    Returns:
        The stream, and its size where that is known.

    Raises:
        typer.BadParameter: It can't be read.
    """
    if name == "-":
        return sys.stdin.buffer, None
    path = Path(name)
    try:
        stream = path.open("rb")
        return stream, path.stat().st_size if path.is_file() else None
    except OSError as failure:
        raise typer.BadParameter(
            f"`{name}` can't be read: {failure.strerror}\nhint: give the path of {what}"
        ) from failure


def settings() -> Settings:
    """The settings of this process. Raises `SettingError`."""
    return load_settings(os.environ)


def instant(text: str, option: str = "--as-of") -> datetime:
    """
    An instant given on the command line, a date for its start in UTC.

    Raises:
        typer.BadParameter: It is none, has no time zone, or is in a year that nothing can be in.
    """
    found = parse_instant(text)
    if found is None:
        raise typer.BadParameter(f"`{option}`: expected an instant or a date, got `{text[:40]}`\nhint: {HOW}")
    if not INSTANT_MIN <= found < INSTANT_MAX:
        years = f"{INSTANT_MIN.year} to {INSTANT_MAX.year - 1}"
        raise typer.BadParameter(f"`{option}`: expected a year of {years}, got `{text[:40]}`\nhint: {HOW}")
    return found


def show(line: str) -> None:
    """Show people the result of a command, where it is a sentence and no table: on standard output, as data are."""
    out.print(line, soft_wrap=True)


def tell_cut(limit: int, which: str = "newest") -> None:
    """Say that a list stopped at its limit, and how to get more."""
    say(f"These are the {which} {limit}: there are more, and `--limit` shows them.")


def print_json(value: object) -> None:
    """Print one JSON document on one line, amounts as strings in plain notation."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()


def json_text(value: object) -> str:
    """A value as JSON."""
    return msgspec.json.encode(_plain(value)).decode()


def _plain(value: Any) -> Any:
    """Decimals as strings and instants in UTC, all the way down."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(found) for name, found in value._asdict().items()}
    if isinstance(value, dict):
        return {str(key): _plain(found) for key, found in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(found) for found in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value


def shown(value: object) -> str:
    """A value as a cell of a table. What came from outside can't steer the terminal."""
    if value is None:
        return "–"
    if isinstance(value, Decimal):
        return short_decimal(plain(value))
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))


def money(amount: Decimal, currency: str) -> str:
    """An amount that is in whole minor units, as on an invoice: `72.20`, not `72.2`."""
    return f"{amount:.{minor_digits(currency)}f}"


def print_table(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """Print a table for people; columns of numbers are flush right, and nothing but text is broken into lines."""
    if title:
        out.print(title, style="italic", soft_wrap=True)
    cells = [[shown(cell) for cell in row] for row in rows]
    head, lines = lay_out(columns, cells, out.width)
    if head is not None:
        out.print(head, style="bold", soft_wrap=True)
    for line in lines:
        out.print(line, soft_wrap=True)
