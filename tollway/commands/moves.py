"""Moving subscriptions to other versions of their plans."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from rating.catalog import Subscription
from tollway.commands.stores import max_ahead, stores
from tollway.console import instant, print_json, say, show
from tollway.control import (
    Changes,
    ControlCode,
    ControlError,
    ControlPlane,
    MoveTiming,
    in_force,
    instant_text,
    with_version_now,
)
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
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Have the moves that are planned never be made.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    Move a subscription to another version of its plan, and let it go on: its periods, tiers, free units and phase.

    Usage that waits for a price of the version is rated by itself, and what it rates anew is booked. What is planned
    stays, but for a move to that version, which holds from --at on instead, and one at that instant. Done again, it
    changes nothing.

    Example: tollway move acme --version 2 --at this_billing_cycle
    """
    moment = _moment(at)
    if withdraw and (version is not None or moment is not MoveTiming.IMMEDIATE):
        what = "`--withdraw`: expected neither `--version` nor `--at` beside it, since it takes all planned moves back"
        raise typer.BadParameter(f"{what}\nhint: withdraw first, and move then")
    with (
        stores() as (endpoints, _),
        ControlPlane(endpoints.postgres_dsn, endpoints.redis_url, max_ahead=max_ahead()) as plane,
        plane.changing() as changes,
    ):
        held = _held(changes, subscription)
        if withdraw:
            moved = changes.withdraw_moves(held.id)
        else:
            moved = changes.move_subscription(held.id, version, moment)
        waits = changes.what_waits_on(moved)
        now = changes.now()
    if as_json:
        print_json(with_version_now(moved, now))
    else:
        show(_told(held, moved, now))
    if waits:
        say(f"warning: {waits}")


def _told(held: Subscription, moved: Subscription, now: datetime) -> str:
    """Which version a subscription is on and will be on, and what of that is new."""
    new = [step for step in moved.steps if step not in held.steps]
    planned = moved.planned_moves(now)
    version = with_version_now(moved, now).plan_version
    text = f"Subscription {moved.id} is on {moved.plan_key} v{version}"
    if new and new[0] not in planned:
        text += f" from {instant_text(new[0].at)} on"
    elif moved == held and not planned:
        text += " already"
    for step in planned:
        text += f", then on v{step.plan_version} from {instant_text(step.at)} on"
    text += ", as planned." if planned and moved == held else "."
    left = {(step.at, step.plan_version) for step in moved.steps}
    for step in held.planned_moves(now):
        if (step.at, step.plan_version) not in left:
            text += f" Its move to v{step.plan_version} at {instant_text(step.at)} is withdrawn."
    return text


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
