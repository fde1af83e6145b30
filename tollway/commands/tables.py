"""Tables that more than one command shows."""

from __future__ import annotations

from collections.abc import Iterable

from tollway.console import money, print_table
from tollway.invoicing import Line, Totals


def print_invoice(title: str, currency: str, lines: Iterable[Line]) -> None:
    """Print the lines of an invoice, the details of each below it, and the total."""

    def in_minor_units(totals: Totals) -> list[object]:
        sums = (
            totals.amount,
            totals.charges_total,
            totals.discounts_total,
            totals.credits_total,
            totals.overage_total,
            totals.total,
        )
        return [money(amount, currency) for amount in sums]

    lines = list(lines)
    rows: list[list[object]] = []
    for line in lines:
        rows.append([line.name, line.period_start.date(), line.quantity, None, *in_minor_units(line.totals)])
        for child in line.children:
            amount, *_, total = in_minor_units(child.totals)
            rows.append([f"  {child.name}", None, child.quantity, child.per_unit_amount, amount, *[None] * 4, total])
    rows.append(["total", *[None] * 3, *in_minor_units(Totals.sum(line.totals for line in lines))])
    columns = [
        "line",
        "from",
        "quantity",
        "unit price",
        "amount",
        "minimum",
        "discounts",
        "credits",
        "overage",
        "total",
    ]
    print_table(title, columns, rows)
