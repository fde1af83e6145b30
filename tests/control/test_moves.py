"""Moves to another version of a plan: what is recorded, what is refused and why, and how a file asks for one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from rating.catalog import Phase, Subscription, VersionMove
from rating.meters import Feature
from rating.prices import Flat, Price, Unit
from tests.control.conftest import START, World, card, phase
from tollway.catalog_file import apply, read_catalog, records
from tollway.control import ControlError, ControlPlane, MoveTiming, instant_text

D = Decimal
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOW = START + 10 * DAY


def publish(world: World, *phases: Phase, cadence: str = "P1M", prorate: bool = False) -> None:
    """The next version of the plan."""
    world.plane.publish_plan("pro", cadence=cadence, phases=phases, prorate=prorate)


def dearer(amount: str = "0.02") -> Price:
    return Unit(D(amount))


@pytest.fixture
def held(world: World) -> Subscription:
    """Acme on version 1 of `pro` since March began; it is ten days later."""
    held = world.plane.subscribe("acme", "pro", active_from=START)
    world.clock.at = NOW
    return held


def refused(world: World, held: Subscription, version: int | None, at: datetime | MoveTiming | None) -> ControlError:
    before = world.log()
    with pytest.raises(ControlError) as caught:
        world.plane.move_subscription(held.id, version, at)
    assert world.log() == before
    return caught.value


def test_a_move_holds_from_now_on_and_leaves_all_else_as_it_is(world: World, held: Subscription) -> None:
    """To the newest version where none is said; to ask for it again changes nothing."""
    publish(world, phase(card("tokens", dearer())))
    moved = world.plane.move_subscription(held.id)
    assert moved.moves == (VersionMove(NOW, 2, NOW),)
    assert (moved.id, moved.anchor, moved.plan_version, moved.last_version) == (held.id, held.anchor, 1, 2)
    log = world.log()
    world.clock.forward(hours=1)
    assert world.plane.move_subscription(held.id, 2) == moved
    assert world.plane.move_subscription(held.id, 2, NOW + DAY) == moved
    assert world.log() == log


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        (MoveTiming.IMMEDIATE, NOW),
        (MoveTiming.THIS_BILLING_CYCLE, START),
        (MoveTiming.NEXT_BILLING_CYCLE, START + 31 * DAY),
        (START, START),
        (NOW + HOUR, NOW + HOUR),
    ],
)
def test_a_changed_price_may_hold_from_the_start_of_the_period_from_now_or_from_later(
    world: World, held: Subscription, timing: datetime | MoveTiming, expected: datetime
) -> None:
    """In words, or by an instant."""
    publish(world, phase(card("tokens", dearer())))
    assert world.plane.move_subscription(held.id, 2, timing).moves[-1].at == expected


def test_a_changed_price_does_not_hold_from_within_the_part_that_is_rated(world: World, held: Subscription) -> None:
    """The error names the field, the rate card, and what to do."""
    publish(world, phase(card("tokens", dearer())))
    error = refused(world, held, 2, START + DAY)
    assert (error.code, error.path) == ("conflict", "at")
    assert error.what == (
        "expected 2026-03-01T00:00:00Z, where the open period of rate card `tokens` begins, or an instant from now on,"
        " since its price differs in versions 1 and 2, got 2026-03-02T00:00:00Z"
    )
    assert error.hint == "name the period's start to rate it anew, or leave it out to move now"


def test_a_new_price_may_hold_from_any_instant_of_the_open_period(world: World, held: Subscription) -> None:
    """As far as all that it would take has been waiting: not what another feature took, or what was passed over."""
    world.plane.put_feature(Feature("small", meter_key="tokens", filters={"model": ("small",)}))
    world.plane.put_feature(Feature("new", meter_key="tokens", filters={"model": ("new", "newer")}))
    world.plane.put_feature(Feature("rest", meter_key="tokens", others=True))
    publish(world, phase(card("tokens"), card("new", dearer())))
    error = refused(world, held, 2, START + DAY)
    assert "since usage that rate card `new` would take has been rated without it" in error.what
    assert error.hint == "leave it out to move now"
    publish(world, phase(card("small"), card("new")))
    world.plane.move_subscription(held.id, 3)
    publish(world, phase(card("small"), card("new"), card("rest")))
    world.clock.at = NOW + DAY
    assert world.plane.move_subscription(held.id, 4, NOW + HOUR).last_version == 4
    publish(world, phase(card("small"), card("new"), card("rest"), card("tokens")))
    assert "`tokens` would take" in refused(world, held, 5, NOW + 2 * HOUR).what


def test_a_price_holds_from_no_period_that_is_over(world: World, held: Subscription) -> None:
    """The open period may be rated anew, and none before it."""
    world.clock.at = START + 40 * DAY
    publish(world, phase(card("tokens", dearer())))
    error = refused(world, held, 2, START + 5 * DAY)
    assert "from 2026-04-01T00:00:00Z on, where the open period of rate card `tokens` begins" in error.what
    assert world.plane.move_subscription(held.id, 2, START + 31 * DAY).last_version == 2


def test_a_new_price_does_not_hold_from_an_instant_since_which_others_took_its_usage(
    world: World, held: Subscription
) -> None:
    """What a feature for all others took stays with it."""
    world.plane.put_feature(Feature("new", meter_key="tokens", filters={"model": ("new",)}))
    world.plane.put_feature(Feature("rest", meter_key="tokens", others=True))
    publish(world, phase(card("rest")))
    world.plane.move_subscription(held.id, 2)
    publish(world, phase(card("rest"), card("new")))
    world.clock.at = NOW + DAY
    assert "`new` would take" in refused(world, held, 3, NOW + HOUR).what
    assert world.plane.move_subscription(held.id, 3).last_version == 3


def test_a_move_that_was_made_too_late_is_taken_back_to_where_usage_waits_from(
    world: World, held: Subscription
) -> None:
    """Where all that its version changes is new prices whose usage has been waiting; later moves go on from there."""
    small = Feature("small", meter_key="tokens", filters={"model": ("small",)})
    world.plane.put_feature(small)
    world.plane.put_feature(replace(small, key="new", filters={"model": ("new",)}))
    world.plane.put_feature(replace(small, key="newest", filters={"model": ("newest",)}))
    publish(world, phase(card("small")))
    publish(world, phase(card("small"), card("new", dearer())))
    world.plane.move_subscription(held.id, 2, NOW)
    world.clock.at = NOW + DAY
    world.plane.move_subscription(held.id, 3)
    world.clock.at = NOW + 2 * DAY
    taken_back = world.plane.move_subscription(held.id, 3, NOW + HOUR)
    assert [(move.at, move.plan_version) for move in taken_back.moves] == [(NOW, 2), (NOW + DAY, 3), (NOW + HOUR, 3)]
    assert taken_back.holding_moves == (VersionMove(NOW, 2, NOW), VersionMove(NOW + HOUR, 3, NOW + 2 * DAY))
    assert [taken_back.version_at(NOW + n * HOUR) for n in (0, 1, 23, 25)] == [2, 3, 3, 3]
    log = world.log()
    for at in (None, NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * DAY):
        assert world.plane.move_subscription(held.id, 3, at) == taken_back
    assert world.log() == log
    assert "its move to version 2" in refused(world, held, 3, NOW - HOUR).what
    assert world.plane.move_subscription(held.id, 3, NOW).holding_moves == (VersionMove(NOW, 3, NOW + 2 * DAY),)
    publish(world, phase(card("small"), card("new", dearer()), card("newest")))
    assert world.plane.move_subscription(held.id, 4).version_at(NOW + 2 * DAY) == 4


def test_a_move_is_taken_back_for_nothing_but_new_prices(world: World, held: Subscription) -> None:
    """Not where another price differs or is gone, or where usage of the new one has been rated by others."""
    small = Feature("small", meter_key="tokens", filters={"model": ("small",)})
    world.plane.put_feature(small)
    world.plane.put_feature(replace(small, key="new", filters={"model": ("new",)}))
    publish(world, phase(card("tokens", dearer())))
    world.plane.move_subscription(held.id, 2)
    world.clock.at = NOW + DAY
    error = refused(world, held, 2, START)
    assert error.what == (
        "expected an instant from 2026-03-11T00:00:00Z on, its move to version 2, since the price of rate card `tokens`"
        " differs in versions 1 and 2, got 2026-03-01T00:00:00Z"
    )
    assert error.hint == "leave it as it is: only new prices can be given to usage of before"
    publish(world, phase(card("tokens", dearer()), card("new")))
    world.plane.move_subscription(held.id, 3)
    world.clock.at = NOW + 2 * DAY
    assert "`new` would take has been rated without it" in refused(world, held, 3, NOW + HOUR).what
    publish(world, phase(card("new")))
    world.plane.move_subscription(held.id, 4)
    world.clock.at = NOW + 3 * DAY
    assert "which has no rate card `tokens`" in refused(world, held, 4, NOW + 47 * HOUR).what
    publish(world, phase(card("new"), card("small", Flat(D(1)), key="s")))
    world.plane.move_subscription(held.id, 5)
    world.clock.at = NOW + 4 * DAY
    assert "usage of rate card `s` was counted" in refused(world, held, 5, NOW + 71 * HOUR).what


def test_what_waits_on_and_can_not_be_rated_any_more_is_told(world: World, held: Subscription) -> None:
    """Where the version changes another price as well; what is of no meter of the new prices is not told."""
    small = Feature("small", meter_key="tokens", filters={"model": ("small",)})
    world.plane.put_feature(small)
    world.plane.put_feature(replace(small, key="new", filters={"model": ("new",)}))
    publish(world, phase(card("small")))
    world.plane.move_subscription(held.id, 2)
    publish(world, phase(card("small", dearer()), card("new")))
    world.clock.at = NOW + DAY
    with world.plane.changing() as changes:
        moved = changes.move_subscription(held.id, 3)
        assert changes.what_waits_on(moved) == ""
    for meter in ("other", "tokens"):
        assert world.rows(
            "insert into parked_events (source, id, reason, message, subject, customer_id, event_time, control_version,"
            f" raw, received_at, event_type, meter) select 's', '1', 'unpriced', '', 'acme', id, '{NOW + HOUR}', 1, '',"
            f" now(), 'prompt', '{meter}' from customers where key = 'acme' returning 1"
        ) == [(1,)]
    with world.plane.changing() as changes:
        assert changes.what_waits_on(moved) == (
            "usage of 1 event since 2026-03-11T01:00:00Z waits on, from before the version holds, and can't be rated"
            " any more, since the version changes more than new prices or its period is over"
        )


def test_a_move_is_taken_back_within_the_open_period_alone(world: World, held: Subscription) -> None:
    """What is over is not rated anew."""
    small = Feature("small", meter_key="tokens", filters={"model": ("small",)})
    world.plane.put_feature(small)
    world.plane.put_feature(replace(small, key="new", filters={"model": ("new",)}))
    publish(world, phase(card("small")))
    world.plane.move_subscription(held.id, 2)
    publish(world, phase(card("small"), card("new")))
    world.clock.at = START + 35 * DAY
    world.plane.move_subscription(held.id, 3)
    world.clock.at = START + 36 * DAY
    error = refused(world, held, 3, START + 30 * DAY)
    assert "expected an instant from 2026-04-01T00:00:00Z on, where the open period" in error.what
    moved = world.plane.move_subscription(held.id, 3, MoveTiming.THIS_BILLING_CYCLE)
    assert moved.holding_moves[-1].at == START + 31 * DAY


def test_fees_hold_from_any_instant_of_their_open_period(world: World, held: Subscription) -> None:
    """One that was charged stays, unless the move holds from where its period begins."""
    publish(world, phase(card("tokens"), card(None, Flat(D(5)))))
    publish(world, phase(card("tokens"), card(None, Flat(D(6)))))
    world.plane.move_subscription(held.id, 2, START + DAY)
    assert world.plane.move_subscription(held.id, 3, START + 2 * DAY).last_version == 3
    world.clock.at = START + 40 * DAY
    publish(world, phase(card("tokens")))
    assert "rate card `fee` begins" in refused(world, held, 4, START + 30 * DAY).what


def test_a_price_is_not_dropped_from_an_instant_that_has_passed(world: World, held: Subscription) -> None:
    """Usage since then was rated."""
    publish(world, phase(card(None, Flat(D(5)))))
    error = refused(world, held, 2, START)
    assert error.path == "at"
    assert error.what.startswith("expected an instant from now on, since the version has no rate card `tokens`")
    assert world.plane.move_subscription(held.id, 2).last_version == 2


AHEAD = NOW + 5 * DAY


@pytest.fixture
def planned(world: World, held: Subscription) -> Subscription:
    """The same, to be on version 2 in five days; there are four versions."""
    for amount in ("0.02", "0.03", "0.04"):
        publish(world, phase(card("tokens", dearer(amount))))
    return world.plane.move_subscription(held.id, 2, AHEAD)


TICK = timedelta(microseconds=1)


def versions(held: Subscription) -> list[tuple[datetime, int]]:
    """From when on a subscription is on which other version."""
    return [(step.at, step.plan_version) for step in held.steps]


@pytest.mark.parametrize(
    ("version", "at", "expected"),
    [
        (3, AHEAD, [(AHEAD, 3)]),
        (3, NOW, [(NOW, 3), (AHEAD, 2)]),
        (3, START, [(START, 3), (AHEAD, 2)]),
        (2, NOW, [(NOW, 2)]),
        (2, NOW + DAY, [(NOW + DAY, 2)]),
        (2, AHEAD + DAY, [(AHEAD + DAY, 2)]),
        (3, AHEAD + DAY, [(AHEAD, 2), (AHEAD + DAY, 3)]),
        (1, AHEAD + DAY, [(AHEAD, 2), (AHEAD + DAY, 1)]),
        (1, AHEAD, []),
        (1, NOW, [(AHEAD, 2)]),
    ],
)
def test_what_is_planned_is_a_calendar(
    world: World, planned: Subscription, version: int, at: datetime, expected: list[tuple[datetime, int]]
) -> None:
    """Another version takes the place of the one at its instant, the one that is planned may hold sooner or later."""
    world.clock.forward(hours=0)
    moved = world.plane.move_subscription(planned.id, version, at)
    assert versions(moved) == expected
    for number in range(200):
        instant = START + number * timedelta(hours=3)
        assert moved.version_at(instant) == next((v for since, v in reversed(expected) if since <= instant), 1)
    log = world.log()
    assert world.plane.move_subscription(planned.id, version, at) == moved
    assert world.log() == log


def test_what_is_planned_is_withdrawn(world: World, planned: Subscription) -> None:
    """All of it, once; and it can be planned anew."""
    world.plane.move_subscription(planned.id, 3, AHEAD + DAY)
    world.clock.forward(hours=1)
    withdrawn = world.plane.withdraw_moves(planned.id)
    assert (versions(withdrawn), withdrawn.last_version, withdrawn.planned_moves(NOW)) == ([], 1, ())
    log = world.log()
    assert world.plane.withdraw_moves(planned.id) == withdrawn
    assert world.log() == log
    assert versions(world.plane.move_subscription(planned.id, 2, AHEAD)) == [(AHEAD, 2)]
    world.clock.at = AHEAD
    assert versions(world.plane.withdraw_moves(planned.id)) == [(AHEAD, 2)]
    world.plane.cancel_subscription(planned.id)
    with pytest.raises(ControlError) as caught:
        world.plane.withdraw_moves(planned.id)
    assert caught.value.path == "id"


def test_who_subscribes_again_under_the_key_is_subscribed_already(world: World) -> None:
    """With the version that holds, or the one that is planned; withdrawn, that one is another subscription's."""
    publish(world, phase(card("tokens", dearer())))
    held = world.plane.subscribe("acme", "pro", version=1, active_from=START, key="main")
    world.clock.at = NOW
    planned = world.plane.move_subscription(held.id, 2, AHEAD)
    for version in (1, 2, None):
        assert world.plane.subscribe("acme", "pro", version=version, key="main") == planned
    withdrawn = world.plane.withdraw_moves(held.id)
    assert world.plane.subscribe("acme", "pro", version=1, key="main") == withdrawn
    assert world.plane.subscribe("acme", "pro", version=2, key="main").id != held.id


