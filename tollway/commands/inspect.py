"""Looking things up: balances, charges, credits, signals, and the events that were not rated."""

from __future__ import annotations

from typing import Annotated, Any

import redis
import typer

from rating.outcome import ParkCode, RejectCode
from sinks.redis.balances import balance_key
from tollway import ledger_reads
from tollway.commands.stores import stores
from tollway.console import print_json, print_table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most, newest first.")]
CustomerKey = Annotated[str, typer.Argument(help="The customer's key or id.")]

DEAD_REASONS = (*RejectCode, "duplicate_mismatch")
FREE_BYTES_MIN = 1 << 30


def balance(customer: CustomerKey, as_json: Json = False) -> None:
    """
    Show what a customer has left, and whether it may go on, as gateways see it.

    Example: tollway balance acme
    """
    with stores() as (endpoints, connection):
        booked = ledger_reads.balance(connection, customer)
        with redis.Redis.from_url(endpoints.redis_url, decode_responses=True) as client:
            live: Any = client.hgetall(balance_key(booked.customer_key))
    if as_json:
        print_json({"customer": booked.customer_key, "visible": live, "ledger": booked})
        return
    print_table(
        f"{booked.customer_key}: {live.get('access', booked.access)} {live.get('reason', booked.reason)}",
        ["", booked.currency],
        [
            ["live", live.get("live", booked.live)],
            ["settled", live.get("settled", booked.settled)],
            ["pending", live.get("pending", booked.pending)],
            ["overage", live.get("overage", booked.overage)],
            ["funded", booked.funded],
            ["consumed", booked.consumed],
            ["expired", booked.expired],
            ["voided", booked.voided],
            ["charged", booked.charged],
            ["uncovered", booked.uncovered],
        ],
    )


def charges(
    customer: CustomerKey,
    windows: Annotated[bool, typer.Option("--windows", help="Show each window of a period.")] = False,
    as_json: Json = False,
) -> None:
    """
    Show what a customer used and was charged, by feature and billing period.

    Example: tollway charges acme --windows --json
    """
    with stores() as (_, connection):
        found = ledger_reads.charges(connection, customer, windows=windows)
    if as_json:
        print_json(found)
        return
    rows: list[list[object]] = []
    for charge in found:
        name = charge.feature_key or charge.card_key
        sums = [charge.usage, charge.amount, charge.commitment, charge.credits, charge.uncovered]
        rows.append([name, charge.period_start, charge.status, *sums])
        for window in charge.windows:
            rows.append(
                [
                    "",
                    window.window_start,
                    "window",
                    window.quantity,
                    window.amount,
                    None,
                    window.credits,
                    window.uncovered,
                ]
            )
    columns = ["feature", "from", "status", "usage", "amount", "commitment", "credits", "uncovered"]
    print_table(f"Charges of {customer}", columns, rows)


def credits_(customer: CustomerKey, as_json: Json = False) -> None:
    """
    Show a customer's grants, and every credit transaction with the balance before and after.

    Example: tollway credits acme
    """
    with stores() as (_, connection):
        grants = ledger_reads.credit_grants(connection, customer)
        transactions = ledger_reads.credit_transactions(connection, customer)
    if as_json:
        print_json({"grants": grants, "transactions": transactions})
        return
    print_table(
        f"Grants of {customer}",
        ["name", "status", "amount", "available", "consumed", "expired", "voided", "expires"],
        [
            [g.name or g.id, g.status, g.amount, g.available, g.consumed, g.expired, g.voided, g.expires_at]
            for g in grants
        ],
    )
    print_table(
        "Transactions",
        ["booked", "type", "feature", "amount", "before", "after"],
        [
            [
                t.booked_at,
                t.type,
                t.feature_key,
                t.amount,
                t.available_balance.before,
                t.available_balance.after,
            ]
            for t in transactions
        ],
    )


def signals(customer: CustomerKey, limit: Limit = 100, as_json: Json = False) -> None:
    """
    Show the signals of a customer: access, thresholds, exhaustion.

    Example: tollway signals acme --json
    """
    with stores() as (_, connection):
        found = ledger_reads.signals(connection, customer, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        f"Signals of {customer}",
        ["raised", "kind", "feature", "reason", "live"],
        [[s.raised_at, s.kind, s.feature_key, s.reason, s.live] for s in found],
    )


def parked(
    reason: Annotated[str | None, typer.Option(help="Only events that wait for this reason.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    Show events that wait: for a customer, a subscription, a feature. They are driven again by themselves.

    Example: tollway parked --reason unknown_subject
    """
    _known(reason, tuple(ParkCode))
    with stores() as (_, connection):
        found = ledger_reads.parked(connection, reason=reason, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        "Parked events",
        ["parked", "reason", "subject", "id", "message"],
        [[p.parked_at, p.reason, p.subject, p.id, p.message] for p in found],
    )


def dead_letters(
    reason: Annotated[str | None, typer.Option(help="Only events refused for this reason.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    Show events that were refused, with the reason, the JSON path and the bytes.

    Where a meter is named, the event has no value for that one, and was rated for the others.

    Example: tollway dead-letters --json
    """
    _known(reason, DEAD_REASONS)
    with stores() as (_, connection):
        found = ledger_reads.dead_letters(connection, reason=reason, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        "Dead letters",
        ["recorded", "reason", "meter", "path", "message", "raw"],
        [[d.recorded_at, d.reason, d.meter, d.path, d.message, d.raw[:80].decode(errors="replace")] for d in found],
    )


def _known(reason: str | None, reasons: tuple[str, ...]) -> None:
    if reason is not None and reason not in reasons:
        raise typer.BadParameter(f"`--reason`: expected one of {', '.join(reasons)}, got `{reason[:40]}`")
