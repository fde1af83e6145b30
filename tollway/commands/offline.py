"""What needs no server: quoting a price, and rating a file."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from rating.quote import quote_line
from tollway.batch import BatchResult, rate_file
from tollway.catalog_file import load_catalog_file, records
from tollway.console import OK, REFUSED, instant, json_text, print_json, print_table, settings, talk
from tollway.ledger_reads import Charge

LISTED_MAX = 1000


def quote(
    file: Annotated[str, typer.Argument(help="A file of JSON objects, one a line, or - for standard input.")] = "-",
) -> None:
    """
    Price usage: one JSON object a line in, one a line out.

    In: {"price": <v1 price>, "usage": "…", "used_before": "0", "currency": "USD", "discounts": {…},
    "period_closed": true}.
    Out: {"amount", "details", "total_rounded"}, or {"error": {"message", "path"}} for a line that can't be priced;
    the exit code is then 1.

    Example: echo '{"price": {"type": "unit", "amount": "0.01"}, "usage": "250"}' | tollway quote
    """
    stream: BinaryIO = sys.stdin.buffer if file == "-" else _file(file).open("rb")
    failed = False
    with stream:
        for line in stream:
            if not line.strip():
                continue
            answer, good = quote_line(line)
            failed = failed or not good
            sys.stdout.write(json_text(answer) + "\n")
    sys.stdout.flush()
    raise typer.Exit(REFUSED if failed else OK)


def rate(
    file: Annotated[Path, typer.Argument(help="A JSONL file of CloudEvents.")],
    catalog: Annotated[Path, typer.Option(help="The catalog, in YAML.")],
    as_of: Annotated[str | None, typer.Option(help="The present instant, RFC 3339. Default: now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """
    Rate a file in one go: charges, credits and invoices out, no server needed, none left behind.

    Duplicates, disorder, malformed lines and unknown subjects are dealt with as in the stream, and counted.

    Example: tollway rate usage.jsonl --catalog config/catalog/ai_tokens.yaml --json
    """
    now = instant(as_of) if as_of else datetime.now(UTC)
    _file(str(file))
    loaded = load_catalog_file(catalog)
    with (
        file.open("rb") as events,
        Progress(
            TextColumn("Rate"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=talk,
            transient=True,
        ) as progress,
    ):
        task = progress.add_task("rate", total=file.stat().st_size)
        result = rate_file(
            records(loaded, now),
            events,
            now,
            settings().window_seconds,
            lambda size: progress.advance(task, size),
        )
    document = _document(result)
    if as_json:
        print_json(document)
        return
    counted = document["events"]
    talk.print(
        f"{counted['read']} events: {counted['rated']} rated, {counted['duplicate']} duplicate, "
        f"{counted['parked']} parked, {counted['rejected']} rejected"
    )
    for invoice in result.invoices():
        print_table(
            f"Invoice of {invoice.customer.key}, {invoice.currency}: total {invoice.totals.total}",
            ["line", "from", "quantity", "amount", "credits", "total"],
            [
                [
                    line.name,
                    line.period_start,
                    line.quantity,
                    line.totals.amount,
                    line.totals.credits_total,
                    line.totals.total,
                ]
                for line in invoice.lines
            ],
        )
    print_table(
        "Balances",
        ["customer", "charged", "consumed", "available", "uncovered", "access"],
        [[b.customer_key, b.charged, b.consumed, b.settled, b.uncovered, b.access] for b in result.balances.values()],
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
        "charges": [{"customer": key_of[charge.customer_id], **_fields(charge)} for charge in result.periods()],
        "windows": [{"customer": key_of[row.customer_id], **row._asdict()} for row in result.charges.values()],
        "credits": list(result.balances.values()),
        "invoices": result.invoices(),
        "parked": [
            {"code": p.code, "message": p.message, "source": p.source, "id": p.id, "subject": p.subject}
            for p in result.parked[:LISTED_MAX]
        ],
        "rejected": [
            {"code": r.code, "message": r.message, "path": r.path, "raw": r.raw[:500]}
            for r in result.rejected[:LISTED_MAX]
        ],
    }


def _fields(charge: Charge) -> dict[str, Any]:
    return {name: getattr(charge, name) for name in charge.__struct_fields__ if name != "windows"}


def _file(path: str) -> Path:
    found = Path(path)
    if not found.is_file():
        raise typer.BadParameter(f"`{path}` is not a file")
    return found