def test_a_move_that_is_at_hand_is_fixed(world: World, planned: Subscription) -> None:
    """Usage that is ahead of its arrival may count under it; what is planned beyond it can be changed."""
    world.clock.at = AHEAD - timedelta(minutes=9)
    error = refused(world, planned, 3, None)
    assert (error.path, error.hint) == ("at", "move the subscription again once it holds")
    assert error.what == (
        "expected the move to version 2 to lie 10 minutes ahead at least, as usage may be counted under it by now: it"
        " holds from 2026-03-16T00:00:00Z on"
    )
    with pytest.raises(ControlError):
        world.plane.withdraw_moves(planned.id)
    assert versions(world.plane.move_subscription(planned.id, 3, AHEAD + DAY)) == [(AHEAD, 2), (AHEAD + DAY, 3)]
    world.clock.at = AHEAD
    assert world.plane.move_subscription(planned.id, 4).version_at(AHEAD) == 4


def test_what_is_at_hand_follows_how_far_usage_may_be_ahead(world: World, planned: Subscription) -> None:
    """By five minutes more than that, which a change takes to be read at most."""
    far = timedelta(hours=2)
    with ControlPlane(world.stores.postgres_dsn, world.stores.redis_url, world.clock, far) as plane:
        for before, is_fixed in ((far + timedelta(minutes=5) - TICK, True), (far + timedelta(minutes=5), False)):
            world.clock.at = AHEAD - before
            with plane.changing() as changes:
                if not is_fixed:
                    assert versions(changes.withdraw_moves(planned.id)) == []
                    continue
                with pytest.raises(ControlError, match="to lie 125 minutes ahead"):
                    changes.withdraw_moves(planned.id)


