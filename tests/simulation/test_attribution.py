"""Which meter and period usage goes to: boundaries inside a window, parts of events, and lanes that agree."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import rating.intake
from rating.catalog import FeatureSet, MeterSet, Phase, Record, SettlementMode, Subscription, VersionMove, key_group
from rating.lanes import Lane
from rating.meters import Aggregation, Feature, Meter
from rating.outcome import Outcome
from rating.prices import Graduated, Pricing, Tier
from rating.refusals import ParkCode
from rating.time_rules import TimeRules
from tests.simulation.settling import (
    DAY,
    HOUR,
    ID,
    World,
    card,
    customer,
    event,
    grant,
    metered,
    plan,
    subscription,
    unit,
)
from tests.world import START, line

D = Decimal
INVOICE = SettlementMode.CREDIT_THEN_INVOICE
MIDDLE = START + timedelta(minutes=30, microseconds=1)
"""An instant that is on no window's edge."""
TICK = timedelta(microseconds=1)


def world_at(now: Any, *records: Record, **rules: Any) -> World:
    world = World(rules=TimeRules(**rules))
    world.now = now
    world.apply(*records)
    return world


def used(world: World) -> dict[Any, Decimal]:
    """By subscription, rate card and start of the period, what was used."""
    found: dict[Any, Decimal] = {}
    for row in world.charges.values():
        key = (row.subscription_id, row.card_key, row.period_start)
        found[key] = found.get(key, D(0)) + row.quantity
    return found


# -- boundaries inside a window -------------------------------------------------------------------


