"""
What a catalog file makes of a subscription: the file is compared with what holds now, whoever made it.

Two questions decide, in this order; docs/reference/catalog.md has the whole table.

1. Does what holds, or is planned, have all the terms that the file says? Then it is what the file means, also where
   it was made by other ways, and nothing changes: it gets the file's key.
2. Does the file say what it said when it was last applied? Then it asks for nothing: what was changed or ended
   since then was meant so, and is only told.

Otherwise the file says something new, and the customer is subscribed, or its subscription changed.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from rating.catalog import Customer, Subscription
from tollway.catalog_file.said import Change, SaidTerms, Terms, terms_of
from tollway.control import (
    Changes,
    ControlError,
    SubscriptionDraft,
    goes_on,
    in_force,
    instant_text,
    is_planned,
    never_was,
    planned,
)


def bring_about(changes: Changes, customer: Customer, draft: SubscriptionDraft, said: SaidTerms) -> Change:
    """Have the customer's subscription be as the file says. Raises `ControlError`."""
    assert draft.key is not None
    changes.plan(draft.plan, draft.version, "plan")
    terms, before = terms_of(draft), said.last(customer.id, draft.key)
    named = changes.subscription_by_key(customer.id, draft.key)
    withdrawn = None
    is_open = terms != before and named is not None and is_planned(named, changes.now())
    if is_open and named is not None and not _is_as_said(changes, draft, named, named, before):
        # What the file planned before, and plans no more.
        withdrawn = changes.withdraw_change(named.id)
    meant = _meant(changes, customer, draft, named, before)
    if meant is not None:
        former_key = changes.key_of_subscription.get(meant.id)
        changes.give_key(draft.key, meant)
        by_others = withdrawn is None and (named is None or meant.id != named.id)
        moved = _brought_to_version(changes, draft, meant, terms, before)
        action, detail = "unchanged", _told(changes, draft, meant, _made(former_key) if by_others else "")
        if moved != meant:
            action, detail = "updated", _told_of_move(changes, meant, moved)
        if withdrawn is not None:
            action, detail = "updated", f"{detail}; the change to {_described(changes, withdrawn)} is withdrawn"
    elif terms == before or (before is None and named is not None and _was_so(changes, draft, named)):
        action, detail = "unchanged", _told_of_others(changes, customer, draft, named)
    else:
        again = named is not None or before is not None
        action, detail = _subscribe(changes, customer, draft, withdrawn, before, again=again)
    if action == "updated":
        held = in_force(changes.subscriptions(customer.id).values(), changes.now())
        waits = "" if held is None else changes.what_waits_on(held)
        detail += f"; {waits}" if waits else ""
    said.say(customer.id, draft.key, terms)
    return Change("subscription", f"{customer.key}/{draft.key}", action, detail)


def _meant(
    changes: Changes, customer: Customer, draft: SubscriptionDraft, named: Subscription | None, before: Terms | None
) -> Subscription | None:
    """The subscription of the customer that has all the terms the file says, of several the one with the key."""
    held, now = changes.subscriptions(customer.id).values(), changes.now()
    candidates = [one for one in held if goes_on(one, now)]
    candidates.sort(key=lambda one: (named is None or one.id != named.id, one.active_from, one.id))
    return next((one for one in candidates if _is_as_said(changes, draft, one, named, before)), None)


def _is_as_said(
    changes: Changes, draft: SubscriptionDraft, one: Subscription, named: Subscription | None, before: Terms | None
) -> bool:
    said_mode = named is not None and one.id == named.id if before is None else "settlement_mode" in before
    return _has_terms(changes, draft, one, mode_counts=said_mode) and _begins_so(draft, one, changes.now())


def _has_terms(changes: Changes, draft: SubscriptionDraft, one: Subscription, *, mode_counts: bool) -> bool:
    """
    Whether a subscription has the plan, version, anchor and mode that a file says; a version that is planned will do.

    A mode that the file leaves out is the plan's where a file said one before; else it says nothing of the mode.
    """
    if one.plan_key != draft.plan or draft.version not in (None, _version_now(changes, one), one.last_version):
        return False
    if draft.anchor not in (None, one.anchor):
        return False
    mode = draft.settlement_mode
    if mode is None and mode_counts:
        mode = changes.plan(one.plan_key, one.plan_version).settlement_mode
    return mode in (None, one.settlement_mode)