def test_a_move_that_was_made_is_taken_back_beside_one_that_is_planned(world: World, held: Subscription) -> None:
    """What is planned stays; one that does not fit what leads to it is refused."""
    small = Feature("small", meter_key="tokens", filters={"model": ("small",)})
    world.plane.put_feature(small)
    world.plane.put_feature(replace(small, key="new", filters={"model": ("new",)}))
    publish(world, phase(card("small")))
    publish(world, phase(card("small"), card("new", dearer())))
    world.plane.move_subscription(held.id, 2)
    world.clock.at = NOW + DAY
    world.plane.move_subscription(held.id, 3)
    world.plane.move_subscription(held.id, 2, AHEAD)
    world.clock.at = NOW + 2 * DAY
    taken_back = world.plane.move_subscription(held.id, 3, NOW + HOUR)
    assert versions(taken_back) == [(NOW, 2), (NOW + HOUR, 3), (AHEAD, 2)]
    assert [taken_back.moves[place].at for place in taken_back.moves_taken_back] == [NOW + DAY]
    publish(world, phase(card("new", key="small")))
    error = refused(world, held, 4, None)
    assert (error.path, "with the feature `small`" in error.what) == ("version", True)
    assert "before an earlier" not in error.what
    assert "its move to version 3" in refused(world, held, 2, NOW).what


