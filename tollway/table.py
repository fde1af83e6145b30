"""
Tables for people, laid out for the width of their terminal.

A number, an instant and a name stay on one line whatever the width. A table that is too wide loses in turn: the hour of
instants that are all at midnight; columns in which nothing stands; the width of its texts, which go on below. What then
still is too wide is told row by row, a line for each column. A decimal too long for any table ends in `…`, cut off and
not rounded; `--json` has all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Final

from rich.cells import cell_len

GAP: Final = "  "
TEXT_WIDTH_MIN: Final = 16
"""So narrow a column of texts may become."""
FRACTION_DIGITS: Final = 10
"""So many digits after the point are shown of a decimal that has more than two above that."""
LEADING_DIGITS: Final = 4
"""So many digits of a small decimal are shown at least, however many zeros stand before them."""

NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?…?|–")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2})?|–")
_NUMBER_IN_TEXT: Final = re.compile(r"[^\w\s]*[0-9][0-9.,:TZ+-]*…?[^\w\s]*")
"""A number, an instant or a version in a text, with what stands around it."""
_NOTHING: Final = re.compile(r"|–|0(\.0+)?")
_MIDNIGHT: Final = " 00:00:00"

Rows = Sequence[Sequence[str]]


def short_decimal(text: str) -> str:
    """A decimal in plain notation, cut off where it is too long for a table, and marked there."""
    whole, point, fraction = text.partition(".")
    zeros = len(fraction) - len(fraction.lstrip("0")) if not whole.strip("-0") else 0
    kept = max(FRACTION_DIGITS, zeros + LEADING_DIGITS)
    return text if len(fraction) <= kept + 2 else f"{whole}{point}{fraction[:kept]}…"


def lay_out(columns: Sequence[str], rows: Rows, width: int) -> tuple[str | None, list[str]]:
    """
    The line of heads, None where the rows are told one by one, and the lines below it.

    Args:
        columns: The heads. A first column without one names the rows.
        rows: The cells, as they are to be shown.
        width: Of the terminal.
    """
    widths = _natural(columns, rows)
    if _sum(widths) > width:
        rows = _without_midnight(rows)
        columns, rows = _without_nothing(columns, rows) if _sum(_natural(columns, rows)) > width else (columns, rows)
        widths = _natural(columns, rows)
    if _sum(widths) > width:
        found = _narrowed(columns, rows, widths, width)
        if found is None:
            return None, list(_stacked(columns, rows, width))
        widths = found
    right = [_all(NUMBER, rows, index) for index in range(len(columns))]
    lines = []
    for row in rows:
        parts = [_folded(cell, width) for cell, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, parts))):
            lines.append(_line([part[number] if number < len(part) else "" for part in parts], widths, right))
    return _line(columns, widths, right), lines


def _natural(columns: Sequence[str], rows: Rows) -> list[int]:
    return [max(cell_len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]


def _sum(widths: list[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _all(pattern: re.Pattern[str], rows: Rows, index: int) -> bool:
    return bool(rows) and all(pattern.fullmatch(row[index]) for row in rows)


def _without_midnight(rows: Rows) -> Rows:
    """Instants as dates, in columns in which all are at midnight."""
    if not rows:
        return rows
    dates = [
        all(row[index].endswith(_MIDNIGHT) or not row[index].strip("–") for row in rows)
        for index in range(len(rows[0]))
    ]
    return [
        [cell.removesuffix(_MIDNIGHT) if date else cell for cell, date in zip(row, dates, strict=True)] for row in rows
    ]


def _without_nothing(columns: Sequence[str], rows: Rows) -> tuple[Sequence[str], Rows]:
    """Leave out columns in which nothing stands, but the first one and the last one."""
    last = len(columns) - 1
    kept = [index for index in range(last + 1) if index in (0, last) or not _all(_NOTHING, rows, index)]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _narrowed(columns: Sequence[str], rows: Rows, widths: list[int], width: int) -> list[int] | None:
    """The widths with columns of texts made narrower, the widest first; None where that does not do."""
    widths = list(widths)
    least = [
        natural
        if _all(NUMBER, rows, index) or _all(_INSTANT, rows, index) or not any(" " in row[index] for row in rows)
        else min(natural, max(TEXT_WIDTH_MIN, cell_len(columns[index]), *(_longest_number(row[index]) for row in rows)))
        for index, natural in enumerate(widths)
    ]
    excess = _sum(widths) - width
    while excess > 0:
        index = max(range(len(widths)), key=lambda at: widths[at] if widths[at] > least[at] else 0)
        if widths[index] <= least[index]:
            return None
        others = [widths[at] for at in range(len(widths)) if at != index and widths[at] > least[at]]
        # Down to the next widest at once, and both together from there.
        step = max(1, widths[index] - max([least[index], *(other for other in others if other < widths[index])]))
        taken = min(excess, step)
        widths[index] -= taken
        excess -= taken
    return widths


def _longest_number(text: str) -> int:
    return max((cell_len(word) for word in text.split() if _NUMBER_IN_TEXT.fullmatch(word)), default=0)


def _folded(cell: str, width: int) -> list[str]:
    """A cell in lines of a width, broken between words where it can be. Spaces at its front are kept."""
    if cell_len(cell) <= width:
        return [cell]
    indent = " " * (len(cell) - len(cell.lstrip()))
    return wrap(cell, max(width, 1), subsequent_indent=indent) or [""]


def _line(cells: Sequence[str], widths: list[int], right: list[bool]) -> str:
    padded = []
    for cell, width, flush in zip(cells, widths, right, strict=True):
        space = " " * (width - cell_len(cell))
        padded.append(space + cell if flush else cell + space)
    return GAP.join(padded).rstrip()


def _stacked(columns: Sequence[str], rows: Rows, width: int) -> Iterator[str]:
    """Each row as lines of their own, what stands nowhere left out, an empty line between two."""
    head = max(map(cell_len, columns))
    for number, row in enumerate(rows):
        if number:
            yield ""
        for column, cell in zip(columns, row, strict=True):
            if cell in ("", "–"):
                continue
            first, *more = _folded(cell, max(width - head - len(GAP), TEXT_WIDTH_MIN))
            yield f"{column}{' ' * (head - cell_len(column))}{GAP}{first}"
            for part in more:
                yield f"{' ' * head}{GAP}{part}"
