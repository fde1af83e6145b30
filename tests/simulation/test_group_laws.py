"""The five laws, on a key group against the naive oracle, however the stream is cut, repeated, reordered or resumed."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.catalog import SettlementMode, key_group
from rating.group import KeyGroup
from rating.outcome import Outcome
from rating.time_rules import TimeRules
from tests import oracle
from tests.repeats import repeats
from tests.world import FEATURES, PRICES, START, catalog_of, catalog_records, customer_records, events, line

NUMBER = 7
SUBJECTS = {f"s{NUMBER}a": f"customer-{NUMBER}", f"s{NUMBER}b": f"customer-{NUMBER}"}
LATER = START + timedelta(days=3, hours=1)


class Told:
    """The newest row of each key, as the ledger holds it: rows of a commit that never was are taken back."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[tuple[Any, ...], tuple[int, Any]]] = {
            "charges": {},
            "balances": {},
        }
        self.commit = 0
        self.ended: dict[str, int] = {}

    def take(self, out: Outcome) -> None:
        for name, width in (("charges", 5), ("balances", 1)):
            table = self.tables[name]
            for row in getattr(out, name):
                known = table.get(row[:width])
                if known is None or known[1].revision <= row.revision:
                    table[row[:width]] = (self.commit, row)
        for (end, _), count in out.ended.items():
            self.ended[end] = self.ended.get(end, 0) + count

    def crash(self) -> None:
        for name, table in self.tables.items():
            self.tables[name] = {key: entry for key, entry in table.items() if entry[0] < self.commit}

    def rows(self, name: str) -> list[Any]:
        return [self.tables[name][key][1] for key in sorted(self.tables[name])]


def run(
    stream: list[dict[str, Any]],
    seed: int,
    grants: tuple[Decimal, ...] = (),
    mode: SettlementMode = SettlementMode.CREDIT_ONLY,
    crash: bool = False,
) -> Told:
    """Feed a stream as `run_once` does, without lanes and with: the balance is the same, and so is the bill."""
    without, told = (run_once(stream, seed, grants, mode, crash, with_lanes) for with_lanes in (False, True))
    check_against_oracle(without, stream)
    assert told.rows("balances") == without.rows("balances")
    assert told.ended == without.ended
    return told


def run_once(
    stream: list[dict[str, Any]],
    seed: int,
    grants: tuple[Decimal, ...],
    mode: SettlementMode,
    crash: bool,
    with_lanes: bool,
) -> Told:
    """Feed a stream in random cuts, with beats, snapshots and (if asked) crashes at random."""
    chance = random.Random(seed)
    catalog = catalog_of([*catalog_records(mode), *customer_records(NUMBER, grants, mode)])
    number = key_group(f"customer-{NUMBER}")
    segments: dict[int, bytes] = {}
    rules = TimeRules(window_seconds=3600, with_lanes=with_lanes)

    def opened(snapshot: bytes | None) -> KeyGroup:
        group = KeyGroup(number, catalog, rules, snapshot, lambda _, numbers: [segments[n] for n in numbers])
        told.take(_resumed(group))
        return group

    told = Told()
    group = opened(None)
    at, safe, snapshot = 0, 0, group.snapshot()
    told.commit += 1
    crashes = 2 if crash else 0
    while at < len(stream):
        size = chance.randrange(1, 40)
        out = Outcome()
        group.fold(b"\n".join(map(line, stream[at : at + size])), LATER, LATER, out)
        at += size
        if chance.random() < 0.5:
            group.beat(LATER, out)
        segments.update({row.segment: row.ids for row in out.seen})
        told.take(out)
        if chance.random() < 0.3:
            snapshot, safe = group.snapshot(), at
            told.commit += 1
        if crashes and chance.random() < 0.2:
            crashes -= 1
            told.crash()
            group, at = opened(snapshot), safe
    out = Outcome()
    group.beat(LATER, out)
    told.take(out)
    return told


def _resumed(group: KeyGroup) -> Outcome:
    out = Outcome()
    group.resume(LATER, out)
    return out


def check_against_oracle(told: Told, stream: list[dict[str, Any]]) -> None:
    """Periods, windows and balances say what the oracle says, to the last digit."""
    bill = oracle.rate(stream, SUBJECTS, FEATURES)
    amounts = bill.amounts(PRICES)
    usage: dict[tuple[str, str | None, Any], Fraction] = {}
    charged_by_period: dict[tuple[str, str | None, Any], Fraction] = {}
    for row in told.rows("charges"):
        key = (row.customer_id, row.feature_key, row.period_start)
        usage[key] = usage.get(key, Fraction(0)) + Fraction(row.quantity)
        charged_by_period[key] = charged_by_period.get(key, Fraction(0)) + Fraction(row.amount)
        assert sum(row.paid.values()) == row.credits
        assert row.credits + row.uncovered == row.amount
    assert usage == dict(bill.usage)
    assert charged_by_period == amounts
    for customer_id, charged in bill.charged(PRICES).items():
        check_conservation(told, customer_id, charged)


