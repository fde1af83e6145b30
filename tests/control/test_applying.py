"""A catalog file against all that may hold of a subscription: what it asks for is decided by what holds now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rating.catalog import SettlementMode, Subscription
from rating.prices import Unit
from tests.control.conftest import START, World
from tests.repeats import repeats
from tollway.catalog_file import Change, apply, read_catalog
from tollway.control import ControlCode, ControlError, goes_on, instant_text, never_was

D = Decimal
DAYS = timedelta(days=1)


def applied(world: World, subscription: str, customer: str = "globex") -> Change:
    """What applying a file with one customer did about its subscription."""
    text = f"customers: [{{key: {customer}, subscription: {{{subscription}}}}}]"
    return next(change for change in apply(world.plane, read_catalog(text)) if change.kind == "subscription")


def held(world: World, customer: str = "globex") -> list[Subscription]:
    """The customer's subscriptions, without those that never came to be."""
    return [one for one in world.plane.list_subscriptions(customer) if not never_was(one)]


def at(world: World, days: int) -> str:
    """An instant some days from now, as a file writes it."""
    return (world.clock.at + timedelta(days=days)).isoformat()


def shift(world: World, days: int) -> datetime:
    """The same, as an instant."""
    return world.clock.at + timedelta(days=days)


def cancel_and_subscribe(plan: str) -> Callable[[World, Subscription], object]:
    """Cancelled, and an hour later subscribed anew."""

    def elsewhere(world: World, one: Subscription) -> object:
        world.plane.cancel_subscription(one.id)
        world.clock.forward(hours=1)
        return world.plane.subscribe("globex", plan)

    return elsewhere


def cancel_and_plan(world: World, one: Subscription) -> object:
    """Cancelled, with a gap until another one begins."""
    world.plane.cancel_subscription(one.id)
    return world.plane.subscribe("globex", "basic", active_from=shift(world, 5))


# Each state is brought about after a file with `plan: pro` was applied, and a day went by.
STATES: dict[str, Callable[[World, Subscription], object]] = {
    "goes on": lambda world, one: one,
    "changed": lambda world, one: world.plane.change_subscription(one.id, "basic"),
    "change planned": lambda world, one: world.plane.change_subscription(one.id, "basic", shift(world, 5)),
    "cancelled": lambda world, one: world.plane.cancel_subscription(one.id),
    "cancelled for later": lambda world, one: world.plane.cancel_subscription(one.id, shift(world, 5)),
    "cancelled, subscribed to the same": cancel_and_subscribe("pro"),
    "cancelled, subscribed to another": cancel_and_subscribe("basic"),
    "cancelled, another is planned": cancel_and_plan,
}

TOLD = {
    "goes on": "pro v1",
    "changed": "basic v1 holds instead",
    "change planned": "it ends at 2026-03-07T02:00:00Z",
    "cancelled": "cancelled at 2026-03-02T02:00:00Z; to subscribe anew, give it another key",
    "cancelled for later": "it ends at 2026-03-07T02:00:00Z",
    "cancelled, subscribed to the same": "since 2026-03-02T03:00:00Z, by a change made elsewhere",
    "cancelled, subscribed to another": "basic v1 holds instead, from 2026-03-02T03:00:00Z",
    "cancelled, another is planned": "basic v1 holds instead, from 2026-03-07T02:00:00Z",
}


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "from before files were remembered"])
@pytest.mark.parametrize("state", STATES)
def test_an_unchanged_file_changes_nothing_whatever_became_of_the_subscription(
    world: World, state: str, remembered: bool
) -> None:
    """It is told what holds; no subscription is made and no fee due, now and after what was planned has come."""
    applied(world, "plan: pro")
    if not remembered:
        world.rows("delete from applied_subscriptions returning key")
    world.clock.forward(days=1)
    STATES[state](world, held(world)[0])
    before = world.log()
    change = applied(world, "plan: pro")
    assert change.action == "unchanged"
    assert TOLD[state] in change.detail
    assert applied(world, "plan: pro").action == "unchanged"
    world.clock.forward(days=30)
    assert applied(world, "plan: pro").action == "unchanged"
    assert world.log() == before


@pytest.mark.parametrize("state", STATES)
def test_a_changed_file_changes_what_holds(world: World, state: str) -> None:
    """There is one subscription to the plan of the file, however the one before came about; then nothing changes."""
    applied(world, "plan: pro")
    world.clock.forward(days=1)
    STATES[state](world, held(world)[0])
    planned = "planned" in state
    if planned:
        # What others planned stands in the way, and the error says so.
        with pytest.raises(ControlError, match="cancel that subscription first"):
            applied(world, "plan: third")
        world.clock.forward(days=6)
    change = applied(world, "plan: third")
    assert change.action == ("created" if state == "cancelled" else "updated")
    last = held(world)[-1]
    assert (last.plan_key, last.active_from, last.active_to) == ("third", world.clock.at, None)
    assert [one.active_to for one in held(world) if goes_on(one, world.clock.at)] == [None]
    log = world.log()
    world.clock.forward(days=1)
    assert applied(world, "plan: third").action == "unchanged"
    assert world.log() == log


