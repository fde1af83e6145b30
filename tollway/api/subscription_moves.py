"""Moves of a subscription to another version of its plan: it goes on, with all that was used of it."""

from __future__ import annotations

from datetime import datetime

import msgspec
from litestar import delete, post
from litestar.params import FromPath, JSONBody

from rating.catalog import SettlementMode, Subscription
from tollway.api.problems import bad_request, utc_instant
from tollway.api.stores import ApiStores, Stores
from tollway.api.subscription_answers import find_subscription, subscription_v3, without_phases
from tollway.api.subscription_bodies import PlanReference, SubscriptionMigrate, SubscriptionMove
from tollway.api.threads import threaded
from tollway.api.wire import Json, camel, instant
from tollway.control import Changes, ControlError, MoveTiming


def read_moment(text: str | None, field: str) -> datetime | MoveTiming | None:
    """When a move is to hold from: a word for it, an instant, or nothing."""
    if text is None or text in tuple(MoveTiming):
        return None if text is None else MoveTiming(text)
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        words = ", ".join(f"`{word}`" for word in MoveTiming)
        raise bad_request(field, f"expected {words} or an RFC 3339 instant")
    return utc_instant(field, at)


def move_if_it_can(
    changes: Changes,
    held: Subscription,
    plan: PlanReference,
    at: datetime | None,
    anchor: datetime | None,
    mode: SettlementMode | None,
) -> Subscription | None:
    """
    Move a subscription where nothing but the version of its plan is to change, and that can go on with it.

    None where it has to end instead, and another one to follow.
    """
    differs = anchor not in (None, held.anchor) or mode not in (None, held.settlement_mode)
    if plan.key != held.plan_key or differs or held.active_to is not None:
        return None
    target = changes.plan(plan.key, plan.version, "plan")
    if target.version == held.version_at(max(at or changes.now(), held.active_from)):
        return None
    try:
        return changes.move_subscription(held.id, target.version, at)
    except ControlError as error:
        if error.path == "version":
            return None
        path = "timing" if error.path == "at" else error.path
        raise ControlError(error.code, error.what, path, error.hint) from error


def _moved(stores: ApiStores, subscription_id: str, version: int | None, at: datetime | MoveTiming | None) -> Json:
    with stores.changing() as changes:
        held = changes.move_subscription(subscription_id, version, at)
        waits = changes.what_waits_on(held)
    return _with_moves(stores, held) | ({"warning": waits} if waits else {})


def _with_moves(stores: ApiStores, held: Subscription) -> Json:
    """A subscription with its moves to other versions, made or planned."""
    moves = [
        {"version": move.plan_version, "at": instant(move.at), "recorded_at": instant(move.recorded_at)}
        for move in held.steps
    ]
    return find_subscription(stores, held.id) | {"moves": moves}


@post("/api/v3/tollway/subscriptions/{subscription:str}/move", status_code=200, tags=["Set-up"])
@threaded
def move_subscription(subscription: FromPath[str], data: JSONBody[SubscriptionMove], stores: Stores) -> Json:
    """
    Move a subscription to another version of its plan: it goes on, with what was used of tiers and free units.

    The answer is the subscription, with all its moves, and a `warning` where usage of what is new waits from before.
    """
    return subscription_v3(_moved(stores, subscription, data.version, read_moment(data.at, "at")))


@delete("/api/v3/tollway/subscriptions/{subscription:str}/move", status_code=200, tags=["Set-up"])
@threaded
def withdraw_moves(subscription: FromPath[str], stores: Stores) -> Json:
    """
    Withdraw all moves of a subscription to other versions that are planned: it stays on the version that it is on.

    The answer is the subscription, with the moves that were made.
    """
    with stores.changing() as changes:
        held = changes.withdraw_moves(subscription)
    return subscription_v3(_with_moves(stores, held))


@post("/api/v1/subscriptions/{subscription:str}/migrate", status_code=200, tags=["Set-up"])
@threaded
def migrate_subscription_v1(subscription: FromPath[str], data: JSONBody[SubscriptionMigrate], stores: Stores) -> Json:
    """The same in OpenMeter's form: both that are answered are the one subscription, which keeps anchor and phase."""
    for field in ("starting_phase", "billing_anchor"):
        if getattr(data, field) is not None:
            raise bad_request(field, "expected none: a move keeps the phase and the anchor")
    body = _moved(stores, subscription, data.target_version, read_moment(data.timing, "timing"))
    del body["moves"]
    body.pop("warning", None)
    return {"current": camel(without_phases(body)), "next": camel(body)}


ROUTES = [move_subscription, withdraw_moves, migrate_subscription_v1]
