"""Looking things up: balances, charges, credits, signals, and the events that were not rated."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import redis
import typer

from rating.refusals import ParkCode, RejectCode
from sinks.redis.keys import balance_key
from tollway import ledger_reads
from tollway.commands.stores import stores
from tollway.console import instant, print_json, print_table, say, tell_cut

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most, newest first.")]
CustomerKey = Annotated[str, typer.Argument(help="The customer's key or id.")]

VISIBLE = ("live", "settled", "pending", "overage")
"""The figures that gateways see."""
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
    access, reason = live.get("access", booked.access), live.get("reason", booked.reason)
    print_table(
        f"{booked.customer_key}: {access} {reason}".rstrip(),
        ["", booked.currency],
        [
            *([name, Decimal(live.get(name, getattr(booked, name)))] for name in VISIBLE),
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
            [g.name or g.key or g.id, g.status, g.amount, g.available, g.consumed, g.expired, g.voided, g.expires_at]
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
        found = ledger_reads.signals(connection, customer, limit=limit + 1)
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json(found)
    else:
        print_table(
            f"Signals of {customer}",
            ["raised", "kind", "feature", "reason", "live"],
            [[s.raised_at, s.kind, s.feature_key, s.reason, s.live] for s in found],
        )
    if cut:
        tell_cut(limit)


def parked(
    reason: Annotated[str | None, typer.Option(help="Only events that wait for this reason.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only events of this customer, by its key or id.")] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Not whole events, but what of rated ones waits, for one meter each.")
    ] = False,
    counts: Annotated[bool, typer.Option("--counts", help="Only how many wait, by reason.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    Show events that wait: for a customer, a subscription, a feature. They are driven again by themselves, but for those
    whose billing period has closed: nobody is charged for these yet.

    Of a rated event the usage of one meter may wait: see `tollway unpriced`, or --parts.

    Example: tollway parked --reason unknown_subject
    """
    _known(reason, tuple(ParkCode))
    with stores() as (_, connection):
        found = (
            []
            if counts
            else ledger_reads.parked(connection, reason=reason, customer=customer, parts=parts, limit=limit)
        )
        by_reason = ledger_reads.parked_counts(connection, customer=customer, parts=parts)
    by_reason = {name: count for name, count in by_reason.items() if reason in (None, name)}
    if as_json:
        print_json(by_reason if counts else found)
    elif counts:
        print_table("Parked events", ["reason", "events"], [[name, count] for name, count in by_reason.items()])
    else:
        columns = ["parked", "reason", "subject", "id", "message"]
        rows = [[p.parked_at, p.reason, p.subject, p.id, p.message] for p in found]
        if parts:
            columns[2:2] = ["meter"]
            rows = [[*row[:2], p.meter, *row[2:]] for p, row in zip(found, rows, strict=True)]
        print_table("Parked parts of events" if parts else "Parked events", columns, rows)
    total = sum(by_reason.values())
    if not counts and len(found) < total:
        say(f"These are the newest {len(found)} of {total}: {_in_words(by_reason)}. `--limit` shows more.")


def unpriced(
    meter: Annotated[str | None, typer.Option(help="Only usage of this meter.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only usage of this customer, by its key or id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows at most, those of the most events first.")] = 100,
    as_json: Json = False,
) -> None:
    """
    Show usage that no price covers: a meter of the customer's plan counts it, and no feature of the plan takes it.

    The events count as rated, also those that have nothing else. This usage is rated by itself once a price holds for
    its time.

    Example: tollway unpriced --meter output_tokens
    """
    with stores() as (_, connection):
        found = ledger_reads.unpriced(connection, meter=meter, customer=customer, limit=limit + 1)
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json(found)
    else:
        print_table(
            "Unpriced usage",
            ["meter", "dimensions", "events", "quantity", "since", "customers"],
            [
                [
                    row.meter,
                    ", ".join(f"{name}={text}" for name, text in sorted(row.dimensions.items())) or None,
                    row.events,
                    row.quantity,
                    row.since,
                    ", ".join(row.customers)
                    + (
                        f", and {row.customer_count - len(row.customers)} more"
                        if row.customer_count > len(row.customers)
                        else ""
                    ),
                ]
                for row in found
            ],
        )
    if found and not as_json:
        say("Give it a price in a new version of the plan, and move to that with `--at this_billing_cycle`.")
    if cut:
        tell_cut(limit, "first")


def _in_words(by_reason: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in by_reason.items())


def dead_letters(
    reason: Annotated[str | None, typer.Option(help="Only events refused for this reason.")] = None,
    customer: Annotated[
        str | None, typer.Option(help="Only events whose subject is this customer's now, by its key or id.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only events refused from this instant on, RFC 3339, or date: its start in UTC.")
    ] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    Show events that were refused, with the reason, the JSON path, and what they are called as far as that can be read.

    Where a meter is named, the event has no value for that one, and was rated for the others.

    Example: tollway dead-letters --since 2026-11-01 --json
    """
    _known(reason, DEAD_REASONS)
    begin = instant(since, "--since") if since else None
    with stores() as (_, connection):
        found = ledger_reads.dead_letters(connection, reason=reason, customer=customer, since=begin, limit=limit + 1)
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json([_with_names(letter) for letter in found])
    else:
        print_table(
            "Dead letters",
            ["recorded", "reason", "meter", "subject", "id", "message"],
            [[d.recorded_at, d.reason, d.meter, d.event.subject, d.event.id, d.message] for d in found],
        )
    if cut:
        tell_cut(limit)


def _with_names(letter: ledger_reads.DeadLetter) -> dict[str, Any]:
    """A dead letter with what its bytes say of themselves, null where that can't be read."""
    names = {name: getattr(letter.event, name) or None for name in letter.event.__struct_fields__}
    return {**{name: getattr(letter, name) for name in letter.__struct_fields__}, **names}


def _known(reason: str | None, reasons: tuple[str, ...]) -> None:
    if reason is not None and reason not in reasons:
        raise typer.BadParameter(f"`--reason`: expected one of {', '.join(reasons)}, got `{reason[:40]}`")