def _begins_so(draft: SubscriptionDraft, one: Subscription, now: datetime) -> bool:
    """Whether a subscription begins as the file says; what has begun is not moved, as long as it goes on by then."""
    if draft.active_from is None:
        return True
    if one.active_from > now:
        return one.active_from == draft.active_from
    return one.active_to is None or draft.active_from < one.active_to


def _was_so(changes: Changes, draft: SubscriptionDraft, named: Subscription) -> bool:
    """Whether the subscription of a key has ended, and was as the file says: then the file says nothing new."""
    if goes_on(named, changes.now()):
        return False
    if draft.active_from is not None and named.active_to is not None and draft.active_from >= named.active_to:
        return never_was(named) and draft.active_from == named.active_from
    return _has_terms(changes, draft, named, mode_counts=True)


def _subscribe(
    changes: Changes,
    customer: Customer,
    draft: SubscriptionDraft,
    withdrawn: Subscription | None,
    before: Terms | None,
    *,
    again: bool,
) -> tuple[str, str]:
    """
    Subscribe a customer, or change its subscription, to what a file says that holds not yet.

    `from` is when the customer first subscribes: where the key was used before, an instant that has passed does not
    move a change back, unless the customer had no subscription since then.
    """
    now = changes.now()
    start = draft.active_from
    if again and start is not None and start <= now and not _is_free_since(changes, customer, start):
        start = None
    was = withdrawn or in_force(changes.subscriptions(customer.id).values(), now)
    is_its_own = was is not None and changes.key_of_subscription.get(was.id) in (None, draft.key)
    if was is not None and withdrawn is None and is_its_own and _is_move(changes, draft, was):
        if _planned_by_file(changes, was, before):
            changes.withdraw_moves(was.id)
        moved = _move(changes, draft, was, start if start is not None and start > now else None)
        changes.give_key(draft.key or "", moved)
        return "updated", _told_of_move(changes, was, moved)
    made = changes.subscribe(customer, replace(draft, active_from=start))
    if was is None:
        return "created", _described(changes, made)
    return "updated", f"{_described(changes, made)}, was {_described(changes, was)}"


def _is_move(changes: Changes, draft: SubscriptionDraft, held: Subscription) -> bool:
    """Whether the version of the plan is all that the file says otherwise: then the subscription goes on."""
    return (
        held.plan_key == draft.plan
        and draft.version not in (None, _version_now(changes, held), held.last_version)
        and draft.anchor in (None, held.anchor)
        and draft.settlement_mode in (None, held.settlement_mode)
        and held.active_to is None
    )


def _move(changes: Changes, draft: SubscriptionDraft, held: Subscription, start: datetime | None) -> Subscription:
    """Move a subscription to the version that the file says; errors name the fields of the file."""
    try:
        return changes.move_subscription(held.id, draft.version, draft.version_from or start)
    except ControlError as error:
        path = {"at": "version_from", "id": "key"}.get(error.path, error.path)
        hint = error.hint.replace("leave it out", "leave `version_from` out")
        if path == "version":
            hint += "; under another key the file subscribes the customer anew"
        raise ControlError(error.code, error.what, path, hint) from error


def _brought_to_version(
    changes: Changes, draft: SubscriptionDraft, meant: Subscription, terms: Terms, before: Terms | None
) -> Subscription:
    """
    The subscription on the version that the file newly says, from when on the file says; itself, where that is so.

    The version may be planned and not hold yet, or hold from later on than the file says now. Where it holds and the
    file says no more what it had planned, that is withdrawn; what was planned by other ways stays.
    """
    if draft.version is None or terms == before:
        return meant
    if _version_now(changes, meant) != draft.version:
        start, now = draft.active_from, changes.now()
        return _move(changes, draft, meant, start if start is not None and start > now else None)
    if _planned_by_file(changes, meant, before):
        return changes.withdraw_moves(meant.id)
    is_new = terms.get("version_from") != (before or {}).get("version_from")
    if draft.version_from is None or not is_new or not meant.moves:
        return meant
    return _move(changes, draft, meant, None)


