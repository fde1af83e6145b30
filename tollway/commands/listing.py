"""Listing what was set up: customers, plans, subscriptions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from rating.catalog import Subscription
from tollway import ledger_reads
from tollway.commands.stores import stores
from tollway.console import print_json, print_table, shown, tell_cut
from tollway.control import status_at, utc_now
from tollway.ledger_reads import NotFound

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


def customers(
    deleted: Annotated[bool, typer.Option("--deleted", help="Also those that were deleted.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    List the customers by key, with what each has left and whether it may go on, as the ledger has it.

    Example: tollway customers --limit 1000
    """
    with stores() as (_, connection):
        found = ledger_reads.list_customers(connection, deleted=deleted, limit=limit + 1)
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json(found)
    else:
        columns = ["key", "name", "live", "currency", "access", "subjects"]
        rows: list[list[object]] = [
            [c.key, "" if c.name == c.key else c.name, c.live, c.currency, c.access, ", ".join(c.subjects)]
            for c in found
        ]
        if deleted:
            columns.append("deleted")
            rows = [[*row, c.deleted_at] for c, row in zip(found, rows, strict=True)]
        print_table("Customers", columns, rows)
    if cut:
        tell_cut(limit, "first")


def plans(
    plan: Annotated[str | None, typer.Argument(help="Only the versions of this plan, by its key.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    List the published plans by key, each version on its own.

    Example: tollway plans pro
    """
    with stores() as (_, connection):
        found = ledger_reads.list_plans(connection, plan, limit=limit + 1)
    if plan is not None and not found:
        raise NotFound("plan", plan, "`tollway plans` lists them")
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json(found)
    else:
        print_table(
            "Plans",
            ["key", "version", "currency", "cadence", "settlement", "features"],
            [[p.key, p.version, p.currency, p.cadence, p.settlement_mode, ", ".join(p.features)] for p in found],
        )
    if cut:
        tell_cut(limit, "first")


def _planned(held: Subscription, now: datetime) -> str | None:
    """The moves to other versions that are to come, for people."""
    steps = [f"v{move.plan_version} from {shown(move.at)}" for move in held.planned_moves(now)]
    return ", then ".join(steps) or None


def subscriptions(
    customer: Annotated[str | None, typer.Argument(help="Only those of this customer, by key or id.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    List subscriptions by customer, the oldest first, with the version of the plan that each is on, and will be on.

    Example: tollway subscriptions acme
    """
    now = utc_now()
    with stores() as (_, connection):
        found = ledger_reads.list_subscriptions(connection, now, customer, limit=limit + 1)
    cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json([_shown(one, status_at(one.held, now)) for one in found])
    else:
        columns = ["customer", "plan", "status", "from", "to", "id"]
        rows: list[list[object]] = [
            [
                one.customer_key,
                f"{one.plan_key} v{one.plan_version}",
                status_at(one.held, now),
                one.active_from,
                one.active_to,
                one.id,
            ]
            for one in found
        ]
        moves = [_planned(one.held, now) for one in found]
        if any(moves):
            columns[2:2] = ["planned"]
            rows = [[*row[:2], planned, *row[2:]] for row, planned in zip(rows, moves, strict=True)]
        print_table("Subscriptions" if customer is None else f"Subscriptions of {customer}", columns, rows)
    if cut:
        tell_cut(limit, "first")


def _shown(one: ledger_reads.ListedSubscription, status: str) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in one.__struct_fields__ if name != "held"}
    return {**fields, "status": status, "moves": one.held.steps}
