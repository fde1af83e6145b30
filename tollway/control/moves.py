"""
Moves: a subscription goes over to another version of its plan, and stays what it is.

Anchor, billing periods, phase, settlement mode, and what was used of tiers and free units go on. A move may hold from
now on, from later on, or from an instant that has passed, within what can still be rated anew: a price that usage since
then was rated by changes from the start of its open period only, since usage within a period can't be told apart by
the instant once it is counted.

A move that was made too late for usage that waits is taken back to an earlier instant by another one to the same
version, where all that the version changes is new rate cards: what was rated since stays where it was counted.

What is planned is a calendar: each instant has its version. A move to the version that is planned, at another instant,
is the planned one, earlier or later; one at the same instant takes its place; all others that are planned stay. So a
request that is made again changes nothing. Planned moves are withdrawn by a request of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from rating.catalog import NEVER, Catalog, Phase, PlanVersion, RateCard, Subscription, VersionMove
from rating.meters import Feature
from rating.moves import is_fee
from rating.periods import Cadence, period_at
from tollway.control.checks import instant_text, utc_instant
from tollway.control.drafts import MoveTiming
from tollway.control.errors import ControlError, conflict
from tollway.control.terms import goes_on
from tollway.control.transaction import Transaction

UNDER_WAY: Final = timedelta(minutes=5)
"""
So long before usage may first be counted under it a planned move is fixed: a change takes a moment to be read.

Usage may be ahead of its arrival, by what `TOLLWAY_MAX_AHEAD_SECONDS` says, and so be counted under a move before that
holds. An instant belongs to what begins at it: usage of the very microsecond of a move, or of a change, is the new
version's or subscription's, and what came before it is the old one's.
"""


def move_subscription(
    changes: Transaction, subscription_id: str, version: int | None = None, at: datetime | MoveTiming | None = None
) -> Subscription:
    """
    Have a subscription be on another version of its plan from an instant on.

    Args:
        changes: The transaction.
        subscription_id: One that goes on.
        version: Of the same plan; None: its newest.
        at: From when on; None: now, or its start where it is to begin later.
    """
    held = changes.subscription(subscription_id)
    moved = _moved(changes, held, version, at)
    if moved != held:
        changes.record(moved)
    return moved


def withdraw_moves(changes: Transaction, subscription_id: str) -> Subscription:
    """Have a subscription stay on the version that it is on: the moves that are planned are never made."""
    held = changes.subscription(subscription_id)
    now = utc_instant(changes.now(), "now")
    if not goes_on(held, now):
        raise conflict("id", "expected a subscription that goes on, got one that ended", "subscribe the customer anew")
    planned = held.planned_moves(now)
    if not planned:
        return held
    _check_not_at_hand(planned[0], now, changes.max_ahead)
    withdrawn = replace(held, moves=(*held.moves, VersionMove(planned[0].at, held.version_at(now), now)))
    changes.record(withdrawn)
    return withdrawn


def _moved(
    changes: Transaction, held: Subscription, version: int | None, at: datetime | MoveTiming | None
) -> Subscription:
    """The subscription as a move makes it. Raises `ControlError` where it can't be made."""
    now = utc_instant(changes.now(), "now")
    if not goes_on(held, now):
        raise conflict("id", "expected a subscription that goes on, got one that ended", "subscribe the customer anew")
    target = changes.plan(held.plan_key, version, "plan")
    catalog = _plans_of(changes, held)
    start = max(now, held.active_from)
    if at is None or isinstance(at, MoveTiming):
        at = _moment(catalog, held, start, at or MoveTiming.IMMEDIATE)
    at = utc_instant(at, "at")
    if held.version_at(at) == target.version and held.version_span(at).end == NEVER and not _puts_off(held, at, now):
        return held
    takes_back = _takes_back(held, target.version, at, now)
    # What a move is taken back from is compared with what was in force before it.
    last = _made(held, now)[-1] if takes_back else None
    before = replace(held, moves=tuple(move for move in held.steps if move is not last))
    _check_span(before, at, now)
    steps = _calendar(held, VersionMove(at, target.version, now), now)
    moved = _with_steps(held, steps, now, changes.max_ahead)
    if moved == held:
        return held
    _check_terms(catalog, before, moved, at)
    for place, step in enumerate(steps):
        if step.at >= at:
            led, leads = (replace(held, moves=steps[:count]) for count in (place, place + 1))
            _check_terms(catalog, led, leads, step.at)
    if last is not None:
        _check_only_adds(changes, catalog, before, held, last, at)
    if at < now:
        _check_past(changes, catalog, before, moved, at, now)
    return moved