@pytest.fixture(autouse=True)
def third(world: World) -> None:
    """A third plan."""
    phases = world.plane.plan("pro").phases
    world.plane.publish_plan("third", cadence="P1M", phases=phases)


def test_a_file_that_follows_what_was_changed_elsewhere_takes_it_over(world: World) -> None:
    """The subscription that the API made gets the file's key, and the next change is one of it."""
    applied(world, "plan: pro")
    world.clock.forward(days=1)
    made = world.plane.change_subscription(held(world)[0].id, "basic")
    log = world.log()
    assert applied(world, "plan: basic").action == "unchanged"
    assert world.log() == log
    assert world.rows(f"select key from subscriptions where id = '{made.id}'") == [("default",)]
    world.clock.forward(days=1)
    assert applied(world, "plan: pro").action == "updated"


def test_a_subscription_that_the_api_made_is_the_one_a_file_means(world: World) -> None:
    """With the same terms it is only given the key; with others it is changed, and keeps its anchor."""
    world.plane.put_customer("globex")
    first = world.plane.subscribe("globex", "pro")
    world.clock.forward(days=3)
    change = applied(world, "plan: pro")
    assert (change.action, "made elsewhere" in change.detail) == ("unchanged", True)
    assert held(world) == [first]
    assert applied(world, "plan: basic, key: other").action == "updated"
    second = held(world)[1]
    assert (second.active_from, second.anchor) == (world.clock.at, first.anchor)


def test_a_key_that_is_renamed_is_no_new_subscription(world: World) -> None:
    """What holds has the terms: only its key is another; the way back is the same."""
    applied(world, "plan: pro, key: a")
    log = world.log()
    for key in "bab":
        world.clock.forward(days=1)
        assert applied(world, f"plan: pro, key: {key}").action == "unchanged"
    assert world.log() == log


def test_what_was_cancelled_begins_anew_under_another_key(world: World) -> None:
    """As the file was told; its `from`, which has passed, has to go."""
    begin = world.clock.at.isoformat()
    applied(world, f"plan: pro, from: '{begin}'")
    world.clock.forward(days=1)
    world.plane.cancel_subscription(held(world)[0].id)
    world.clock.forward(days=1)
    assert applied(world, f"plan: pro, from: '{begin}'").detail.endswith("another key, and leave `from` out")
    with pytest.raises(ControlError) as caught:
        applied(world, f"plan: pro, key: again, from: '{begin}'")
    assert (caught.value.code, caught.value.path) == (ControlCode.CONFLICT, "$.customers[0].subscription.from")
    assert applied(world, "plan: pro, key: again").action == "created"
    assert held(world)[-1].anchor == world.clock.at


def test_a_start_of_the_past_holds_where_nothing_was_in_force_since(world: World) -> None:
    """For a first subscription, and for one after another has ended."""
    early = (world.clock.at - 9 * DAYS).isoformat()
    applied(world, f"plan: pro, from: '{early}'")
    assert held(world)[0].active_from == world.clock.at - 9 * DAYS
    world.plane.cancel_subscription(held(world)[0].id)
    ended = world.clock.at
    world.clock.forward(days=4)
    assert applied(world, f"plan: basic, from: '{ended.isoformat()}'").action == "created"
    assert held(world)[-1].active_from == ended


def test_a_start_of_before_one_that_has_begun_is_told_to_change_nothing(world: World) -> None:
    """The customer had no subscription then, and usage of then waits for good."""
    applied(world, "plan: pro")
    (before,) = held(world)
    early = world.clock.at - 9 * DAYS
    world.clock.forward(days=1)
    for key in ("default", "again"):
        change = applied(world, f"plan: pro, key: {key}, from: '{early.isoformat()}'")
        assert change.action == "unchanged"
        assert f"its `from` is {instant_text(before.active_from)} and stays so" in change.detail
        assert f"usage from {instant_text(early)} up to then is not rated" in change.detail
    assert "by a file, under the key `default`" in change.detail
    assert held(world) == [before]


def test_a_start_that_a_change_followed_is_no_news(world: World) -> None:
    """The customer has been subscribed since its `from`, by the subscription that was changed."""
    early = (world.clock.at - 9 * DAYS).isoformat()
    applied(world, f"plan: pro, from: '{early}'")
    world.clock.forward(days=1)
    applied(world, f"plan: basic, from: '{early}'")
    assert applied(world, f"plan: basic, from: '{early}'").detail == "basic v1"


