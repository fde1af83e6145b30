"""Quoting a price: needs neither a server nor a catalog."""

from __future__ import annotations

from typing import Annotated

import typer

from rating.events import BYTE_ORDER_MARK
from rating.quote import quote_line
from tollway.console import OK, REFUSED, open_input, print_json

BLANK = {"error": {"message": "`$`: expected one JSON object, got a blank line", "path": "$"}}


def quote(
    file: Annotated[str, typer.Argument(help="A file of JSON objects, one a line, or - for standard input.")] = "-",
) -> None:
    """
    Price usage: one JSON object a line in, one a line out.

    In: {"price": <v1 price>, "usage": "…", "used_before": "0", "currency": "USD", "discounts": {…},
    "period_closed": true}.

    Out: {"amount", "details", "total_rounded"}. Line n of the output answers line n of the input: for a line that
    can't be priced, and so for a blank one, it is {"error": {"message", "path"}}, and the exit code is 1.

    Example: echo '{"price": {"type": "unit", "amount": "0.01"}, "usage": "250"}' | tollway quote
    """
    stream, _ = open_input(file, "a file of JSON objects, one a line")
    failed = False
    with stream:
        for number, line in enumerate(stream):
            line = line if number else line.removeprefix(BYTE_ORDER_MARK)
            answer, good = quote_line(line) if line.strip() else (BLANK, False)
            failed = failed or not good
            print_json(answer)
    raise typer.Exit(REFUSED if failed else OK)
