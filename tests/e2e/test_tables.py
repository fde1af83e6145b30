"""Tables at any width: a number is never broken, and what is cut off says so."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.e2e.command import ROOT, Home
from tests.waiting import PATIENCE_SECONDS
from tollway.table import lay_out, short_decimal

COLUMNS = ["feature", "from", "status", "usage", "amount", "commitment", "credits", "uncovered"]
ROW = ["output_tokens_large", "2026-03-01 00:00:00", "active", "1234567890", "4.2051", "0", "4.2", "0"]

words = st.text("abcdefgh", min_size=1, max_size=12)
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=3).map(lambda number: f"{number:f}")
short = numbers.filter(lambda text: len(text) < 30)
cells = st.one_of(st.lists(words | short, min_size=1, max_size=8).map(" ".join), short)


@given(rows=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=4), width=st.integers(40, 120))
def test_every_number_stays_on_one_line_at_any_width(rows: list[list[str]], width: int) -> None:
    """And no line is wider than the terminal."""
    head, lines = lay_out(["one", "two", "three"], rows, width)
    text = "\n".join(lines)
    for number in (word for row in rows for cell in row for word in cell.split() if word.strip("-")[0].isdigit()):
        assert re.search(rf"(?<!\S){re.escape(number)}(?!\S)", text) or nothing(number, columns=rows), (number, text)
    assert all(cell_len(line) <= width for line in [head or "", *lines])


def nothing(number: str, columns: list[list[str]]) -> bool:
    """Whether a number stands in a column in which nothing but zeros stands, which may be left out."""
    return any(
        number in column and all(float(cell) == 0 for cell in column if re.fullmatch(r"-?[0-9.]+", cell))
        for column in zip(*columns, strict=True)
    )


def test_a_table_that_fits_is_left_as_it_is() -> None:
    """Heads, and columns of numbers flush right."""
    assert lay_out(["", "USD"], [["live", "95.85"], ["settled", "5"]], 80) == (
        "           USD",
        ["live     95.85", "settled      5"],
    )


def test_a_table_that_is_too_wide_loses_what_says_least_first() -> None:
    """The hours of dates and columns of zeros, before it is told row by row."""
    head, lines = lay_out(COLUMNS, [ROW], 80)
    assert head is not None
    assert "uncovered" in head  # the last column stays
    (line,) = lines
    assert "2026-03-01 " in line
    assert "00:00:00" not in line
    head, lines = lay_out(COLUMNS, [ROW, ["x", *ROW[1:]]], 60)
    assert head is None
    assert lines[0] == "feature    output_tokens_large"
    assert "usage      1234567890" in lines
    assert lines[len(lines) // 2] == ""


def test_a_column_of_nothing_gives_way() -> None:
    """Before texts are broken."""
    long = "a line of an invoice"
    head, _ = lay_out(["line", "minimum", "credits", "total"], [[long, "0.00", "–", "12.00"]], 35)
    assert head == "line                  total"


def test_texts_go_on_below() -> None:
    """Between words, under their own head."""
    message = "expected a number that is not below zero here"
    head, lines = lay_out(["reason", "message"], [["value_negative", message]], 40)
    assert head == "reason          message"
    assert lines == ["value_negative  expected a number that", "                is not below zero here"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("16.774193548387096774193548387097", "16.7741935483…"),
        ("-16.774193548387096774193548387097", "-16.7741935483…"),
        ("0.0000000000001234567", "0.0000000000001234…"),
        ("12.3456789012345", "12.3456789012…"),
        ("12.345678901234", "12.345678901234"),
        ("12.345678901", "12.345678901"),
        ("5.0225", "5.0225"),
        ("100000000000000000000", "100000000000000000000"),
        ("0", "0"),
    ],
)
def test_a_long_decimal_is_cut_off_and_marked(text: str, told: str) -> None:
    """The digits that are shown are its own."""
    assert short_decimal(text) == told


def test_on_a_terminal_of_80_columns_an_invoice_keeps_its_numbers(tmp_path: Path) -> None:
    """`tollway rate` with fees, minimums and 30 digits: every line fits, and what `--json` has exactly is marked."""
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("""
meters: [{key: calls, event_type: call, aggregation: COUNT}]
features: [{key: a_feature_with_a_long_name, name: A feature with a long name, meter: calls}]
plans:
  - key: pro
    cadence: P1M
    settlement_mode: credit_then_invoice
    rate_cards:
      - {key: base_fee, price: {type: flat, amount: 31.17}}
      - {feature: a_feature_with_a_long_name, price: {type: unit, amount: 0.123456789012345678901234567}}
customers:
  - key: acme
    subjects: [acme]
    subscription: {plan: pro, from: 2026-01-05, anchor: 2026-01-31T00:00:00Z}
    grants: [{key: g, amount: 20, effective_at: 2026-01-05}]
""")
    event = {"specversion": "1.0", "source": "s", "type": "call", "subject": "acme", "time": "2026-01-06T00:00:00Z"}
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"\n".join(msgspec.json.encode(event | {"id": str(number)}) for number in range(7)))
    line = ("rate", str(events), "--catalog", str(catalog), "--as-of", "2026-03-01T00:00:00Z")
    text = on_a_terminal(Home(tmp_path / "home"), 80, *line)
    assert re.search(r"^line +from +quantity +unit price +amount .*total$", text, re.MULTILINE), text
    assert "Invoice of acme" in text
    assert max(map(cell_len, text.splitlines()[1:])) <= 80
    assert "0.1234567890…" in text
    assert "0.123456789012345678901234567" in Home(tmp_path / "home").ok(*line, "--json").out


def on_a_terminal(home: Home, width: int, *arguments: str) -> str:
    """What a command shows where it runs in a terminal, without what steers it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=home.environment() | {"TERM": "xterm"},
        cwd=ROOT,
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # so a terminal ends on Linux
        pass
    os.close(ours)
    assert process.wait(PATIENCE_SECONDS) in (0, 1)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")