def around(instant: Any) -> list[dict[str, Any]]:
    """Usage of 1, 2, 4, 8 and 16: long before, just before, at, just after, and later in the same window."""
    ats = [instant - timedelta(minutes=5), instant - TICK, instant, instant + TICK, instant + timedelta(minutes=5)]
    return [event(str(number), "a", 2**number, at) for number, at in enumerate(ats)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_a_period_that_changes_inside_a_window_parts_its_usage(order: tuple[int, ...]) -> None:
    """Each event is rated in the period of its time, whichever came first, with the tiers of that period."""
    pricing = Pricing(Graduated(tiers=(Tier(D(3), D(0)), Tier(None, D(1)))), "USD")
    first = subscription(INVOICE, start=MIDDLE - 31 * DAY, anchor=MIDDLE)
    world = world_at(START + HOUR, *metered("a"), plan(card("a", pricing)), customer(), first)
    events = around(MIDDLE)
    for place in order:
        world.fold(events[place])
    world.beat()
    sums = {row.period_start: D(0) for row in world.charges.values()}
    for row in world.charges.values():
        sums[row.period_start] += row.amount
    assert set(used(world).values()) == {3, 28}
    assert sorted(sums.values()) == [0, 25]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_a_subscription_that_begins_or_ends_inside_a_window_takes_only_its_own(order: tuple[int, ...]) -> None:
    """What was used before it began, or from its end on, waits."""
    begun = subscription(INVOICE, start=MIDDLE)
    world = world_at(START + HOUR, *metered("a"), plan(card("a")), customer(), begun)
    for place in order:
        world.fold(around(MIDDLE)[place])
    world.beat()
    assert used(world) == {("s1", "a", MIDDLE): 28}
    ended = subscription(INVOICE, start=START - DAY, end=MIDDLE)
    world = world_at(START + HOUR, *metered("a"), plan(card("a")), customer(), ended)
    for place in order:
        world.fold(around(MIDDLE)[place])
    world.beat()
    assert [*used(world).values()] == [3]
    assert world.ended["parked", "no_subscription"] == 3


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_a_phase_or_a_plan_that_changes_inside_a_window_parts_its_usage(order: tuple[int, ...]) -> None:
    """Each event is priced by the phase, and by the plan, that holds at its time."""
    phases = (Phase("trial", (card("a", unit("0")),), "PT30M"), Phase("paid", (card("a", unit("1")),)))
    start = MIDDLE - timedelta(minutes=30)
    world = world_at(START + HOUR, *metered("a"), plan(phases=phases), customer(), subscription(INVOICE, start=start))
    for place in order:
        world.fold(around(MIDDLE)[place])
    world.beat()
    assert world.balance.charged == 28
    plans = [plan(card("a", unit("1")), key="one"), plan(card("a", unit("100")), key="two")]
    one = subscription(INVOICE, start=START - DAY, end=MIDDLE, plan_key="one")
    two = subscription(INVOICE, start=MIDDLE, name="s2", plan_key="two")
    world = world_at(START + HOUR, *metered("a"), *plans, customer(), one, two)
    for place in order:
        world.fold(around(MIDDLE)[place])
    world.beat()
    assert world.balance.charged == 2803


def test_a_cancellation_closes_the_lanes_that_reach_beyond_it() -> None:
    """The end of a subscription that becomes known while usage gathers bounds what gathers after."""
    held = subscription(INVOICE)
    world = world_at(MIDDLE, *metered("a"), plan(card("a")), customer(), held)
    world.fold(event("1", "a", 1, MIDDLE - TICK))
    world.fold(event("2", "a", 2, MIDDLE - TICK))
    world.apply(replace(held, active_to=MIDDLE))
    world.fold(event("3", "a", 4, MIDDLE - TICK), event("4", "a", 8, MIDDLE), event("5", "a", 16, MIDDLE + TICK))
    world.beat()
    assert world.balance.charged == 7
    assert world.ended["parked", "no_subscription"] == 2


# -- lanes agree with the slow way ----------------------------------------------------------------


def test_a_lane_that_is_wrong_is_found_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check now and then finds a fold that does not belong to its lane; the event goes the slow way."""
    monkeypatch.setattr(rating.intake, "LANE_CHECK_EVENTS", 2)
    whole = Lane.__init__

    def unbounded(
        self: Any, subject: Any, kind: Any, account: Any, meter: Any, part: Any, _span: Any, *more: Any
    ) -> None:
        whole(self, subject, kind, account, meter, part, (part.start, part.end), *more)

    monkeypatch.setattr(Lane, "__init__", unbounded)
    ended = subscription(INVOICE, start=START, end=MIDDLE)
    world = world_at(START + HOUR, *metered("a"), plan(card("a")), customer(), ended)
    world.fold(event("1", "a", 1, MIDDLE - TICK))
    out = world.fold(event("2", "a", 2, MIDDLE - TICK), event("3", "a", 4, MIDDLE))
    assert out.wrong_lanes == 0
    out = world.fold(event("4", "a", 8, MIDDLE), event("5", "a", 16, MIDDLE - TICK))
    world.beat()
    assert out.wrong_lanes == 1
    assert out.ended == {("rated", ""): 1, ("parked", "no_subscription"): 1}


KINDS = st.sampled_from(["a", "b", "both"])
INSTANTS = st.sampled_from(
    [MIDDLE + offset for offset in (-HOUR, -timedelta(minutes=1), -TICK, TICK * 0, TICK, timedelta(minutes=2), HOUR)]
)


@given(
    st.lists(st.tuples(KINDS, INSTANTS, st.integers(0, 9)), max_size=30),
    st.lists(st.integers(1, 5), min_size=1, max_size=10),
    st.sampled_from([60, 3600]),
)
def test_lanes_on_and_lanes_off_give_the_same_rows(
    events: list[tuple[str, Any, int]], cuts: list[int], window: int
) -> None:
    """Whatever comes in whatever batches, with periods, phases and grants that change inside a window."""
    phases = (Phase("trial", (card("a", unit("0.5")),), "PT1H"), Phase("paid", (card("a"), card("b"), card("both"))))
    held = subscription(start=MIDDLE - HOUR, anchor=MIDDLE + timedelta(minutes=1))
    grants = [grant("g1", 5, MIDDLE - HOUR, MIDDLE), grant("g2", 10, MIDDLE - HOUR, MIDDLE + timedelta(minutes=2))]
    records = [*metered("a"), *metered("b"), *metered("both"), plan(phases=phases), customer(), held, *grants]
    rows = []
    for lanes in (True, False):
        world = world_at(START + 3 * HOUR, *records, window_seconds=window, with_lanes=lanes)
        place = 0
        for number, (kind, at, amount) in enumerate(events):
            world.fold(event(str(number), kind, amount, at))
            if place < len(cuts) and number % cuts[place] == 0:
                world.beat()
                place += 1
        world.beat()
        rows.append((world.charges, world.ended, {key: row[:-1] for key, row in world.balances.items()}))
    assert rows[0] == rows[1]


# -- parts of events ------------------------------------------------------------------------------


def models(*features: Feature) -> list[Record]:
    """Requests are counted, and tokens told apart by model and region."""
    return [
        MeterSet(Meter("requests", "llm", Aggregation.COUNT)),
        MeterSet(Meter("tokens", "llm", Aggregation.SUM, "$.n", {"model": "$.model", "region": "$.region"})),
        FeatureSet(Feature("requests", meter_key="requests")),
        *map(FeatureSet, features),
        plan(card("requests"), *(card(feature.key) for feature in features)),
        customer(),
        subscription(INVOICE),
    ]


SMALL = Feature("small", meter_key="tokens", filters={"model": ("small", "mini")})
LARGE = Feature("large", meter_key="tokens", filters={"model": ("large",), "region": ("eu",)})
OTHERS = Feature("others", meter_key="tokens", others=True)


def llm(name: str, amount: object, **data: object) -> dict[str, Any]:
    return event(name, "llm", 0, START) | {"data": {"n": amount, **data}}


def test_usage_that_no_feature_prices_is_kept_beside_the_rated_event() -> None:
    """It is told by meter, with its dimension values and how much; what is no usage is not told."""
    world = world_at(START, *models(SMALL, LARGE))
    out = world.fold(
        llm("1", 7, model="small"),
        llm("2", 5_000_000, model="new", region="us"),
        llm("3", 3, model="large", region="us"),
        llm("4", "2.5"),
        llm("5", 0, model="new"),
        event("6", "llm", 0, START) | {"data": {"model": "new"}},
    )
    world.beat()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {"requests": 6, "small": 7}
    assert [(one.code, one.id, one.meter, one.dimensions, one.quantity) for one in out.parked] == [
        (ParkCode.UNPRICED, "2", "tokens", {"model": "new", "region": "us"}, 5_000_000),
        (ParkCode.UNPRICED, "3", "tokens", {"model": "large", "region": "us"}, 3),
        (ParkCode.UNPRICED, "4", "tokens", {}, D("2.5")),
    ]
    assert not out.rejected
    assert world.ended == {("rated", ""): 6}


def test_usage_that_no_feature_prices_may_be_all_that_an_event_has() -> None:
    """It waits by meter all the same; the event is rated, so a copy is a duplicate; a price counts it once."""
    records = [*models(SMALL)]
    records[-3] = plan(card("small"))
    world = world_at(START, *records)
    waiting = llm("1", 5, model="new")
    out = world.fold(waiting, llm("2", 0, model="new"))
    assert [(one.code, one.meter, one.dimensions, one.quantity) for one in out.parked] == [
        (ParkCode.UNPRICED, "tokens", {"model": "new"}, 5),
        (ParkCode.NO_FEATURE, "", {}, None),
    ]
    assert world.ended == {("rated", ""): 1, ("parked", "no_feature"): 1}
    assert "of meter `tokens`" in out.parked[0].message
    world.restart()
    world.use(waiting)
    assert world.ended["duplicate", ""] == 1
    again = lambda out: world.group.fold(line(waiting), START, world.now, out, False, "tokens")  # noqa: E731
    priced = replace(plan(card("small"), card("others")), version=2)
    world.apply(FeatureSet(OTHERS), priced, replace(subscription(INVOICE), plan_version=2))
    world._do(again)
    world._do(again)
    world.beat()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {"others": 5}
    assert world.ended["duplicate", ""] == 2
    assert world.balance.charged == 5


def test_a_feature_may_take_all_others() -> None:
    """It takes what no other feature of the plan takes, as its own filters let it pass, and nothing else."""
    europe = replace(OTHERS, key="europe", filters={"region": ("eu",)})
    world = world_at(START, *models(SMALL, LARGE, OTHERS))
    out = world.fold(
        llm("1", 1, model="small"), llm("2", 2, model="large", region="us"), llm("3", 4), llm("4", 8, model="x")
    )
    world.beat()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {
        "requests": 4, "small": 1, "others": 14,
    }  # fmt: skip
    assert not out.parked
    world = world_at(START, *models(SMALL, europe))
    out = world.fold(llm("1", 1, model="small", region="eu"), llm("2", 2, region="eu"), llm("3", 4, model="x"))
    world.beat()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {
        "requests": 3, "small": 1, "europe": 2,
    }  # fmt: skip
    assert [one.id for one in out.parked] == ["3"]


def test_a_plan_with_only_a_feature_for_all_others_prices_everything() -> None:
    """Where there are no others, it takes all, by the fast way too."""
    records = [*models(OTHERS)]
    records[-3] = plan(card("others"))
    world = world_at(START, *records)
    world.use(*(llm(str(number), number, model=str(number)) for number in range(5)))
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {"others": 10}


def test_a_part_that_is_driven_again_counts_once_and_alone() -> None:
    """Once a price holds, only the usage that waited is counted: the rest was."""
    world = world_at(START, *models(SMALL))
    waiting = llm("1", 5, model="new")
    world.use(waiting)
    again = lambda out: world.group.fold(line(waiting), START, world.now, out, False, "tokens")  # noqa: E731
    out = world._do(again)
    assert [(one.code, one.meter) for one in out.parked] == [(ParkCode.UNPRICED, "tokens")]
    priced = replace(plan(card("requests"), card("small"), card("others")), version=2)
    world.apply(FeatureSet(OTHERS), priced, replace(subscription(INVOICE), plan_version=2))
    world._do(again)
    world._do(again)
    world.beat()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {"requests": 1, "others": 5}
    assert world.ended["duplicate", ""] == 1


def test_a_card_whose_period_has_closed_does_not_hold_up_the_others() -> None:
    """Only the usage of the feature whose period has closed waits; a filter that lets nothing pass holds up nothing."""
    daily = card("small", cadence="P1D")
    records = [*models(SMALL)]
    records[-3] = plan(card("requests"), daily)
    world = world_at(START, *records, grace=HOUR)
    world.beat(START + 2 * DAY)
    out = world.fold(llm("1", 5, model="small"), llm("2", 5, model="large"))
    world.beat()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {"requests": 2}
    assert [(one.code, one.id, one.meter) for one in out.parked] == [
        (ParkCode.PERIOD_CLOSED, "1", "tokens"),
        (ParkCode.UNPRICED, "2", "tokens"),
    ]
    assert world.ended == {("rated", ""): 2}
    out = Outcome()
    world.group.fold(line(llm("1", 5, model="small")), world.now, world.now, out)
    assert out.ended == {("duplicate", ""): 1}


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9000-01-01T00:00:00Z"])
def test_an_event_of_no_age_to_be_rated_is_rejected(time: str) -> None:
    """Of the years before 1970 and from 9000 on, whoever sent it: no store has to hold them."""
    world = world_at(START, *metered("a"), plan(card("a")), customer(), subscription(INVOICE))
    out = world.fold(event("1", "a", 1, START) | {"time": time}, event("2", "a", 1, START, "nobody") | {"time": time})
    assert out.ended == {("rejected", "invalid_envelope"): 2}
    assert {one.path for one in out.rejected} == {"$.time"}


OTHER = next(name for name in map("other-{}".format, range(1000)) if key_group(name) == key_group(ID))
"""A customer of the same key group."""


def two_customers(*subjects: str) -> World:
    """Both without credits, the first with subjects besides its key."""
    return World(
        *metered("a"),
        plan(card("a")),
        customer(subjects, recorded_at=START),
        customer(customer_id=OTHER, key="d", recorded_at=START),
        subscription(INVOICE),
        subscription(INVOICE, customer_id=OTHER, name="s2"),
    )


def test_a_grant_closes_no_lane_but_its_customers() -> None:
    """What one customer buys leaves the usage of all others where it gathers."""
    world = two_customers()
    ours, theirs = world.group.accounts[ID], world.group.accounts[OTHER]
    world.fold(event("1", "a", 1, START), event("2", "a", 2, START, subject="d"))
    lanes = world.group.lanes
    gathering = lanes.of(theirs)[0]
    world.apply(grant("g", 5))
    assert lanes.of(theirs) == [gathering]
    assert not lanes.of(ours)
    world.use(event("3", "a", 4, START), event("4", "a", 8, START, subject="d"))
    assert lanes.of(theirs) == [gathering]
    assert world.balance.consumed == 5
    assert world.balances[OTHER].charged == 10


def test_a_subject_that_moves_closes_its_lanes_whoever_had_it() -> None:
    """The record of who takes a subject is enough, though who had it says nothing."""
    world = two_customers("moving")
    world.beat(START + HOUR)
    world.fold(event("1", "a", 1, START + HOUR, subject="moving"))
    assert len(world.group.lanes.of(world.group.accounts[ID])) == 1
    world.beat(START + 2 * HOUR)
    world.apply(customer(("moving",), customer_id=OTHER, key="d", recorded_at=START + 2 * HOUR))
    world.use(event("2", "a", 2, START + 2 * HOUR, subject="moving"))
    assert world.balances[ID].charged == 1
    assert world.balances[OTHER].charged == 2


# -- what was known when usage arrived --------------------------------------------------------------


def after(held: Subscription, change: str, now: datetime) -> list[Subscription]:
    """The records of a change that is made at an instant."""
    ended = replace(held, active_to=now, end_recorded_at=now)
    other = subscription(INVOICE, start=now, name="s2", plan_key="other", anchor=held.anchor)
    moved = replace(held, moves=(VersionMove(now, 2, now),))
    planned = replace(held, moves=(VersionMove(now + timedelta(seconds=100), 2, now),))
    return {"ended": [ended], "changed": [ended, other], "moved": [moved], "planned": [planned]}[change]


@pytest.mark.parametrize("change", ["ended", "changed", "moved", "planned"])
@pytest.mark.parametrize("boundary", [None, timedelta(seconds=90)])
def test_usage_ahead_of_its_arrival_counts_by_what_was_known_then(change: str, boundary: timedelta | None) -> None:
    """
    A change that becomes known after it does not concern it, live and in a replay.

    A billing period that begins in between does: it was known.
    """
    arrived, changed = MIDDLE, MIDDLE + timedelta(seconds=3)
    held = subscription(INVOICE, start=START - DAY, anchor=START - DAY if boundary is None else MIDDLE + boundary)
    plans = [
        plan(card("a", unit("1"))),
        replace(plan(card("a", unit("5"))), version=2),
        plan(card("a", unit("100")), key="other"),
    ]
    setup = [*metered("a"), *plans, customer()]
    ahead = [event("1", "a", 10, arrived - timedelta(minutes=10)), event("2", "a", 3, arrived + timedelta(seconds=200))]
    later = [event("3", "a", 2, changed + timedelta(seconds=1)), event("4", "a", 1, arrived - timedelta(minutes=20))]
    live = world_at(arrived - timedelta(minutes=30), *setup, held)
    live.beat(arrived)
    live.use(*ahead)
    live.beat(changed)
    live.apply(*after(held, change, changed))
    live.beat(changed + timedelta(seconds=2))
    live.use(*later)
    live.beat(changed + 40 * DAY)
    again = world_at(arrived - timedelta(minutes=30), *setup, held, *after(held, change, changed))
    again.now = changed + timedelta(seconds=2)
    again.use(*ahead, received=arrived)
    again.use(*later)
    again.beat(changed + 40 * DAY)
    assert again.ended == live.ended
    assert used(again) == used(live)
    assert again.balance.charged == live.balance.charged
    charged = {"ended": 11, "changed": 211, "moved": 21, "planned": 13}[change]
    # A period that begins after the change is priced as it has it, or never is.
    ahead_at = {"ended": 0, "changed": 0, "moved": 5, "planned": 1}[change] if boundary is not None else 1
    assert live.balance.charged == charged + 3 * ahead_at


def test_usage_that_nothing_was_known_of_counts_by_what_became_known() -> None:
    """An event ahead of its arrival that waited for a subscription is rated once there is one."""
    held = replace(subscription(INVOICE, start=START), recorded_at=MIDDLE)
    world = world_at(MIDDLE, *metered("a"), plan(card("a")), customer(), held)
    world.use(event("1", "a", 7, MIDDLE + timedelta(seconds=20)), received=MIDDLE - TICK)
    assert world.balance.charged == 7


def test_a_grant_pays_from_when_it_was_made_on_in_a_replay_too() -> None:
    """
    A log that is read again, with all that is known now, lets each grant pay what it paid the first time.

    A grant that was made later, in force from the past, pays what is still uncovered, and not what others had paid.
    """
    held = subscription(INVOICE, start=START - DAY)
    first = replace(grant("g1", 15, START - DAY), created_at=START - DAY)
    late = replace(grant("g2", 100, START - DAY, START + 2 * DAY, priority=1), created_at=START + HOUR)
    gone = replace(grant("g3", 50, START - DAY, START + timedelta(minutes=10)), created_at=START + 2 * HOUR)
    setup = [*metered("a"), plan(card("a")), customer(), held, first]
    usage = [event("1", "a", 10, START + timedelta(minutes=1)), event("2", "a", 7, START + timedelta(minutes=20))]
    then = event("3", "a", 4, START + 3 * HOUR)
    live = world_at(START - DAY, *setup)
    live.beat(START + timedelta(minutes=30))
    live.use(*usage)
    live.beat(START + HOUR)
    live.apply(late)
    live.beat(START + 2 * HOUR)
    live.apply(gone)
    live.beat(START + 3 * HOUR)
    live.use(then)
    live.beat(START + 3 * DAY)
    assert live.paid() == {"g1": 15, "g2": 6}
    again = world_at(START - DAY)
    again.record(*setup, late, gone)
    again.now = START + 3 * DAY
    again._do(lambda out: again.group.resume(START - DAY, out))
    again.use(*usage, received=START + timedelta(minutes=30))
    again.use(then, received=START + 3 * HOUR)
    assert again.paid() == live.paid()
    assert again.balance[:-2] == live.balance[:-2]


def test_a_log_that_is_read_again_counts_what_had_waited_once() -> None:
    """The price is there from the beginning then, and what was driven again for it is a duplicate."""
    waiting = llm("1", 5, model="new")
    world = world_at(START, *models(SMALL, OTHERS))
    world.use(waiting, llm("2", 7, model="small"))
    for _ in range(2):
        world._do(lambda out: world.group.fold(line(waiting), START, world.now, out, False, "tokens"))
        world.beat()
        world.restart()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {
        "requests": 2, "others": 5, "small": 7,
    }  # fmt: skip
    assert world.ended == {("rated", ""): 2, ("duplicate", ""): 2}


def test_what_waits_is_counted_over_a_restart() -> None:
    """That usage of a meter waits is remembered with the ids."""
    waiting = llm("1", 5, model="new")
    world = world_at(START, *models(SMALL))
    world.use(waiting)
    world.restart()
    priced = replace(plan(card("requests"), card("small"), card("others")), version=2)
    world.apply(FeatureSet(OTHERS), priced, replace(subscription(INVOICE), plan_version=2))
    for _ in range(2):
        world._do(lambda out: world.group.fold(line(waiting), START, world.now, out, False, "tokens"))
        world.restart()
    assert {row.feature_key: row.quantity for row in world.charges.values()} == {"requests": 1, "others": 5}
