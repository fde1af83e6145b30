"""What left the state comes back: windows for a grant that became known late, periods for usage received in time."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rating.catalog import Grant, Record, SettlementMode, VersionMove
from rating.group import KeyGroup
from rating.meters import Aggregation
from rating.money import ZERO
from rating.outcome import ChargeRow, Outcome
from rating.prices import Pricing, Unit
from rating.time_rules import TimeRules
from rating.usage import PeriodKey
from tests.repeats import repeats
from tests.simulation.settling import DAY, HOUR, ID, World, card, customer, event, grant, metered, plan, subscription
from tests.simulation.test_settle_laws import grants, streams, worlds
from tests.world import START

D = Decimal
APRIL = START + 31 * DAY
INVOICE = SettlementMode.CREDIT_THEN_INVOICE


class Ledger(World):
    """A world whose ledger has what was told when it is asked to, and loses what a crash undoes."""

    lags = False

    def __init__(self, *records: Record, **rules: Any) -> None:
        self.ledger: dict[tuple[Any, ...], tuple[int, ChargeRow]] = {}
        self.commits = 1
        self.asked = 0
        super().__init__(*records, rules=TimeRules(**rules))
        self.safe = self.group.snapshot()

    def _open(self, snapshot: bytes | None) -> KeyGroup:
        return KeyGroup(self.number, self.catalog, self.rules, snapshot, load_windows=self.load)

    def load(self, customer_id: str, key: PeriodKey) -> list[ChargeRow]:
        self.asked += 1
        return [row for _, row in self.ledger.values() if row[:4] == (customer_id, *key) and not self.lags]

    def _do(self, work: Any) -> Outcome:
        out = super()._do(work)
        self.ledger.update((row[:5], (self.commits, row)) for row in out.charges)
        return out

    def epochs(self) -> Outcome:
        """Epochs end only when they are asked to."""
        return self.out

    def epoch(self) -> None:
        """An epoch ends: what was told is committed, and so is the state."""
        self.safe = self.group.snapshot()
        self.commits += 1

    def crash(self) -> None:
        """Rows since the last epoch are gone, and the state is what it was then."""
        self.ledger = {key: found for key, found in self.ledger.items() if found[0] < self.commits}
        self.charges = {key: row for key, (_, row) in self.ledger.items()}
        self.balances.clear()
        self.group = self._open(self.safe)
        self._do(lambda out: self.group.resume(self.now, out))

    def settle(self) -> None:
        """Let epochs end until nothing waits for one."""
        for _ in range(5):
            self.epoch()
            self.beat()


def ten_hours(**rules: Any) -> Ledger:
    """Ten hours of usage at 1 each, nothing of it paid for."""
    world = Ledger(*metered("a"), plan(card("a")), customer(), subscription(INVOICE), **rules)
    for hour in range(10):
        world.beat(START + hour * HOUR)
        world.use(event(str(hour), "a", 1, world.now))
    return world


def uncovered(world: World) -> list[int]:
    return [int(row.uncovered) for _, row in sorted(world.charges.items(), key=lambda found: found[0][4])]


# -- grants that become known late --------------------------------------------------------------


def test_a_grant_that_became_known_late_pays_for_the_windows_of_its_time_whatever_left_the_state() -> None:
    """Neither before nor after its time, each window as its own row says, and never more than it cost."""
    world = ten_hours()
    world.apply(grant("late", 100, START + 2 * HOUR, START + 6 * HOUR))
    assert uncovered(world) == [1] * 10
    world.settle()
    assert uncovered(world) == [1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert (world.balance.consumed, world.balance.uncovered, world.balance.expired) == (D(4), D(6), D(96))
    asked = world.asked
    world.beat(START + 20 * HOUR)
    world.apply(grant("none of it", 5, START + 3 * HOUR, START + 4 * HOUR))
    world.settle()
    assert uncovered(world) == [1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert world.asked == asked + 1, "what is owed was in windows before and after: looked at once"
    world.use(event("more", "a", 1, world.now))
    world.settle()
    assert world.asked == asked + 1


def test_older_usage_is_paid_for_first() -> None:
    """Where the grant does not suffice."""
    world = ten_hours()
    world.apply(grant("late", 8, START))
    world.settle()
    assert uncovered(world) == [0] * 8 + [1] * 2


def test_a_ledger_that_lags_is_asked_again() -> None:
    """Rows of this epoch may not be written yet: nothing is paid on the strength of half of them."""
    world = ten_hours()
    world.lags = True
    world.apply(grant("late", 100, START))
    world.beat()
    world.epoch()
    world.beat()
    assert uncovered(world) == [1] * 10
    world.lags = False
    world.settle()
    assert uncovered(world) == [0] * 10


def test_a_ledger_that_lacks_rows_for_good_holds_up_nothing() -> None:
    """What is in the state is paid for alone, and the ledger is left in peace."""
    world = ten_hours()
    world.lags = True
    world.apply(grant("late", 100, START))
    for _ in range(3):
        world.settle()
    assert uncovered(world) == [1] * 8 + [0] * 2
    assert not world.group.is_waiting
    assert world.asked == 6


def test_windows_that_were_paid_for_in_full_are_not_asked_for() -> None:
    """The usual customer, with credit all the time, costs the ledger nothing."""
    world = Ledger(*metered("a"), plan(card("a")), customer(), subscription(), grant("g", 100))
    for hour in range(10):
        world.beat(START + hour * HOUR)
        world.use(event(str(hour), "a", 1, world.now))
    world.apply(grant("backdated", 100, START))
    world.settle()
    assert world.asked == 0


@settings(max_examples=repeats(100), deadline=None)
@given(seed=st.integers(0, 2**32), mode=st.sampled_from(SettlementMode))
def test_no_crash_loses_a_window_that_came_back(seed: int, mode: SettlementMode) -> None:
    """Whenever it happens, the ledger adds up to the balance, and to what a run without crashes leaves."""
    found = []
    for crashes in (False, True):
        chance = random.Random(seed)
        world = Ledger(*metered("a"), plan(card("a")), customer(), subscription(mode), late_windows=1)
        for hour in range(12):
            world.beat(START + hour * HOUR)
            world.use(event(str(hour), "a", chance.randrange(1, 9), world.now))
            world.settle()
            start, length = chance.randrange(hour + 1), chance.randrange(1, 5)
            if chance.random() < 0.4:
                given = grant(
                    f"g{hour}", chance.randrange(1, 30), START + start * HOUR, START + (start + length) * HOUR
                )
                world.apply(replace(given, created_at=world.now))
            crashed = 0
            for step in [chance.random() for _ in range(6)]:
                world.epoch()
                world.beat()
                if crashes and step < 0.3:
                    world.crash()
                    crashed += 1
            world.settle()
            assert world.balance.charged == sum(row.amount for row in world.charges.values())
        found.append(
            (
                {key: row._replace(revision=0, was_left=False) for key, row in world.charges.items()},
                world.balance.consumed,
            )
        )
    assert found[0] == found[1]


@settings(max_examples=repeats(300), deadline=None)
@given(
    records=worlds(rising=True),
    topups=st.lists(grants(), max_size=4),
    stream=streams(),
    seed=st.integers(0, 2**32),
    late_windows=st.integers(1, 3),
)
def test_no_window_is_told_as_paid_below_zero(
    records: list[Record], topups: list[list[Grant]], stream: list[dict[str, Any]], seed: int, late_windows: int
) -> None:
    """
    Where more usage never costs less: what each grant paid and what is uncovered lie between nothing and the amount.

    But for the last digit of a third of a unit, which moves with the total before it.
    """
    world = World(rules=TimeRules(late_windows=late_windows))
    world.now = START + DAY
    world.apply(*records)
    chance = random.Random(seed)
    for number, topup in enumerate(topups):
        size = chance.randrange(1, 20)
        world.use(*stream[:size])
        del stream[:size]
        for found in topup:
            start = START + chance.randrange(6) * HOUR
            end = start + chance.randrange(1, 6) * HOUR if chance.random() < 0.4 else None
            world.apply(replace(found, id=f"{found.id}-{number}", effective_at=start, expires_at=end))
        if chance.random() < 0.3:
            world.restart()
    world.use(*stream)
    for row in world.charges.values():
        for paid in (*row.paid.values(), row.uncovered):
            assert D("-1e-25") < paid <= max(row.amount, ZERO) + D("1e-25"), row


# -- usage received in time ---------------------------------------------------------------------


def of_march(world: World) -> tuple[Decimal, Decimal, Decimal]:
    """Usage, amount and commitment of the first period."""
    usage = amount = minimum = D(0)
    for row in world.charges.values():
        if row.period_start == START:
            usage, amount, minimum = usage + row.quantity, amount + row.amount, minimum + row.commitment
    return usage, amount, minimum


def two_months(aggregation: Aggregation = Aggregation.SUM, *more: Record) -> Ledger:
    """A period with a minimum of 20 that closed and left the state, and usage of the next."""
    pricing = Pricing(Unit(amount=D(1), minimum_amount=D(20)), "USD")
    records = [*metered("a", aggregation), plan(card("a", pricing)), customer(), subscription(INVOICE)]
    world = Ledger(*records, grant("g", 12, START, START + 20 * DAY), *more)
    for hour in (0, 1, 2, 3, 300):
        world.beat(START + hour * HOUR)
        world.use(event(str(hour), "a", 2, world.now))
    for day in (32, 36, 40):
        world.beat(START + day * DAY)
        world.epoch()
        world.use(event(f"later {day}", "a", 1, world.now))
    world.epoch()
    assert START not in {meter.period_start for meter in world.group.accounts[ID].state.periods}
    return world


@pytest.mark.parametrize("restarts", [False, True])
def test_usage_received_in_time_is_rated_though_its_period_left_the_state(restarts: bool) -> None:
    """By the prices, grants and minimum of its time, into its own period; the rows that follow replace those before."""
    world = two_months()
    assert of_march(world) == (D(10), D(20), D(10))
    world.use(event("x1", "a", 3, START + 4 * HOUR), received=START + 5 * DAY)
    assert ("rated", "") not in world.out.ended
    world.epoch()
    if restarts:
        world.crash()
    world.use(event("x1", "a", 3, START + 4 * HOUR), received=START + 5 * DAY)
    assert of_march(world) == (D(13), D(20), D(7))
    assert world.paid() == {"g": D(12)}
    assert world.ended["duplicate", ""] == 1
    world.use(event("x2", "a", 10, START + 4 * HOUR), received=START + 6 * DAY)
    assert of_march(world) == (D(23), D(23), D(0))
    assert world.balance.charged == D(23) + 3
    for day in (50, 52):
        world.beat(START + day * DAY)
        world.epoch()
    assert START not in {meter.period_start for meter in world.group.accounts[ID].state.periods}
    world.use(event("x3", "a", 1, START), received=START + 7 * DAY)
    world.settle()
    assert of_march(world) == (D(24), D(24), D(0))


def test_usage_received_too_late_stays_parked_and_asks_the_ledger_nothing() -> None:
    """However long its period has been gone."""
    world = two_months()
    world.use(event("x1", "a", 3, START), received=APRIL + DAY)
    assert world.ended["parked", "period_closed"] == 1
    assert world.asked == 0
    world.use(event("x2", "a", 3, START), received=APRIL + DAY - timedelta(microseconds=1))
    world.settle()
    assert world.ended["parked", "period_closed"] == 1
    assert of_march(world)[0] == 13


def test_usage_of_a_period_that_a_move_has_cut_stays_parked_once_it_left_the_state() -> None:
    """What comes late for one part moves where the next one begins, so both had to come back."""
    versions = [
        replace(plan(card("a", Pricing(Unit(D(price)), "USD"))), version=number) for number, price in ((1, 1), (2, 2))
    ]
    moved = replace(subscription(INVOICE), moves=(VersionMove(START + 5 * DAY, 2, START),))
    world = Ledger(*metered("a"), *versions, customer(), moved)
    for day in (1, 9, 32, 36, 40):
        world.beat(START + day * DAY)
        world.epoch()
        world.use(event(f"{day}", "a", 1, world.now))
    world.epoch()
    for day in (2, 8):
        world.use(event(f"late {day}", "a", 1, START + day * DAY), received=START + 9 * DAY)
        world.settle()
    assert world.ended["parked", "period_closed"] == 2
    assert of_march(world)[:2] == (D(1), D(1))


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_what_an_aggregation_remembers_comes_back_or_the_event_stays_parked(aggregation: Aggregation) -> None:
    """A sum, a count, a highest and a lowest follow from what they came to; the others do not."""
    world = two_months(aggregation)
    before = of_march(world)[0]
    world.use(event("x1", "a", 1, START), received=START + 5 * DAY)
    world.settle()
    comes_back = aggregation in ("SUM", "COUNT", "MAX", "MIN")
    assert world.ended.get(("parked", "period_closed"), 0) == (not comes_back)
    expected = {"SUM": before + 1, "COUNT": before + 1, "MAX": D(2), "MIN": D(1)}.get(aggregation, before)
    assert of_march(world)[0] == expected
    world.use(event("x2", "a", 9, START), received=START + 5 * DAY)
    world.settle()
    assert of_march(world)[0] == {"SUM": before + 10, "COUNT": before + 2, "MAX": D(9), "MIN": D(1)}.get(
        aggregation, before
    )


@pytest.mark.parametrize("seed", range(40))
def test_no_crash_loses_a_period_that_came_back(seed: int) -> None:
    """The state, the ledger and the events that wait go back together."""
    chance = random.Random(seed)
    world = two_months()
    log: list[tuple[dict[str, Any], datetime]] = []
    read = safe = 0
    for number in range(6):
        at = START + chance.randrange(10) * HOUR
        log.append((event(f"x{number}", "a", chance.randrange(1, 5), at), START + 5 * DAY))
    crashes = 3
    while read < len(log) or world.group.is_waiting:
        if read < len(log):
            found, received = log[read]
            world.fold(found, received=received)
            read += 1
        world.beat(world.now + chance.choice([timedelta(), timedelta(seconds=1), 2 * DAY]))
        if chance.random() < 0.5:
            world.epoch()
            safe = read
        if crashes and chance.random() < 0.3:
            crashes -= 1
            world.crash()
            read = safe
    world.settle()
    usage = 10 + sum(found["data"]["n"] for found, _ in log)
    assert of_march(world) == (usage, max(usage, 20), max(20 - usage, 0))
    assert world.balance.charged == max(usage, 20) + 3