def _made(held: Subscription, now: datetime) -> list[VersionMove]:
    """The moves to other versions whose instants have passed."""
    return [move for move in held.steps if move.at <= now]


def _puts_off(held: Subscription, at: datetime, now: datetime) -> bool:
    """Whether the version in force at an instant is one that is planned, to hold from sooner on."""
    return any(move.at < at and held.version_span(at).start == move.at for move in held.planned_moves(now))


def _calendar(held: Subscription, move: VersionMove, now: datetime) -> tuple[VersionMove, ...]:
    """The moves to other versions, in rising order, as they are to be with another one among them."""
    span = held.version_span(move.at)
    puts_off = _puts_off(held, move.at, now) and held.version_at(move.at) == move.plan_version
    earlier = [step for step in held.steps if step.at < move.at and not (puts_off and step.at == span.start)]
    later = [step for step in held.steps if step.at > max(move.at, now)]
    steps: list[VersionMove] = []
    for step in (*earlier, move, *later):
        if step.plan_version != (steps[-1].plan_version if steps else held.plan_version):
            steps.append(step)
    return tuple(steps)


def _with_steps(
    held: Subscription, steps: tuple[VersionMove, ...], now: datetime, max_ahead: timedelta
) -> Subscription:
    """
    A subscription with all that is new among its moves recorded after those that it has.

    Of what is recorded the last one holds from its instant on, so what is planned after the first difference is
    recorded again, and where nothing is to happen any more the version that holds until then is.
    """
    had = held.steps
    same = 0
    while same < min(len(had), len(steps)) and (had[same].at, had[same].plan_version) == (
        steps[same].at,
        steps[same].plan_version,
    ):
        same += 1
    if same == len(had) == len(steps):
        return held
    begins = min(step.at for step in (*had[same : same + 1], *steps[same : same + 1]))
    for step in had[same:]:
        if step.at > now:
            _check_not_at_hand(step, now, max_ahead)
    added = [VersionMove(step.at, step.plan_version, now) for step in steps[same:]]
    if not added or added[0].at > begins:
        added.insert(0, VersionMove(begins, steps[same - 1].plan_version if same else held.plan_version, now))
    return replace(held, moves=(*held.moves, *added))


def _check_not_at_hand(planned: VersionMove, now: datetime, max_ahead: timedelta) -> None:
    """That no usage may be counted under a planned move already, so that it can give way."""
    at_hand = max_ahead + UNDER_WAY
    if planned.at - now >= at_hand:
        return
    minutes = math.ceil(at_hand / timedelta(minutes=1))
    what = (
        f"expected the move to version {planned.plan_version} to lie {minutes} minutes ahead at least, as usage may be"
        f" counted under it by now: it holds from {instant_text(planned.at)} on"
    )
    raise conflict("at", what, "move the subscription again once it holds")


def _plans_of(changes: Transaction, held: Subscription) -> Catalog:
    catalog = Catalog()
    for plan in changes.plan_versions(held.plan_key):
        catalog.plans[plan.key, plan.version] = plan
    return catalog


def with_version_now(held: Subscription, now: datetime) -> Subscription:
    """A subscription as it is shown: with the version that holds, and the moves to others, made or planned."""
    version = held.version_at(max(now, held.active_from))
    return replace(held, plan_version=version, moves=held.steps)


def what_waits_on(changes: Transaction, held: Subscription) -> str:
    """
    What is to be said of a subscription's last move: that usage of what was new with it waits since before it.

    With the command that rates it, where there is one; empty where none waits.
    """
    if not held.steps:
        return ""
    last = held.steps[-1]
    metered = _meters_added(changes, held)
    rows = changes.rows(
        "waiting_by_meter",
        held.customer_id,
        held.active_from,
        last.at,
    )
    types = {event_type for _, event_type in metered}
    waiting = [row for row in rows if (row[1], row[0]) in metered or (not row[1] and row[0] in types)]
    if not waiting:
        return ""
    since, number = min(row[3] for row in waiting), sum(row[2] for row in waiting)
    customer_key = changes.customer(held.customer_id).key
    events = "1 event" if number == 1 else f"{number} events"
    what = f"usage of {events} since {instant_text(since)} waits on, from before the version holds"
    for at, said in ((MoveTiming.THIS_BILLING_CYCLE, MoveTiming.THIS_BILLING_CYCLE), (since, instant_text(since))):
        try:
            _moved(changes, held, last.plan_version, at)
        except ControlError:
            continue
        return f"{what}: `tollway move {customer_key} --version {last.plan_version} --at {said}` rates it"
    return f"{what}, and can't be rated any more, since the version changes more than new prices or its period is over"