CHANGED: dict[str, tuple[Callable[[World], object], str]] = {
    "another cadence": (
        lambda world: publish(world, phase(card("tokens")), cadence="P1Y"),
        "expected one with the cadence `P1M` of version 1, got `P1Y`",
    ),
    "another cadence of a rate card": (
        lambda world: publish(world, Phase("default", (replace(card("tokens"), cadence="P1D"),))),
        "expected rate card `tokens` with the cadence `P1M` of version 1, got `P1D`",
    ),
    "another feature under a key": (
        lambda world: publish(world, phase(card("seats", Flat(D(1)), "tokens"))),
        "expected rate card `tokens` with the feature `tokens` of version 1, got `seats`",
    ),
    "a phase that began elsewhere": (
        lambda world: publish(world, phase(card("tokens"), key="trial", duration="P7D"), phase(card("tokens"))),
        "expected a version whose phase began at 2026-03-01T00:00:00Z, as `default` did in version 1, got `default`,"
        " which begins at 2026-03-08T00:00:00Z",
    ),
    "a plan that is over": (
        lambda world: publish(world, phase(card("tokens"), duration="P7D")),
        "expected a version with a phase at 2026-03-11T00:00:00Z, got 2, which is over by then",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_version_that_would_move_periods_is_refused(world: World, held: Subscription, name: str) -> None:
    """What was used of tiers could not go on; the error says what differs."""
    change, expected = CHANGED[name]
    change(world)
    error = refused(world, held, 2, None)
    assert (error.code, error.path, error.what) == ("conflict", "version", expected)


def test_another_currency_is_refused(world: World, held: Subscription) -> None:
    """What was charged could not be given back."""
    world.plane.publish_plan("pro", cadence="P1M", currency="EUR", phases=(phase(card("tokens", currency="EUR")),))
    assert refused(world, held, 2, None).what == "expected one with the currency `USD` of version 1, got `EUR`"


def test_a_move_is_within_the_subscription(world: World, held: Subscription) -> None:
    """From its start, before its end, and only of one that goes on."""
    publish(world, phase(card("tokens", dearer())))
    assert "from 2026-03-01T00:00:00Z on, when it begins" in refused(world, held, 2, START - HOUR).what
    world.plane.cancel_subscription(held.id, NOW + DAY)
    assert "before 2026-03-12T00:00:00Z, when it ends" in refused(world, held, 2, NOW + DAY).what
    world.clock.forward(days=2)
    assert refused(world, held, 2, None).path == "id"
    later = world.plane.subscribe("acme", "pro", version=1, active_from=NOW + 9 * DAY)
    assert world.plane.move_subscription(later.id, 2).moves[-1].at == NOW + 9 * DAY
    assert refused(world, held, 9, None).code == "conflict"
    assert refused(world, later, 9, None).path == "version"


# -- the catalog file ---------------------------------------------------------------------------

FILE = """
plans:
  - key: pro
    cadence: P1M
    rate_cards: [{feature: tokens, price: {type: unit, amount: 0.05}}]
customers:
  - key: acme
    subscription: {plan: pro, version: 2%s}
"""


def applied(world: World, text: str) -> tuple[str, str]:
    """What applying a file did about the subscription."""
    found = [change for change in apply(world.plane, read_catalog(text)) if change.kind == "subscription"]
    return found[0].action, found[0].detail


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", NOW),
        (", version_from: this_billing_cycle", START),
        (", version_from: 2026-03-01", START),
        (", version_from: next_billing_cycle", START + 31 * DAY),
        (", from: 2026-05-01", START + 61 * DAY),
        (", from: 2026-02-01", NOW),
    ],
)
@pytest.mark.parametrize("key", ["default", None])
def test_a_file_with_another_version_moves_the_subscription(
    world: World, key: str | None, words: str, expected: datetime
) -> None:
    """It goes on, whoever made it; applied again, nothing changes."""
    held = world.plane.subscribe("acme", "pro", active_from=START, key=key)
    world.clock.at = NOW
    told = "pro v2" if expected <= NOW else f"pro v1, then v2 from {instant_text(expected)} on"
    assert applied(world, FILE % words) == ("updated", f"{told}, was pro v1")
    (moved,) = world.plane.list_subscriptions("acme")
    assert (moved.id, moved.moves) == (held.id, (VersionMove(expected, 2, NOW),))
    log = world.log()
    world.clock.forward(hours=5)
    assert applied(world, FILE % words)[0] == "unchanged"
    assert world.log() == log


