"""
Compares what the engine told with what the plain oracle says, on every path that usage can take.

    calm      the keyed step as it runs when nothing goes wrong
    slow      standing still, reading late and going back to snapshots, and without lanes
    engine    the same with lanes
    rebuilt   the whole log read anew at its end, the catalog at its head
    replayed  the same, in step with the time that the log tells of
    resumed   the log read anew from an old snapshot
    file      `tollway rate`
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

from rating import dedup
from rating.outcome import BalanceRow, ChargeRow
from tests.simulation.billing import CENTS, net
from tests.simulation.driving import Engine, file_of
from tests.simulation.plain import Balance, History, Oracle, PeriodKey, Told, half_up
from tollway.batch import BatchResult

ZERO = Fraction(0)
PATHS = ("calm", "slow", "engine", "rebuilt", "replayed", "resumed", "file")
NOT_IN_ORDER: tuple[str, ...] = ()
"""Where fees and instants come before the usage that was received before them: who pays may then be another."""


FEW_IDS, MANY_IDS = 4, 2048


def check(history: History, seed: int, paths: tuple[str, ...] = PATHS) -> list[str]:
    """
    Where the engine and the oracle differ, on the first of some paths on which they do.

    A path that raises is a difference too. Segments of ids are small, but where an old snapshot is gone on from: it
    remembers as much as was received in its horizon.
    """
    for path in paths:
        try:
            with segments_of(FEW_IDS):
                found = _check_path(history, seed, path)
        except Exception as error:  # whatever it is, it is a finding
            found = [f"{path}: {type(error).__name__} at {_place(error)}: {error}"]
        if found:
            return found
    return []


@contextmanager
def segments_of(ids: int) -> Iterator[None]:
    """Let segments of event ids be full after so many."""
    size, dedup.SEGMENT_IDS = dedup.SEGMENT_IDS, ids
    try:
        yield
    finally:
        dedup.SEGMENT_IDS = size


def _check_path(history: History, seed: int, path: str) -> list[str]:
    if path == "file":
        return _check_file(history)
    is_calm = path not in ("engine", "slow")
    engine = Engine(history, random.Random(seed), with_lanes=path != "slow", is_calm=is_calm)
    oracle = Oracle(history)
    if path not in ("rebuilt", "replayed", "resumed"):
        for stop in history.stops:
            oracle.run(stop)
            engine.run(stop)
            found = differences(oracle, engine.result(), f"{path} at {stop}", reads_late=path != "calm")
            if found:
                return [] if oracle.lost and path != "calm" else found
    oracle.run(history.until)
    engine.run(history.until)
    if path in ("rebuilt", "replayed"):
        engine = engine.rebuilt(None, in_step=path == "replayed")
    elif path == "resumed":
        engine = engine.rebuilt(engine.chance.choice(engine.saved))
    found = differences(oracle, engine.result(), path, reads_late=path != "calm")
    differ = Differences(path)
    if oracle.lost and path != "calm":
        # It depends on when the period left the state.
        return []
    differ.expect("parked", _parked(engine), dict(sorted(oracle.parked.items())))
    _compare_invoices(differ, oracle, engine.result())
    return found + differ.found


Waiting = dict[tuple[str, str, str, str], str]


def _parked(engine: Engine) -> Waiting:
    """What waits, as the oracle names it."""
    found = {(found.subject, found.source, found.id, found.meter): found.code.value for found in engine.parked.values()}
    return dict(sorted(found.items()))


def _check_file(history: History) -> list[str]:
    """Events of a file are received at the end; for the oracle each as it happens, for nothing is too late."""
    if any(arrival.event["time"] is None for arrival in history.arrivals):
        return []
    ahead = history.until + history.max_ahead
    timely = [
        replace(arrival, received=min(arrival.event["time"], history.until))
        for arrival in history.arrivals
        if arrival.event["time"] <= ahead
    ]
    timely.sort(key=lambda arrival: arrival.received)
    oracle = Oracle(replace(history, arrivals=timely, grace=timedelta(hours=24)), in_file=True)
    oracle.run(history.until)
    oracle.close_ended()
    if oracle.lost:
        # It depends on when what waits comes back.
        return []
    result = file_of(history)
    differ = Differences("file")
    _compare_invoices(differ, oracle, result)
    return differences(oracle, result, "file") + differ.found


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace is not None else ""


class Differences:
    """Collects what is not as expected."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[str] = []

    def expect(self, what: str, told: object, expected: object) -> None:
        """Note a difference."""
        if told != expected:
            self.found.append(f"{self.where}: {what}: {_shown(told)}, expected {_shown(expected)}")


def differences(oracle: Oracle, result: BatchResult, where: str, reads_late: bool = True) -> list[str]:
    """
    Where a result is not what the oracle says; empty where it is.

    Args:
        oracle: Has gone as far.
        result: What the engine told.
        where: Begins each difference.
        reads_late: Whether usage may have been read after entries that were recorded later than it was received.
    """
    differ = Differences(where)
    rows: dict[PeriodKey, list[ChargeRow]] = defaultdict(list)
    for row in result.charges.values():
        rows[row.customer_id, row.subscription_id, row.card_key, row.period_start].append(row)
    charges = oracle.charges()
    for customer in oracle.customers:
        balance = oracle.balance(customer)
        is_moot = balance.is_moot or (reads_late and balance.is_moot_if_late)
        is_moot = is_moot or (balance.is_contested and where.partition(" ")[0] in NOT_IN_ORDER)
        for key in sorted(found for found in charges.keys() | rows.keys() if found[0] == customer):
            _compare_period(differ, key, rows[key], charges.get(key), is_moot or balance.is_moot_by_card)
        own = [row for key, of_period in rows.items() if key[0] == customer for row in of_period]
        _compare_balance(differ, customer, result.balances.get(customer), own, balance, is_moot)
    return differ.found


