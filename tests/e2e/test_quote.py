"""`tollway quote`: a line in, a line out, whatever the line is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from rating.events import BYTE_ORDER_MARK
from tests.e2e.command import Home

GOOD = b'{"price": {"type": "unit", "amount": "0.015"}, "usage": "3"}'
TIERED = (
    b'{"price": {"type": "tiered", "mode": "graduated", "tiers": [{"upToAmount": "10", "unitPrice": {"type": "unit",'
    b' "amount": "1"}}, {"flatPrice": {"type": "flat", "amount": "5"}, "unitPrice": {"type": "unit", "amount":'
    b' "0.5"}}]}, "usage": "4", "used_before": "8", "currency": "JPY"}'
)
MINIMUM = b'{"price": {"type": "unit", "amount": "1", "minimumAmount": "10"}, "usage": 2, "period_closed": %s}'

LINES: list[tuple[bytes, str | tuple[str, str]]] = [
    (GOOD, ("0.045", "0.05")),
    (b"", "$"),
    (b"not json", "$"),
    (b'{"price": {"type": "unit", "amount": "\xff"}, "usage": "3"}', "$"),
    (b"\xff\xfe\x00", "$"),
    (b"[" * 5000, "$"),
    (TIERED, ("8", "8")),
    (b'{"price": {"type": "unit", "amount": "1"}}', "$.usage"),
    (b'{"price": {"type": "unit", "amount": "1"}, "usage": "-1"}', "$.usage"),
    (b'{"price": {"type": "unit", "amount": "1"}, "usage": "1", "used_before": "x"}', "$.used_before"),
    (b'{"price": {"type": "barter"}, "usage": "1"}', "$.price.type"),
    (b'{"price": {"type": "unit", "amount": "1"}, "usage": "1", "usag": "1"}', "$.usag"),
    (MINIMUM % b"true", ("10", "10")),
    (MINIMUM % b"false", ("2", "2")),
    (b"   \r", "$"),
    (GOOD, ("0.045", "0.05")),
]
"""Lines with the amount and the rounded total, or the path of the error, that they have to come to."""


def test_each_line_is_answered_in_its_place(tmp_path: Path) -> None:
    """A bad line, a blank one too, gets an error where its answer would be; the others are priced; exit code 1."""
    result = Home(tmp_path).run("quote", stdin=b"\n".join(line for line, _ in LINES))
    assert (result.code, result.err) == (1, "")
    answers = [msgspec.json.decode(line) for line in result.out.splitlines()]
    assert len(answers) == len(LINES)
    for (line, expected), answer in zip(LINES, answers, strict=True):
        if isinstance(expected, str):
            assert answer.keys() == {"error"}, line
            assert answer["error"].keys() == {"message", "path"}
            assert answer["error"]["path"] == expected, line
            continue
        assert answer.keys() == {"amount", "details", "total_rounded"}
        assert (answer["amount"], answer["total_rounded"]) == expected, line
        for detail in answer["details"]:
            assert detail.keys() == {"name", "quantity", "unit_price", "flat_price", "amount", "rounded"}
        assert sum(Decimal(detail["amount"]) for detail in answer["details"]) == Decimal(answer["amount"])


def test_a_byte_order_mark_is_taken_off_the_first_line_and_no_other(tmp_path: Path) -> None:
    """As programs write it at the beginning of a file."""
    result = Home(tmp_path).run("quote", stdin=BYTE_ORDER_MARK + GOOD + b"\n" + BYTE_ORDER_MARK + GOOD)
    assert result.code == 1
    first, second = (msgspec.json.decode(line) for line in result.out.splitlines())
    assert (first["amount"], second["error"]["path"]) == ("0.045", "$")


def test_good_lines_of_a_file_end_with_code_0(tmp_path: Path) -> None:
    """A file is read as standard input is; the break after its last line makes no line."""
    (tmp_path / "quotes.jsonl").write_bytes(GOOD + b"\r\n" + GOOD + b"\n")
    result = Home(tmp_path / "home").ok("quote", str(tmp_path / "quotes.jsonl"))
    assert result.out.count("\n") == 2
