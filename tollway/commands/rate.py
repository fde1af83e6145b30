"""Rating a file in one go: needs no server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from rating.outcome import BalanceRow
from rating.refusals import Parked, Rejected
from tollway.batch import BatchResult, rate_file
from tollway.catalog_file import load_catalog_file, records
from tollway.commands.tables import print_invoice
from tollway.console import OK, REFUSED, instant, money, open_input, print_json, print_table, say, settings, talk
from tollway.invoicing import Invoice
from tollway.ledger_reads import Charge

LISTED_MAX = 1000


def rate(
    file: Annotated[str, typer.Argument(help="A JSONL file of CloudEvents, or - for standard input.")],
    catalog: Annotated[Path, typer.Option(help="The catalog, in YAML, or - for standard input.")],
    as_of: Annotated[
        str | None, typer.Option(help="The present instant, RFC 3339, or date: its start in UTC. Default: now.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """
    Rate a file in one go: charges, credits and invoices out, no server needed, none left behind.

    Duplicates, disorder, malformed lines and unknown subjects are dealt with as in the stream, and counted: read =
    rated + duplicate + parked + rejected, blank lines left out. The exit code is 1 if any event was parked or
    rejected. Of a rated event the usage of one meter may have no price, or no value that can be used: that is counted
    beside, by meter. Each event counts as received at its time, in whatever order the file is, and grants, fees and
    periods have their effect between the events. Billing periods that are over at --as-of are closed, with their
    minimums.

    Example: tollway rate usage.jsonl --catalog config/catalog/ai_tokens.yaml --json
    """
    now = instant(as_of) if as_of else datetime.now(UTC)
    if file == "-" and str(catalog) == "-":
        raise typer.BadParameter(
            "`--catalog`: standard input can't be both the catalog and the events\nhint: put one of them in a file"
        )
    chosen = settings()
    loaded = load_catalog_file(catalog)
    events, size = open_input(file, "a JSONL file of CloudEvents")
    with (
        events,
        Progress(
            TextColumn("Rate"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=talk,
            transient=True,
            disable=not talk.is_terminal,
        ) as progress,
    ):
        task = progress.add_task("rate", total=size)
        result = rate_file(
            records(loaded, now),
            events,
            now,
            chosen.window_seconds,
            lambda read: progress.advance(task, read),
        )
    document = _document(result)
    counted = document["events"]
    say(
        f"{counted['read']} events: {counted['rated']} rated, {counted['duplicate']} duplicate, "
        f"{counted['parked']} parked, {counted['rejected']} rejected"
    )
    for end, reasons in counted["reasons"].items():
        for reason, number in reasons.items():
            say(f"  {end}: {number} {reason}")
    _say_parts(document["parts"])
    if counted["mismatches"]:
        say(f"  {counted['mismatches']} duplicates had another content than the first event of their id")
    if as_json:
        print_json(document)
    else:
        _print(result)
    raise typer.Exit(REFUSED if counted["parked"] or counted["rejected"] else OK)


def _say_parts(parts: dict[str, dict[str, dict[str, int]]]) -> None:
    """What of rated events was not rated, so that a missing price is seen."""
    for end, by_meter in parts.items():
        for meter, reasons in by_meter.items():
            for reason, number in reasons.items():
                say(f"  {end} of rated events, meter {meter}: {number} {reason}")


def _parts(left: Sequence[Parked | Rejected]) -> dict[str, dict[str, int]]:
    """How many values of each meter were not rated, by reason, of events that were rated for their other meters."""
    found: dict[str, dict[str, int]] = {}
    for one in left:
        if one.meter:
            reasons = found.setdefault(one.meter, {})
            reasons[one.code.value] = reasons.get(one.code.value, 0) + 1
    return found


def _print(result: BatchResult) -> None:
    """A result as tables."""
    for invoice in _invoices(result):
        name = invoice.customer.name or invoice.customer.key
        total = money(invoice.totals.total, invoice.currency)
        title = f"Invoice of {name}: {total} {invoice.currency} to pay after credits"
        print_invoice(title, invoice.currency, invoice.lines)
    print_table(
        "Balances",
        ["customer", "charged", "consumed", "available", "uncovered", "access"],
        [[b.customer_key, b.charged, b.consumed, b.settled, b.uncovered, b.access] for b in _in_order(result)],
    )


def _document(result: BatchResult) -> dict[str, Any]:
    """A result as `--json` prints it."""
    ends: Counter[str] = Counter()
    reasons: dict[str, dict[str, int]] = {"parked": {}, "rejected": {}}
    for (end, reason), count in result.ended.items():
        ends[end] += count
        if reason:
            reasons[end][reason] = reasons[end].get(reason, 0) + count
    key_of = {row.customer_id: row.customer_key for row in result.balances.values()}
    return {
        "events": {
            "read": result.read,
            **{end: ends[end] for end in ("rated", "duplicate", "parked", "rejected")},
            "reasons": reasons,
            "mismatches": len(result.mismatches),
        },
        "parts": {"parked": _parts(result.parked), "rejected": _parts(result.rejected)},
        "charges": [{"customer": key_of[charge.customer_id], **_fields(charge)} for charge in result.periods()],
        "windows": [{"customer": key_of[row.customer_id], **row._asdict()} for row in result.charges.values()],
        "credits": _in_order(result),
        "invoices": _invoices(result),
        "parked": [
            {
                "code": p.code,
                "message": p.message,
                "source": p.source,
                "id": p.id,
                "subject": p.subject,
                "meter": p.meter or None,
                "dimensions": p.dimensions,
            }
            for p in result.parked[:LISTED_MAX]
        ],
        "rejected": [
            {"code": r.code, "message": r.message, "path": r.path, "meter": r.meter or None, "raw": r.raw[:500]}
            for r in result.rejected[:LISTED_MAX]
        ],
    }


def _in_order(result: BatchResult) -> list[BalanceRow]:
    return sorted(result.balances.values(), key=lambda row: row.customer_key)


def _invoices(result: BatchResult) -> list[Invoice]:
    return sorted(result.invoices(), key=lambda invoice: invoice.customer.key)


def _fields(charge: Charge) -> dict[str, Any]:
    return {name: getattr(charge, name) for name in charge.__struct_fields__ if name != "windows"}