OWN = """
meters: [{key: calls, event_type: call, aggregation: COUNT}]
features: [{key: called, meter: calls}]
plans: [{key: own, cadence: P1M, rate_cards: [{feature: called, price: {type: unit, amount: 1}}]}]
"""


def test_old_prices_that_a_file_publishes_again_are_told(world: World) -> None:
    """Another file said something else meanwhile; a name that was given meanwhile stays."""
    apply(world.plane, read_catalog(OWN))
    apply(
        world.plane,
        read_catalog(OWN.replace("key: calls,", "key: calls, name: Calls,").replace("amount: 1", "amount: 2")),
    )
    meter, feature, plan = apply(world.plane, read_catalog(OWN))
    assert (meter.action, feature.action, plan.action) == ("unchanged", "unchanged", "published v3")
    assert plan.detail == "as v1 was: who subscribes from now on no longer gets v2"


@pytest.mark.parametrize("remembered", [True, False])
def test_a_version_that_was_published_elsewhere_stays_the_newest(world: World, remembered: bool) -> None:
    """A file that says nothing new leaves it, and says so; it is published over on purpose, or by what is new."""
    apply(world.plane, read_catalog(OWN))
    if not remembered:
        world.rows("delete from applied_plans returning key")
    (phase,) = world.plane.plan("own").phases
    (card,) = phase.rate_cards
    dearer = replace(card, pricing=replace(card.pricing, price=Unit(D("0.50"))))
    world.plane.publish_plan("own", cadence="P1M", phases=(replace(phase, rate_cards=(dearer,)),))
    log = world.log()
    for _ in range(2):
        plan = apply(world.plane, read_catalog(OWN))[-1]
        assert (plan.action, plan.detail) == (
            "unchanged",
            "v2, published elsewhere, stays the newest; the file says what it said before: take the new prices over"
            " into the file, or publish its own with `--overwrite`",
        )
    assert world.log() == log
    taken_over = OWN.replace("amount: 1", "amount: 0.5")
    assert apply(world.plane, read_catalog(taken_over))[-1].action == "unchanged"
    assert apply(world.plane, read_catalog(OWN))[-1].action == "published v3"
    world.plane.publish_plan("own", cadence="P1M", phases=(replace(phase, rate_cards=(dearer,)),))
    assert apply(world.plane, read_catalog(OWN))[-1].action == "unchanged"
    assert apply(world.plane, read_catalog(OWN), overwrite=True)[-1].action == "published v5"
    assert apply(world.plane, read_catalog(OWN.replace("amount: 1", "amount: 3")))[-1].action == "published v6"


def test_what_a_file_planned_is_moved_and_withdrawn_by_the_file(world: World) -> None:
    """Sooner, later, and not at all: what was to end goes on, and no fee is due twice."""
    applied(world, "plan: pro")
    first = held(world)[0]
    assert applied(world, f"plan: basic, from: '{at(world, 5)}'").action == "updated"
    for days in (9, 2):
        change = applied(world, f"plan: basic, from: '{at(world, days)}'")
        assert change.action == "updated"
        assert [(one.plan_key, one.active_to) for one in held(world)] == [("pro", shift(world, days)), ("basic", None)]
        assert held(world)[1].anchor == first.anchor
    change = applied(world, "plan: pro")
    assert (change.action, change.detail) == ("updated", "pro v1; the change to basic v1 is withdrawn")
    assert held(world) == [first]
    assert applied(world, "plan: pro").action == "unchanged"


def test_what_has_not_begun_is_moved(world: World) -> None:
    """Where it follows none, to any instant; its own start is not kept as an anchor."""
    applied(world, f"plan: pro, from: '{at(world, 5)}'")
    for days in (8, 3):
        applied(world, f"plan: pro, from: '{at(world, days)}'")
        (one,) = held(world)
        assert (one.active_from, one.anchor, one.active_to) == (shift(world, days), shift(world, days), None)
    assert applied(world, "plan: pro").action == "unchanged"


def test_a_mode_that_a_file_no_longer_says_is_the_plans(world: World) -> None:
    """But of a subscription made elsewhere a file without a mode says nothing of it."""
    applied(world, "plan: pro, settlement_mode: credit_only")
    assert applied(world, "plan: pro").action == "updated"
    assert held(world)[-1].settlement_mode == "credit_then_invoice"
    world.plane.put_customer("initech")
    world.plane.subscribe("initech", "pro", settlement_mode=SettlementMode.CREDIT_ONLY)
    for _ in range(2):
        assert applied(world, "plan: pro", "initech").action == "unchanged"


