"""Moves of a subscription to another version of its plan: it goes on, with all that was used of it."""

from __future__ import annotations

from datetime import datetime

import msgspec
from litestar import delete, post
from litestar.params import FromPath, JSONBody
from msgspec.structs import asdict

from rating import catalog as core
from tollway.control import Changes, ControlError, MoveTiming, SubscriptionDraft
from tollway.openmeter.dialect import OPTION, V3
from tollway.openmeter.problems import bad_request, utc_instant
from tollway.openmeter.routes import v1
from tollway.openmeter.shapes import Body
from tollway.openmeter.stores import ApiStores, Stores
from tollway.openmeter.subscription_views import (
    Subscription,
    SubscriptionChanged,
    SubscriptionMove,
    SubscriptionMoved,
    find_subscription,
)
from tollway.openmeter.threads import threaded

TAGS = ["Set-up"]


class SubscriptionMigrate(Body):
    """The version of its plan that a subscription is to be on, and from when on; the newest, and now."""

    target_version: int | None = None
    timing: str | None = None
    """`immediate`, `this_billing_cycle`, `next_billing_cycle`, or an instant in RFC 3339."""
    starting_phase: str | None = None
    billing_anchor: datetime | None = None


class SubscriptionTarget(Body):
    """The version of its plan that a subscription is to be on, and from when on; the newest, and now."""

    version: int | None = None
    at: str | None = None
    """`immediate`, `this_billing_cycle`, `next_billing_cycle`, or an instant in RFC 3339."""


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


def move_if_it_can(changes: Changes, held: core.Subscription, wanted: SubscriptionDraft) -> core.Subscription | None:
    """
    Move a subscription where nothing but the version of its plan is to change, and that can go on with it.

    None where it has to end instead, and another one to follow.
    """
    at = wanted.active_from
    differs = wanted.anchor not in (None, held.anchor) or wanted.settlement_mode not in (None, held.settlement_mode)
    if wanted.plan != held.plan_key or differs or held.active_to is not None:
        return None
    target = changes.plan(wanted.plan, wanted.version, "plan")
    if target.version == held.version_at(max(at or changes.now(), held.active_from)):
        return None
    try:
        return changes.move_subscription(held.id, target.version, at)
    except ControlError as error:
        if error.path == "version":
            return None
        path = "timing" if error.path == "at" else error.path
        raise ControlError(error.code, error.what, path, error.hint) from error


def _with_moves(stores: ApiStores, held: core.Subscription, waits: str | None = None) -> SubscriptionMoved:
    """A subscription with its moves to other versions, made or planned."""
    moves = [
        SubscriptionMove(version=move.plan_version, at=move.at, recorded_at=move.recorded_at) for move in held.steps
    ]
    shown = msgspec.convert(find_subscription(stores, held.id), Subscription, from_attributes=True)
    return SubscriptionMoved(**asdict(shown), moves=moves, warning=waits or None)


@post("/api/v3/tollway/subscriptions/{subscription:str}/move", status_code=200, opt={OPTION: V3}, tags=TAGS)
@threaded
def move_subscription(
    subscription: FromPath[str], data: JSONBody[SubscriptionTarget], stores: Stores
) -> SubscriptionMoved:
    """
    Move a subscription to another version of its plan: it goes on, with what was used of tiers and free units.

    The answer is the subscription, with all its moves, and a `warning` where usage of what is new waits from before.
    """
    with stores.changing() as changes:
        held = changes.move_subscription(subscription, data.version, read_moment(data.at, "at"))
        waits = changes.what_waits_on(held)
    return _with_moves(stores, held, waits)


@delete("/api/v3/tollway/subscriptions/{subscription:str}/move", status_code=200, opt={OPTION: V3}, tags=TAGS)
@threaded
def withdraw_moves(subscription: FromPath[str], stores: Stores) -> SubscriptionMoved:
    """
    Withdraw all moves of a subscription to other versions that are planned: it stays on the version that it is on.

    The answer is the subscription, with the moves that were made.
    """
    with stores.changing() as changes:
        held = changes.withdraw_moves(subscription)
    return _with_moves(stores, held)


@v1(post, "/subscriptions/{subscription:str}/migrate", status_code=200, tags=TAGS)
def migrate_subscription_v1(
    subscription: FromPath[str], data: JSONBody[SubscriptionMigrate], stores: Stores
) -> SubscriptionChanged:
    """The same in OpenMeter's form: both that are answered are the one subscription, which keeps anchor and phase."""
    for field in ("starting_phase", "billing_anchor"):
        if getattr(data, field) is not None:
            raise bad_request(field, "expected none: a move keeps the phase and the anchor")
    with stores.changing() as changes:
        changes.move_subscription(subscription, data.target_version, read_moment(data.timing, "timing"))
    held = find_subscription(stores, subscription)
    return SubscriptionChanged(current=held, next=held)


ROUTES = [move_subscription, withdraw_moves, migrate_subscription_v1]
