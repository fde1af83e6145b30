"""Tables that more than one command shows."""

from __future__ import annotations

from collections.abc import Iterable

from tollway.console import money, print_table
from tollway.invoicing import Line, Totals


def print_invoice(title: str, currency: str, lines: Iterable[Line]) -> None:
    """Print the lines of an invoice, the details of each below it, and the total; overage only where there is some."""
    lines = list(lines)
    names = ["amount", "charges_total", "discounts_total", "credits_total", "overage_total", "total"]
    columns = ["amount", "minimum", "discounts", "credits", "overage", "total"]
    if not any(line.totals.overage_total for line in lines):
        del names[4], columns[4]

    def in_minor_units(totals: Totals) -> list[object]:
        return [money(getattr(totals, name), currency) for name in names]

    rows: list[list[object]] = []
    for line in lines:
        rows.append([line.name, line.period_start.date(), line.quantity, None, *in_minor_units(line.totals)])
        # What an earlier invoice billed otherwise is given back: then each detail says who paid for it.
        is_corrected = any(child.totals.amount < 0 for child in line.children)
        for child in line.children:
            amount, *between, total = in_minor_units(child.totals)
            figures = [amount, *(between if is_corrected else (None for _ in between)), total]
            rows.append([f"  {child.name}", None, child.quantity, child.per_unit_amount, *figures])
    rows.append(["total", *[None] * 3, *in_minor_units(Totals.sum(line.totals for line in lines))])
    print_table(title, ["line", "from", "quantity", "unit price", *columns], rows)