def _compare_period(
    differ: Differences, key: PeriodKey, rows: list[ChargeRow], told: Told | None, is_moot: bool
) -> None:
    name = f"{key[1]} {key[2]} {key[3].isoformat()}"
    for row in rows:
        differ.expect(f"{name} covered or not", row.credits + row.uncovered, row.amount)
        differ.expect(f"{name} paid by grants", sum(row.paid.values()), row.credits)
    usage = sum((Fraction(row.quantity) for row in rows), ZERO)
    events = sum(row.events for row in rows)
    amount = sum((Fraction(row.amount) for row in rows), ZERO)
    if told is None:
        differ.expect(f"{name} of nobody", (usage, events, amount), (ZERO, 0, ZERO))
        return
    differ.expect(f"{name} usage", usage, told.usage)
    differ.expect(f"{name} events", events, told.events)
    differ.expect(f"{name} amount", amount, told.amount)
    if rows:
        newest = max(rows, key=lambda row: row.revision)
        differ.expect(f"{name} end", newest.period_end, told.end)
        differ.expect(f"{name} commitment", sum((Fraction(row.commitment) for row in rows), ZERO), told.commitment)
    if not is_moot:
        differ.expect(f"{name} uncovered", sum((Fraction(row.uncovered) for row in rows), ZERO), told.uncovered)


def _compare_invoices(differ: Differences, oracle: Oracle, result: BatchResult) -> None:
    """
    What is to be paid of each period, and all credits together.

    Who paid what is compared elsewhere, and taken from the ledger here.
    """
    paid: dict[PeriodKey, Fraction] = defaultdict(Fraction)
    uncovered: dict[PeriodKey, Fraction] = defaultdict(Fraction)
    for row in result.charges.values():
        paid[row[:4]] += Fraction(row.credits)
        uncovered[row[:4]] += Fraction(row.uncovered)
    for invoice in result.invoices():
        customer = invoice.customer.id
        nets = {key: net(period) for key, period in oracle.periods.items() if key[0] == customer and key in paid}
        for line in invoice.lines:
            key = (customer, line.subscription_id or "", line.card_key or "", line.period_start)
            name = f"line {line.card_key} {line.period_start.isoformat()}"
            before = nets.pop(key, ZERO)
            credits, total = Fraction(line.totals.credits_total), Fraction(line.totals.total)
            is_covered = paid[key] > 0 and not half_up(uncovered[key], CENTS)
            expected = ZERO if oracle.periods[key].repays or is_covered else before - credits
            differ.expect(f"{name} to be paid", total, expected)
            differ.expect(f"{name} credits above its own", credits > before or credits < 0, False)
            differ.expect(f"{name} credits of nobody", credits > 0 and not paid[key], False)
        differ.expect(f"{customer} without a line", {key: left for key, left in nets.items() if left}, {})
        consumed = half_up(sum((paid[key] for key in paid if key[0] == customer), ZERO), CENTS)
        room = sum(
            (net(period) for key, period in oracle.periods.items() if key[0] == customer and paid.get(key)), ZERO
        )
        differ.expect(f"{customer} credits", Fraction(invoice.totals.credits_total), min(consumed, room))


PARTS = ("settled", "pending", "consumed", "expired", "voided", "uncovered", "overage")


def _compare_balance(
    differ: Differences,
    customer: str,
    row: BalanceRow | None,
    charges: list[ChargeRow],
    balance: Balance,
    is_moot: bool,
) -> None:
    if row is None:
        differ.expect(f"{customer} balance", "nothing told", "a balance")
        return
    differ.expect(f"{customer} charged", Fraction(row.charged), balance.charged)
    differ.expect(f"{customer} funded", Fraction(row.funded), balance.funded)
    differ.expect(f"{customer} charges", row.charged, row.consumed + row.uncovered)
    differ.expect(f"{customer} funds", row.funded, row.settled + row.pending + row.consumed + row.expired + row.voided)
    differ.expect(f"{customer} consumed of rows", sum((charge.credits for charge in charges), 0), row.consumed)
    differ.expect(f"{customer} uncovered of rows", sum((charge.uncovered for charge in charges), 0), row.uncovered)
    limits = {(u.feature_key, u.period_start): Fraction(u.quantity) for u in row.usage if u.quantity}
    differ.expect(f"{customer} limits", sorted(limits.items()), sorted(balance.limits.items()))
    differ.expect(f"{customer} below 0", [part for part in PARTS if getattr(row, part) < 0], [])
    if is_moot:
        return
    paid: dict[str, Fraction] = defaultdict(Fraction)
    for charge in charges:
        for grant, amount in charge.paid.items():
            paid[grant] += Fraction(amount)
    differ.expect(f"{customer} paid by", {name: paid[name] for name in sorted(paid) if paid[name]}, balance.paid)
    for part in PARTS:
        differ.expect(f"{customer} {part}", Fraction(getattr(row, part)), getattr(balance, part))
    differ.expect(f"{customer} blocked", row.access == "blocked", balance.blocked)
    differ.expect(f"{customer} blocked features", list(row.blocked_features), balance.blocked_features)
    differ.expect(f"{customer} level", row.level, balance.level)


def _shown(value: object) -> str:
    match value:
        case Fraction():
            return str(int(value)) if value.denominator == 1 else str(float(value))
        case dict():
            return str({key: _shown(item) for key, item in value.items()})
        case tuple():
            return ", ".join(map(_shown, value))
    return str(value)