ADDS = """
plans:
  - key: pro
    cadence: P1M
    rate_cards: [{feature: old, price: {type: unit, amount: AMOUNT}}, {feature: new, price: {type: unit, amount: 1}}]
customers:
  - key: acme
    subscription: {plan: pro, version: 3%s}
"""


def test_a_file_takes_a_move_back_where_it_newly_says_from_when(world: World) -> None:
    """A file that moved the subscription too late is mended, once; said again, it changes nothing."""
    old = Feature("old", meter_key="tokens", filters={"model": ("old",)})
    world.plane.put_feature(old)
    world.plane.put_feature(replace(old, key="new", filters={"model": ("new",)}))
    publish(world, phase(card("old")))
    held = world.plane.subscribe("acme", "pro", active_from=START, key="default")
    world.clock.at = NOW
    added = ADDS.replace("AMOUNT", "0.01")
    assert applied(world, added % "") == ("updated", "pro v3, was pro v2")
    world.clock.forward(hours=1)
    said = added % ", version_from: this_billing_cycle"
    assert applied(world, said) == ("updated", "pro v3, from 2026-03-01T00:00:00Z on")
    (moved,) = world.plane.list_subscriptions("acme")
    assert (moved.id, moved.holding_moves) == (held.id, (VersionMove(START, 3, NOW + HOUR),))
    log = world.log()
    for days in (1, 40):
        world.clock.forward(days=days)
        assert applied(world, said)[0] == "unchanged"
    assert world.log() == log
    dearer = added.replace("0.01", "0.05").replace("version: 3", "version: 4")
    assert applied(world, dearer % "")[0] == "updated"
    with pytest.raises(ControlError) as caught:
        applied(world, dearer % f", version_from: {START.date() + 35 * DAY}")
    assert caught.value.path == "$.customers[0].subscription.version_from"
    assert "since the price of rate card `old` differs in versions 3 and 4" in caught.value.what


