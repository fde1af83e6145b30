"""
Compares what the engine told with what the plain oracle says.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

from tests.simulation.driving import Engine, file_of
from tests.simulation.plain import History, Oracle
from tollway.batch import BatchResult

ZERO = Fraction(0)


def differences(oracle: Oracle, result: BatchResult, where: str) -> list[str]:
    """Where a result is not what the oracle says; empty where it is."""
    found: list[str] = []

    def expect(what: str, told: object, expected: object) -> None:
        if told != expected:
            found.append(f"{where}: {what}: {_shown(told)}, expected {_shown(expected)}")

    rows = defaultdict(list)
    for row in result.charges.values():
        if row.credits + row.uncovered != row.amount or sum(row.paid.values()) != row.credits:
            found.append(f"{where}: a row does not add up: {row}")
        rows[row.customer_id, row.subscription_id, row.card_key, row.period_start].append(row)
    charges = oracle.charges()
    balances = {customer: oracle.balance(customer) for customer in oracle.customers}
    for key in sorted(charges.keys() | rows.keys()):
        of_period = rows.get(key, [])
        usage = sum((Fraction(row.quantity) for row in of_period), ZERO)
        amount = sum((Fraction(row.amount) for row in of_period), ZERO)
        events = sum(row.events for row in of_period)
        name = f"{key[1]} {key[2]} {key[3].isoformat()}"
        told = charges.get(key)
        if told is None:
            if usage or amount or events:
                found.append(f"{where}: {name}: nobody expected {_shown(usage)} for {_shown(amount)}")
            continue
        expect(f"{name} usage", usage, told.usage)
        expect(f"{name} events", events, told.events)
        expect(f"{name} amount", amount, told.amount)
        if of_period:
            newest = max(of_period, key=lambda row: row.revision)
            expect(f"{name} end", newest.period_end, told.end)
            commitment = sum((Fraction(row.commitment) for row in of_period), ZERO)
            expect(f"{name} commitment", commitment, told.commitment)
        balance = balances[key[0]]
        if not balance.is_moot_by_card:
            uncovered = sum((Fraction(row.uncovered) for row in of_period), ZERO)
            expect(f"{name} uncovered", uncovered, told.uncovered)
    for customer, balance in balances.items():
        row = result.balances.get(customer)
        if row is None:
            found.append(f"{where}: nothing was told of {customer}")
            continue
        expect(f"{customer} charged", Fraction(row.charged), balance.charged)
        expect(f"{customer} funded", Fraction(row.funded), balance.funded)
        expect(f"{customer} conservation", Fraction(row.charged), Fraction(row.consumed + row.uncovered))
        parts = row.settled + row.pending + row.consumed + row.expired + row.voided
        expect(f"{customer} funds", Fraction(row.funded), Fraction(parts))
        of_customer = [charge for charge in result.charges.values() if charge.customer_id == customer]
        expect(f"{customer} consumed of rows", sum((c.credits for c in of_customer), 0), row.consumed)
        expect(f"{customer} uncovered of rows", sum((c.uncovered for c in of_customer), 0), row.uncovered)
        if min(row.settled, row.pending, row.consumed, row.expired, row.voided, row.uncovered, row.overage) < 0:
            found.append(f"{where}: {customer}: something is below 0: {row}")
        if balance.is_moot:
            continue
        paid: dict[str, Fraction] = defaultdict(Fraction)
        for charge in of_customer:
            for grant, amount in charge.paid.items():
                paid[grant] += Fraction(amount)
        expect(f"{customer} paid by", {k: v for k, v in sorted(paid.items()) if v}, dict(sorted(balance.paid.items())))
        for name in ("settled", "pending", "consumed", "expired", "voided", "uncovered", "overage"):
            expect(f"{customer} {name}", Fraction(getattr(row, name)), getattr(balance, name))
        expect(f"{customer} blocked", row.access == "blocked", balance.blocked)
    return found


def _shown(value: object) -> str:
    if isinstance(value, Fraction):
        return str(int(value)) if value.denominator == 1 else str(float(value))
    if isinstance(value, dict):
        return str({key: _shown(item) for key, item in value.items()})
    return str(value)


PATHS = ("engine", "slow", "rebuilt", "resumed", "file")


def check(history: History, seed: int, paths: tuple[str, ...] = PATHS) -> list[str]:
    """
    Where the engine and the oracle differ, on some of the paths; the first that differs ends it.

    A path that raises is a difference too.
    """
    for path in paths:
        try:
            found = _check_path(history, seed, path)
        except Exception as error:  # whatever it is, it is a finding
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            place = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else ""
            found = [f"{path}: {type(error).__name__} at {place}: {error}"]
        if found:
            return found
    return []


def _check_path(history: History, seed: int, path: str) -> list[str]:
    oracle = Oracle(history, in_file=path == "file")
    if path == "file":
        if any(arrival.event["time"] is None for arrival in history.arrivals):
            return []
        return _check_file(history)
    engine = Engine(history, random.Random(seed), with_lanes=path != "slow", with_crashes=path != "slow")
    if path in ("engine", "slow"):
        for stop in history.stops:
            oracle.run(stop)
            engine.run(stop)
            found = differences(oracle, engine.result(), f"{path} at {stop}")
            if found:
                return found
    oracle.run(history.until)
    engine.run(history.until)
    if path in ("engine", "slow"):
        return differences(oracle, engine.result(), path)
    saved = None if path == "rebuilt" else engine.chance.choice(engine.saved)
    return differences(oracle, engine.rebuilt(saved).result(), path)


def _check_file(history: History) -> list[str]:
    """Events of a file are received at the end; here each as it happens, for nothing is too late."""
    ahead = history.until + history.max_ahead
    arrivals = [replace(a, received=a.event["time"]) for a in history.arrivals if a.event["time"] <= ahead]
    arrivals = [replace(a, received=min(a.received, history.until)) for a in arrivals]
    timely = replace(history, arrivals=sorted(arrivals, key=lambda a: a.received))
    oracle = Oracle(timely, in_file=True)
    oracle.run(history.until)
    return differences(oracle, file_of(history), "file")
