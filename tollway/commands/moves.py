"""Moving subscriptions to other versions of their plans."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from rating.catalog import Subscription
from tollway.commands.stores import stores
from tollway.console import instant, print_json, say, show
from tollway.control import Changes, ControlCode, ControlError, ControlPlane, MoveTiming, in_force
from tollway.instants import HOW, parse_instant


def move(
    subscription: Annotated[str, typer.Argument(help="Its id; or the key or id of the customer who has it now.")],
    version: Annotated[int | None, typer.Option(min=1, help="Of the same plan. Default: the newest.")] = None,
    at: Annotated[
        str,
        typer.Option(
            help="From when on: immediate, this_billing_cycle, next_billing_cycle, or an instant, RFC 3339, or a date"
            " for its start in UTC.",
        ),
    ] = MoveTiming.IMMEDIATE.value,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    Move a subscription to another version of its plan, and let it go on: its periods, tiers, free units and phase.

    Usage that waits for a price of the version is rated by itself, and what it rates anew is booked. Done again, it
    changes nothing.

    Example: tollway move acme --version 2 --at this_billing_cycle
    """
    moment = _moment(at)
    with (
        stores() as (endpoints, _),
        ControlPlane(endpoints.postgres_dsn, endpoints.redis_url) as plane,
        plane.changing() as changes,
    ):
        held = _held(changes, subscription)
        moved = changes.move_subscription(held.id, version, moment)
        waits = changes.what_waits_on(moved)
    if as_json:
        print_json(moved)
    elif moved == held:
        show(f"Subscription {held.id} is on {held.plan_key} v{held.last_version} already.")
    else:
        since = moved.moves[-1].at.isoformat()
        show(f"Subscription {moved.id} is on {moved.plan_key} v{moved.last_version} from {since} on.")
    if waits:
        say(f"warning: {waits}")


def _moment(text: str) -> datetime | MoveTiming:
    if text in tuple(MoveTiming):
        return MoveTiming(text)
    if parse_instant(text) is None:
        words = ", ".join(MoveTiming)
        raise typer.BadParameter(f"`--at`: expected {words}, an instant or a date, got `{text[:40]}`\nhint: {HOW}")
    return instant(text, "--at")


def _held(changes: Changes, name: str) -> Subscription:
    """The subscription of an id, or the one that a customer has now. Raises `ControlError` if there is none."""
    try:
        return changes.subscription(name)
    except ControlError:
        customer = changes.find_customer(name)
    now = changes.now()
    held = None if customer is None else in_force(changes.subscriptions(customer.id).values(), now)
    if held is None:
        kind = "subscription or customer" if customer is None else "subscription now of customer"
        hint = "name a subscription's id, or the key of a customer that has one now"
        raise ControlError(ControlCode.NOT_FOUND, f"there is no {kind} `{name[:256]}`", "subscription", hint)
    return held