SAYS = """
customers:
  - key: acme
    subscription: {plan: pro%s}
"""
PLANNED = ", version: 2, version_from: next_billing_cycle"


WITHDRAWN = "; its move to v2 at 2026-04-01T00:00:00Z is withdrawn"


@pytest.mark.parametrize(
    ("says", "expected", "told"),
    [
        (", version: 1", [], f"pro v1{WITHDRAWN}"),
        (", version: 2", [(NOW, 2)], f"pro v2, was pro v1{WITHDRAWN}"),
        (", version: 2, version_from: this_billing_cycle", [(START, 2)], f"pro v2, was pro v1{WITHDRAWN}"),
        (
            ", version: 2, version_from: 2026-04-15",
            [(START + 45 * DAY, 2)],
            f"pro v1, then v2 from 2026-04-15T00:00:00Z on{WITHDRAWN}",
        ),
        (
            ", version: 3, version_from: next_billing_cycle",
            [(START + 31 * DAY, 3)],
            "pro v1, then v3 from 2026-04-01T00:00:00Z on",
        ),
        (", version: 3", [(NOW, 3)], "pro v3, was pro v1"),
    ],
)
def test_a_file_is_compared_with_what_holds_and_with_what_is_planned(
    world: World, held: Subscription, says: str, expected: list[tuple[datetime, int]], told: str
) -> None:
    """What it planned before and says no more is withdrawn; applied again, it changes nothing."""
    for amount in ("0.02", "0.03"):
        publish(world, phase(card("tokens", dearer(amount))))
    before = applied(world, SAYS % PLANNED)
    assert before == ("updated", "pro v1, then v2 from 2026-04-01T00:00:00Z on, was pro v1")
    log = world.log()
    assert applied(world, SAYS % PLANNED) == ("unchanged", "pro v1, then v2 from 2026-04-01T00:00:00Z on")
    assert world.log() == log
    action, detail = applied(world, SAYS % says)
    assert (action, detail.startswith(told)) == ("updated", True), detail
    (found,) = world.plane.list_subscriptions("acme")
    assert (found.id, versions(found)) == (held.id, expected)
    log = world.log()
    assert applied(world, SAYS % says)[0] == "unchanged"
    assert world.log() == log