def _version_now(changes: Changes, one: Subscription) -> int:
    """The version that holds, or the one that a subscription begins on."""
    return one.version_at(max(changes.now(), one.active_from))


def _planned_by_file(changes: Changes, held: Subscription, before: Terms | None) -> bool:
    """Whether a move that is planned is what a file said before."""
    said = (before or {}).get("version")
    return any(move.plan_version == said for move in held.planned_moves(changes.now()))


def _told_of_move(changes: Changes, was: Subscription, moved: Subscription) -> str:
    """What is said of a subscription that moved, is to move, or is not to any more."""
    now, detail = changes.now(), _described(changes, moved)
    planned = {(move.at, move.plan_version) for move in moved.planned_moves(now)}
    dropped = [move for move in was.planned_moves(now) if (move.at, move.plan_version) not in planned]
    before, after = _version_now(changes, was), _version_now(changes, moved)
    if before != after or (not dropped and detail != _described(changes, was)):
        detail += f", was {was.plan_key} v{before}"
    elif not dropped:
        detail += f", from {instant_text(moved.steps[-1].at)} on"
    return detail + "".join(
        f"; its move to v{move.plan_version} at {instant_text(move.at)} is withdrawn" for move in dropped
    )


def _is_free_since(changes: Changes, customer: Customer, start: datetime) -> bool:
    return not any(goes_on(one, start) for one in changes.subscriptions(customer.id).values())


def _made(former_key: str | None) -> str:
    """Who made a subscription that is as the file says: only files name them."""
    return "by a change made elsewhere" if former_key is None else f"by a file, under the key `{former_key}`"


def _told(changes: Changes, draft: SubscriptionDraft, meant: Subscription, made: str) -> str:
    """What is said of a subscription that is as the file says."""
    detail = _described(changes, meant)
    if made:
        detail += f"; since {instant_text(meant.active_from)}, {made}"
    if _comes_too_late(changes, draft, meant):
        assert draft.active_from is not None
        detail += (
            f"; its `from` is {instant_text(meant.active_from)} and stays so, since what has begun is not moved: usage"
            f" from {instant_text(draft.active_from)} up to then is not rated"
        )
    if meant.active_to is not None:
        detail += f"; it ends at {instant_text(meant.active_to)}"
    newest = changes.plan(meant.plan_key).version
    if newest != meant.last_version and draft.version is None:
        detail += f"; to move it to the newest, write `version: {newest}`"
        detail += ", and `version_from: this_billing_cycle` for usage that waits for its price"
    return detail


def _comes_too_late(changes: Changes, draft: SubscriptionDraft, meant: Subscription) -> bool:
    """Whether a file says a `from` from before the subscription, at which the customer had no other one either."""
    start = draft.active_from
    if start is None or meant.active_from <= start:
        return False
    return in_force(changes.subscriptions(meant.customer_id).values(), start) is None


def _told_of_others(changes: Changes, customer: Customer, draft: SubscriptionDraft, named: Subscription | None) -> str:
    """What is said where the file's subscription was changed or ended by other ways."""
    held, now = changes.subscriptions(customer.id).values(), changes.now()
    current = in_force(held, now)
    following = current or next(iter(planned(held, now)), None)
    if following is not None:
        since = instant_text(following.active_from)
        return (
            f"{_described(changes, following)} holds instead, from {since}, by a change made elsewhere;"
            " to change it to what the file says, give the subscription another key"
        )
    last = named or max(held, key=lambda one: (one.active_to or one.active_from, one.id))
    at = instant_text(last.active_to or last.active_from)
    again = "" if draft.active_from is None or draft.active_from > now else ", and leave `from` out"
    cancelled = "cancelled before it began," if never_was(last) else "cancelled"
    return f"{cancelled} at {at}; to subscribe anew, give it another key{again}"


def _described(changes: Changes, one: Subscription) -> str:
    """The version that holds, and those that are to follow."""
    now = max(changes.now(), one.active_from)
    planned = [f"v{move.plan_version} from {instant_text(move.at)} on" for move in one.planned_moves(now)]
    return ", then ".join([f"{one.plan_key} v{one.version_at(now)}", *planned])