def _meters_added(changes: Transaction, held: Subscription) -> set[tuple[str, str]]:
    """The meters, with their event types, of what was new with a subscription's last move."""
    catalog, last = _plans_of(changes, held), held.steps[-1]
    found = (catalog.phase_at(one, last.at) for one in (replace(held, moves=held.steps[:-1]), held))
    old, new = (frozenset[RateCard]() if one is None else one[1].rate_cards for one in found)
    had = {card.key for card in old}
    features = [changes.feature(card.feature_key) for card in new if card.feature_key and card.key not in had]
    meters = (changes.meter(feature.meter_key) for feature in features if feature.meter_key)
    return {(meter.key, meter.event_type) for meter in meters}


def _takes_back(held: Subscription, version: int, at: datetime, now: datetime) -> bool:
    """Whether a move is to the version of the last one that was made, from an earlier instant on."""
    made = _made(held, now)
    return bool(made) and version == made[-1].plan_version and at < made[-1].at


def _moment(catalog: Catalog, held: Subscription, start: datetime, timing: MoveTiming) -> datetime:
    """The instant that a word means."""
    if timing is MoveTiming.IMMEDIATE:
        return start
    plan = catalog.plans[held.plan_key, held.version_at(start)]
    period = period_at(held.anchor, Cadence.parse(plan.cadence), start)
    if timing is MoveTiming.NEXT_BILLING_CYCLE:
        return period.end
    found = catalog.phase_at(held, start)
    return max(period.start, held.active_from if found is None else found[2])


def _check_span(held: Subscription, at: datetime, now: datetime) -> None:
    """That the instant is within the subscription, and not before a move that it already made."""
    if at < held.active_from:
        what = f"expected an instant from {instant_text(held.active_from)} on, when it begins, got {instant_text(at)}"
        raise conflict("at", what, "name that instant for a move from its start on")
    if held.active_to is not None and at >= held.active_to:
        what = f"expected an instant before {instant_text(held.active_to)}, when it ends, got {instant_text(at)}"
        raise conflict("at", what, "restore the subscription first, or subscribe the customer anew")
    made = _made(held, now)
    if made and at < made[-1].at:
        hint = "name that instant, or a later one: of two moves at one instant the last one holds"
        raise _too_early(made[-1], at, hint)


def _too_early(last: VersionMove, at: datetime, hint: str, because: str = "") -> ControlError:
    what = (
        f"expected an instant from {instant_text(last.at)} on, its move to version {last.plan_version}{because},"
        f" got {instant_text(at)}"
    )
    return conflict("at", what, hint)


def _check_only_adds(
    changes: Transaction,
    catalog: Catalog,
    before: Subscription,
    held: Subscription,
    last: VersionMove,
    at: datetime,
) -> None:
    """That the version of the last move has all rate cards of the one before it at the same prices, and new ones."""
    old, new = catalog.phase_at(before, at), catalog.phase_at(held, last.at)
    assert old is not None
    assert new is not None
    versions = f"versions {old[0].version} and {last.plan_version}"
    for key, had, has in _pairs(old[1], new[1]):
        if has is None:
            because = f", which has no rate card `{key}`"
        elif had is not None and had.pricing != has.pricing:
            because = f", since the price of rate card `{key}` differs in {versions}"
        elif had is None and is_fee(has) and _is_metered(changes, has):
            because = f", since usage of rate card `{key}` was counted from then on"
        else:
            continue
        raise _too_early(last, at, "leave it as it is: only new prices can be given to usage of before", because)


def _is_metered(changes: Transaction, card: RateCard) -> bool:
    return card.feature_key is not None and changes.feature(card.feature_key).meter_key is not None


def _check_terms(catalog: Catalog, held: Subscription, moved: Subscription, at: datetime) -> None:
    """That periods and phases stay as they are, so that what was used of them can go on."""
    before = catalog.plans[held.plan_key, held.version_at(at)]
    after = catalog.plans[moved.plan_key, moved.version_at(at)]
    otherwise = "change the subscription instead, or publish a version that keeps it"
    for name in ("currency", "cadence"):
        had, has = getattr(before, name), getattr(after, name)
        if had != has:
            raise conflict(
                "version", f"expected one with the {name} `{had}` of version {before.version}, got `{has}`", otherwise
            )
    old, new = catalog.phase_at(held, at), catalog.phase_at(moved, at)
    if old is None or new is None:
        over = before if old is None else after
        what = f"expected a version with a phase at {instant_text(at)}, got {over.version}, which is over by then"
        raise conflict("version", what, "subscribe the customer anew")
    if old[2] != new[2]:
        what = (
            f"expected a version whose phase began at {instant_text(old[2])}, as `{old[1].key}` did in version"
            f" {before.version}, got `{new[1].key}`, which begins at {instant_text(new[2])}"
        )
        raise conflict("version", what, "change the subscription instead, or keep the durations of phases before it")
    for key, had_card, has_card in _pairs(old[1], new[1]):
        if had_card is None or has_card is None:
            continue
        for name, tell in _KEPT.items():
            had, has = tell(before, had_card), tell(after, has_card)
            if had != has:
                what = f"expected rate card `{key}` with the {name} `{had}` of version {before.version}, got `{has}`"
                raise conflict("version", what, "publish a version that gives the other one another key")