def test_a_file_leaves_what_others_planned(world: World, planned: Subscription) -> None:
    """And tells it; a version that it newly says for now goes before it."""
    told = "pro v1, then v2 from 2026-03-16T00:00:00Z on; since 2026-03-01T00:00:00Z, by a change made elsewhere"
    assert applied(world, SAYS % ", version: 1") == ("unchanged", told)
    assert versions(world.plane.list_subscriptions("acme")[0]) == [(AHEAD, 2)]
    assert applied(world, SAYS % ", version: 3")[0] == "updated"
    assert versions(world.plane.list_subscriptions("acme")[0]) == [(NOW, 3), (AHEAD, 2)]
    assert applied(world, SAYS % ", version: 2, version_from: 2026-03-16")[0] == "unchanged"
    assert versions(world.plane.list_subscriptions("acme")[0]) == [(NOW, 3), (AHEAD, 2)]


def test_what_a_file_cannot_move_is_refused_with_its_place(world: World) -> None:
    """With the line, and the name of the field in the file."""
    world.plane.subscribe("acme", "pro", active_from=START, key="default")
    world.clock.at = NOW
    with pytest.raises(ControlError) as caught:
        apply(world.plane, read_catalog(FILE % ", version_from: 2026-03-02"))
    assert (caught.value.path, caught.value.line) == ("$.customers[0].subscription.version_from", 8)
    assert caught.value.hint == "name the period's start to rate it anew, or leave `version_from` out to move now"
    with pytest.raises(ControlError) as caught:
        apply(world.plane, read_catalog((FILE % "").replace("P1M", "P1Y")))
    assert caught.value.path == "$.customers[0].subscription.version"
    assert caught.value.hint.endswith("; under another key the file subscribes the customer anew")
    anew = (FILE % ", key: yearly").replace("P1M", "P1Y")
    assert applied(world, anew) == ("updated", "pro v2, was pro v1")
    assert len(world.plane.list_subscriptions("acme")) == 2


def test_a_file_on_its_own_knows_the_one_version_that_it_has() -> None:
    """It holds from where the subscription begins, so that a file that moves somebody can be rated with."""
    metered = "meters: [{key: calls, event_type: call, aggregation: COUNT}]\nfeatures: [{key: tokens, meter: calls}]"
    found = records(read_catalog(metered + FILE % ", version_from: 2026-03-05"), START)
    (held,) = [record for record in found if isinstance(record, Subscription)]
    assert (held.plan_version, held.moves) == (1, ())


@pytest.mark.parametrize("words", [", version_from: soon", ", version_from: 2026-13-01"])
def test_when_a_version_holds_is_an_instant_or_a_word_for_one(world: World, words: str) -> None:
    """Anything else is refused as the file is read."""
    with pytest.raises(ControlError) as caught:
        read_catalog(FILE % words)
    assert caught.value.path == "$.customers[0].subscription.version_from"
    assert "`this_billing_cycle`" in caught.value.what
    with pytest.raises(ControlError) as caught:
        read_catalog((FILE % ", version_from: immediate").replace("version: 2, ", ""))
    assert caught.value.path == "$.customers[0].subscription.version"