def test_a_file_that_names_a_deleted_customer_is_refused(world: World) -> None:
    """With its place; nothing of the file is applied, and nobody is subscribed."""
    applied(world, "plan: pro")
    world.plane.cancel_subscription(held(world)[0].id)
    world.plane.delete_customer("globex")
    log = world.log()
    with pytest.raises(ControlError) as caught:
        apply(
            world.plane,
            read_catalog("customers:\n  - {key: initech}\n  - key: globex\n    subscription: {plan: pro}\n"),
        )
    assert (caught.value.code, caught.value.path, caught.value.line) == ("conflict", "$.customers[1].key", 3)
    assert "deleted at 2026-03-01T02:00:00Z" in caught.value.what
    assert world.log() == log


def test_what_a_file_leaves_out_of_a_customer_stays_as_others_set_it(world: World) -> None:
    """Its subjects above all, whose usage would be nobody's; what the file says is so again."""
    plane = world.plane
    apply(plane, read_catalog("customers: [{key: globex, name: Globex, subjects: [a]}]"))
    bare, named = "customers: [{key: globex}]", "customers: [{key: globex, name: Globex, subjects: [a]}]"
    made = plane.put_customer(
        "globex",
        name="G",
        currency="EUR",
        subjects=("a", "b"),
        block_when_exhausted=True,
        low_balance_thresholds=(D(5),),
    )
    log = world.log()
    assert [change.action for change in apply(plane, read_catalog(bare))] == ["unchanged"]
    assert world.log() == log
    apply(plane, read_catalog(named))
    wanted = replace(made, name="Globex", subjects=("a",))
    assert plane.customer("globex") == wanted
    apply(plane, read_catalog("customers: [{key: globex, subjects: [], low_balance_thresholds: []}]"))
    assert plane.customer("globex") == replace(wanted, subjects=(), low_balance_thresholds=())
    apply(plane, read_catalog("customers: [{key: initech, subjects: [c]}, {key: hooli}]"))
    apply(plane, read_catalog("customers: [{key: initech}, {key: hooli, subjects: [c]}]"))
    assert (plane.customer("initech").subjects, plane.customer("hooli").subjects) == ((), ("c",))


# -- the law ------------------------------------------------------------------------------------

FILES = (
    "plan: pro",
    "plan: basic",
    "plan: pro, version: 1, settlement_mode: credit_only",
    "plan: basic, from: '2026-03-04T00:00:00Z'",
    "plan: pro, from: '2026-03-06T12:00:00Z'",
    "plan: pro, key: other",
    "plan: third, anchor: '2026-02-15T00:00:00Z'",
)
ACTIONS = st.one_of(
    st.tuples(st.just("apply"), st.integers(0, len(FILES) - 1)),
    st.tuples(st.just("again"), st.just(0)),
    st.tuples(st.sampled_from(["change", "cancel", "subscribe", "restore"]), st.integers(-1, 5)),
    st.tuples(st.just("wait"), st.integers(1, 50)),
)
numbers = count()


def act(world: World, name: str, action: str, days: int) -> None:
    """What the API may do; what it refuses changes nothing."""
    moment = None if days < 0 else shift(world, days)
    last = world.plane.list_subscriptions(name)[-1:]
    try:
        match action:
            case "wait":
                world.clock.forward(hours=days)
            case "subscribe":
                world.plane.subscribe(name, "basic", active_from=moment)
            case "change" if last:
                world.plane.change_subscription(last[0].id, "third", moment)
            case "cancel" if last:
                world.plane.cancel_subscription(last[0].id, moment)
            case "restore" if last:
                world.plane.restore_subscription(last[0].id)
    except ControlError:
        pass


def check_one_at_a_time(subscriptions: list[Subscription]) -> None:
    """No two subscriptions are in force at one instant."""
    real = sorted((one for one in subscriptions if not never_was(one)), key=lambda one: one.active_from)
    for one, following in pairwise(real):
        assert one.active_to is not None
        assert one.active_to <= following.active_from


@settings(max_examples=repeats(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, min_size=2, max_size=12))
def test_a_file_changes_nothing_unless_it_says_something_new(world: World, actions: list[tuple[str, int]]) -> None:
    """Applied twice is applied once; said before, it makes nothing, whatever the API did meanwhile."""
    world.clock.at = START
    name = f"c_{next(numbers)}"
    world.plane.put_customer(name)
    last_said: dict[str, int] = {}
    latest = 0

    for action, number in actions:
        if action not in ("apply", "again"):
            act(world, name, action, number)
            continue
        latest = number if action == "apply" else latest
        key = "other" if "key:" in FILES[latest] else "default"
        before = world.plane.head()
        try:
            applied(world, FILES[latest], name)
        except ControlError:
            assert world.plane.head() == before
            assert last_said.get(key) != latest
            continue
        if last_said.get(key) == latest:
            assert world.plane.head() == before
        last_said[key] = latest
        once = world.plane.head()
        assert applied(world, FILES[latest], name).action == "unchanged"
        assert world.plane.head() == once
    check_one_at_a_time(world.plane.list_subscriptions(name))