_KEPT: dict[str, Callable[[PlanVersion, RateCard], str]] = {
    "feature": lambda _plan, card: card.feature_key or "none",
    "cadence": lambda plan, card: "once" if card.once else card.cadence or plan.cadence,
}
"""What a rate card that is in both versions has in common."""


def _check_past(
    changes: Transaction, catalog: Catalog, held: Subscription, moved: Subscription, at: datetime, now: datetime
) -> None:
    """That what the move changes of the past can be rated anew: open periods as a whole, and what is new."""
    old, new = catalog.phase_at(held, now), catalog.phase_at(moved, now)
    if old is None or new is None or old[2] != new[2] or at < old[2]:
        what = f"expected an instant from which on both versions have the same phases up to now, got {instant_text(at)}"
        raise conflict("at", what, "leave it out to move now")
    versions = f"versions {held.version_at(now)} and {moved.version_at(now)}"
    for key, had, has in _pairs(old[1], new[1]):
        if had is not None and has is not None and had.pricing == has.pricing:
            continue
        placement = catalog.placement(held if had is not None else moved, key, now)
        if placement is None:
            continue
        begins = placement.counted.start if had is None else placement.period.start
        start = instant_text(begins)
        if begins > at:
            what = f"expected an instant from {start} on, where the open period of rate card `{key}` begins"
            raise conflict("at", f"{what}, got {instant_text(at)}", "name that instant, or leave it out to move now")
        if had is None:
            assert has is not None
            _check_is_unrated(changes, old[1], has, at)
            continue
        if is_fee(had) and (has is None or is_fee(has)):
            continue
        if has is None:
            what = (
                f"expected an instant from now on, since the version has no rate card `{key}`, got {instant_text(at)}"
            )
            raise conflict("at", what, "leave it out to move now, or publish a version that has it")
        if placement.period.start != at:
            what = (
                f"expected {start}, where the open period of rate card `{key}` begins, or an instant from now on, since"
                f" its price differs in {versions}, got {instant_text(at)}"
            )
            raise conflict("at", what, "name the period's start to rate it anew, or leave it out to move now")


def _check_is_unrated(changes: Transaction, phase: Phase, new: RateCard, at: datetime) -> None:
    """
    That all usage since then which a new rate card would take is waiting for it.

    Usage waits where no feature of the plan took it. What an event had for a meter that the plan had no feature of was
    passed over, and what another feature took was counted there: neither can be told apart any more.
    """
    if new.feature_key is None:
        return
    feature = changes.feature(new.feature_key)
    meter = None if feature.meter_key is None else changes.meter(feature.meter_key)
    if meter is None:
        return
    priced = [changes.feature(card.feature_key) for card in phase.rate_cards if card.feature_key is not None]
    beside = [other for other in priced if other.meter_key is not None]
    same_meter = [other for other in beside if other.meter_key == meter.key]
    same_events = [
        other
        for other in beside
        if other.meter_key is not None and changes.meter(other.meter_key).event_type == meter.event_type
    ]
    if not same_events or (same_meter and (feature.others or all(_are_apart(feature, other) for other in same_meter))):
        return
    what = (
        f"expected an instant from now on, since usage that rate card `{new.key}` would take has been rated without it,"
        f" got {instant_text(at)}"
    )
    raise conflict("at", what, "leave it out to move now")


def _are_apart(one: Feature, other: Feature) -> bool:
    """Whether no usage of their meter is taken by both: they filter by one dimension for different texts."""
    return not other.others and any(
        not set(texts) & set(other.filters[dimension])
        for dimension, texts in one.filters.items()
        if dimension in other.filters
    )


def _pairs(old: Phase, new: Phase) -> list[tuple[str, RateCard | None, RateCard | None]]:
    """The rate cards of two phases by key, each as it was and as it will be."""
    had = {card.key: card for card in old.rate_cards}
    has = {card.key: card for card in new.rate_cards}
    return [(key, had.get(key), has.get(key)) for key in had | has]