def check_conservation(told: Told, customer_id: str, charged: Fraction) -> None:
    """charged = consumed + uncovered; funded = settled + pending + consumed + expired + voided; entries add up."""
    (row,) = told.rows("balances")
    assert row.customer_id == customer_id
    assert Fraction(row.charged) == charged
    assert row.charged == row.consumed + row.uncovered
    assert row.funded == row.settled + row.pending + row.consumed + row.expired + row.voided
    assert row.consumed == sum(charge.credits for charge in told.rows("charges"))
    assert row.uncovered == sum(charge.uncovered for charge in told.rows("charges"))
    assert row.consumed == min(row.funded, row.charged)


streams = st.builds(
    lambda seed, count: list(events(random.Random(seed), count, 1)),
    st.integers(0, 2**32),
    st.integers(1, 150),
).map(lambda found: [event | {"subject": event["subject"].replace("s0", f"s{NUMBER}")} for event in found])
funding = st.lists(st.decimals("0.01", "200", places=2), max_size=4).map(tuple)


@settings(max_examples=repeats(60), deadline=None)
@given(stream=streams, seed=st.integers(0, 2**32), grants=funding)
def test_cutting_and_ordering_the_stream_does_not_change_the_ledger(
    stream: list[dict[str, Any]], seed: int, grants: tuple[Decimal, ...]
) -> None:
    """Shuffled and with duplicates, in any cuts, the sums are the oracle's."""
    chance = random.Random(seed)
    shuffled = stream + chance.sample(stream, len(stream) // 5)
    chance.shuffle(shuffled)
    told = run(shuffled, seed, grants)
    check_against_oracle(told, shuffled)
    assert told.ended == {"rated": len(stream)} | (
        {"duplicate": len(shuffled) - len(stream)} if len(shuffled) > len(stream) else {}
    )


@settings(max_examples=repeats(60), deadline=None)
@given(stream=streams, seed=st.integers(0, 2**32), grants=funding, mode=st.sampled_from(SettlementMode))
def test_resuming_from_any_snapshot_leaves_the_same_ledger(
    stream: list[dict[str, Any]], seed: int, grants: tuple[Decimal, ...], mode: SettlementMode
) -> None:
    """A crash goes back to a snapshot and reads the events since again, in other cuts."""
    check_against_oracle(run(stream, seed, grants, mode, crash=True), stream)


@settings(max_examples=repeats(40), deadline=None)
@given(stream=streams, seed=st.integers(0, 2**32), grants=funding)
def test_access_belongs_to_the_balance_beside_it(
    stream: list[dict[str, Any]], seed: int, grants: tuple[Decimal, ...]
) -> None:
    """Under credit_only access is blocked exactly when the live balance is not positive."""
    told = run(stream, seed, grants)
    for row in told.rows("balances"):
        assert (row.access == "blocked") == (row.live <= 0)
        assert row.live == row.settled - row.overage


@pytest.mark.parametrize("with_lanes", [True, False])
def test_the_gate_shuts_at_the_event_that_uses_the_credits_up(with_lanes: bool) -> None:
    """Between beats a customer is blocked at once: the row that says so has folded no later event."""
    stream = [
        {
            "specversion": "1.0",
            "id": f"e{number}",
            "source": "test",
            "subject": f"s{NUMBER}a",
            "type": "prompt",
            "time": (START + timedelta(seconds=number)).isoformat(),
            "data": {"kind": "output", "tokens": 1},
        }
        for number in range(1000)
    ]
    catalog = catalog_of([*catalog_records(), *customer_records(NUMBER, (Decimal("15"),))])
    group = KeyGroup(key_group(f"customer-{NUMBER}"), catalog, TimeRules(with_lanes=with_lanes))
    _resumed(group)
    out = Outcome()
    group.fold(b"\n".join(map(line, stream)), LATER, LATER, out)
    blocked = [row for row in out.balances if row.access == "blocked"]
    assert out.urgent
    assert blocked[0].charged == Decimal("15.00")
    assert blocked[0].revision == 500 + 3 + 1, "500 events, 3 control records, 1 grant that took effect"


@pytest.mark.parametrize(
    ("events_at", "late_windows", "windows"),
    [
        ([0, 30, 59], 2, {0: (3, 0)}),
        ([0, 60, 30], 2, {0: (2, 0), 60: (1, 0)}),
        ([0, 60, 120, 30], 2, {0: (1, 0), 60: (1, 0), 120: (2, 1)}),
        ([0, 60, 120, 30], 3, {0: (2, 0), 60: (1, 0), 120: (1, 0)}),
    ],
)
def test_late_usage_shows_in_its_window_while_that_is_open_and_in_the_current_one_after(
    events_at: list[int], late_windows: int, windows: dict[int, tuple[int, int]]
) -> None:
    """Each window: how many events, and how much of its quantity is late."""
    catalog = catalog_of([*catalog_records(), *customer_records(NUMBER)])
    group = KeyGroup(key_group(f"customer-{NUMBER}"), catalog, TimeRules(window_seconds=60, late_windows=late_windows))
    told = Told()
    for number, second in enumerate(events_at):
        event = {
            "specversion": "1.0",
            "id": str(number),
            "source": "test",
            "subject": f"s{NUMBER}a",
            "type": "call",
            "time": (START + timedelta(seconds=second)).isoformat(),
        }
        out = Outcome()
        group.fold(line(event), LATER, LATER, out)
        group.beat(LATER, out)
        told.take(out)
    found = {
        int((row.window_start - START).total_seconds()): (row.events, int(row.late_quantity))
        for row in told.rows("charges")
    }
    assert found == windows
