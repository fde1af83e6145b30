"""
Worked examples of credits from other systems, each as usage of one customer of a key group.

`settled` here is what active grants have left after running charges, `live` that less overage; upstream books a
charge when it is final, so its settled balance before that is what was granted. `live` is compared, and settled
with the running charges taken off. What cannot be said is listed with the reason.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from rating.catalog import Grant, Record, SettlementMode
from rating.money import ZERO
from rating.prices import Flat, Pricing, Tier, Volume, price_from_v1
from rating.time_rules import TimeRules
from tests.simulation.settling import DAY, HOUR, ID, World, card, customer, event, grant, metered, plan, subscription
from tests.world import START

Vector = dict[str, Any]
D = Decimal
HERE: Final = Path(__file__).parents[1] / "vectors"
INVOICE: Final = SettlementMode.CREDIT_THEN_INVOICE
GROUPS: Final = {
    "credit_balance",
    "credit_feature_balance",
    "credit_pending",
    "credit_collection_order",
    "credit_correction",
    "credit_expiry",
    "credit_lifecycle",
    "entitlement_burndown",
}
OPENMETER: Final[list[Vector]] = [
    vector
    for vector in json.loads((HERE / "openmeter.json").read_text(encoding="utf-8"))["vectors"]
    if vector["group"] in GROUPS
]
WALLETS: Final[list[Vector]] = [
    vector
    for vector in json.loads((HERE / "peers.json").read_text(encoding="utf-8"))["vectors"]
    if vector["kind"] in {"wallet", "reservation"}
]


def reason_not_run(vector: Vector) -> str | None:
    """Why a vector is not run, None if it is."""
    grants = vector.get("grants", ())
    if any("recurrence" in given for given in grants if isinstance(given, dict)):
        return "grants do not recur"
    if vector.get("filter_feature") in {"storage", "(unrestricted)"} and "charges" in vector:
        return "what one feature used has burned the credit for all; upstream takes it off when it is final only"
    if "reset" in vector:
        return "there is no reset with rollover: a grant is used until it ends"
    if vector["name"].startswith("LATEST meter"):
        return "an aggregate counts by the billing period, not by the span between two changes of grants"
    if vector.get("kind") == "reservation":
        return "nothing is reserved ahead of its usage"
    if vector.get("model") == "time_rated":
        return "grants are money, not seconds, and there is no connection fee"
    if vector["name"] == "threshold-top-up wallet absorbs all":
        return "no grant goes below zero: what is beyond all of them is uncovered"
    return None


def instant(text: str) -> datetime:
    """`+1d2h` and the like, from the start."""
    if text in {"future", "later"}:
        return START + 10 * DAY
    if text == "earlier":
        return START + 5 * DAY
    spans = {"d": DAY, "h": HOUR, "m": HOUR / 60, "s": HOUR / 3600}
    found = timedelta()
    for sign, number, unit in re.findall(r"([+-]?)([0-9]+)([dhms])", text):
        found += (-1 if sign == "-" else 1) * int(number) * spans[unit]
    return START + found


def granted(number: int, given: Any) -> Grant:
    """A vector's grant."""
    if isinstance(given, str):
        given = {"amount": given}
    start = instant(given["effective"]) if "effective" in given else START
    if given.get("paid") is False:
        start = START + 100 * DAY  # one that is to be paid for first takes effect when it is
    end = instant(given["expires"]) if "expires" in given else None
    name, priority = given.get("id", f"g{number}"), given.get("priority", 10)
    return grant(name, given["amount"], start, end, given.get("features", ()), priority)


def grants_of(vector: Vector) -> list[Grant]:
    """All its grants, numbered from 1."""
    return [granted(number, given) for number, given in enumerate(vector.get("grants", ()), 1)]


def world_of(*records: Record) -> World:
    """A world whose time stands at the start."""
    return World(*records, rules=TimeRules(window_seconds=60, late_windows=3))


def features(*names: str, mode: SettlementMode = SettlementMode.CREDIT_ONLY) -> list[Record]:
    """A customer whose plan has features at 1 a unit."""
    records = [record for name in names for record in metered(name)]
    return [*records, plan(*(card(name) for name in names)), customer(), subscription(mode)]


def run_charges(vector: Vector) -> World:
    """A plan and a subscription for each of the vector's charges, in order."""
    records: list[Record] = [customer()]
    usage = []
    for number, charge in enumerate(vector.get("charges", ())):
        feature, key = charge.get("feature"), f"charge{number}"
        mode = SettlementMode(charge["settlement_mode"])
        if charge["type"] == "flat_fee":
            cards = [card(feature, Pricing(Flat(D(charge["amount"])), "USD"), key)]
        else:
            feature = feature or key
            records += metered(feature)
            cards = [
                card(feature, Pricing(price_from_v1({"type": "unit", "amount": charge["unit_amount"]}), "USD"), key)
            ]
            usage.append(event(key, feature, D(charge["usage"]), START + number * HOUR / 60))
        start = START + number * HOUR / 60
        records += [plan(*cards, key=key), subscription(mode, start, name=key, plan_key=key)]
    world = world_of(*records, *grants_of(vector))
    for number in range(len(vector.get("charges", ()))):
        world.beat(START + number * HOUR / 60)
        world.use(*(found for found in usage if found["id"] == f"charge{number}"))
    return world


def available(world: World, feature: str | None) -> tuple[Decimal, Decimal]:
    """What was granted that may pay for a feature, and what is left of it less what the feature owes."""
    account = world.group.accounts[ID]
    grants = [found for found in account.wallet.grants if found.effective_at <= world.now]
    if feature is None:
        return sum((found.amount for found in grants), ZERO), world.balance.live
    may_pay = [g for g in grants if not g.features or feature in g.features]
    left = sum((g.amount - world.paid().get(g.id, ZERO) for g in may_pay), ZERO)
    return sum((g.amount for g in may_pay), ZERO), left


def run_balance(vector: Vector) -> None:
    world = run_charges(vector)
    (expected,) = vector["expected"]
    feature = vector.get("filter_feature")
    granted_, live = available(world, feature)
    if "balance" in expected:
        assert granted_ == live == D(expected["balance"])
        return
    advanced = any(charge.get("advanced") for charge in vector["charges"])
    assert live == D(expected["live"])
    assert (live if advanced else granted_) == D(expected["settled"])
    if feature is None:
        assert (world.balance.access == "blocked") == (
            world.balance.live <= 0 and world.group.accounts[ID].mode != INVOICE
        )


def run_pending(vector: Vector) -> None:
    # All are made before any of them takes effect.
    world = world_of(*features("a"), *(replace(found, created_at=START) for found in grants_of(vector)))
    now, later = vector["expected"]
    assert [world.balance.settled, world.balance.pending] == [D(now["settled"]), D(now["pending"])]
    world.beat(START + 11 * DAY)
    assert world.balance.settled == D(later["settled"])


def run_collection(vector: Vector) -> None:
    collect = vector["collect"]
    records = [record for name in ("api", "other") for record in metered(name)]
    used = collect.get("feature", "other")
    world = world_of(*records, plan(card("api"), card("other")), customer(), subscription(), *grants_of(vector))
    world.use(event("1", used, D(collect["amount"]), START))
    assert world.paid() == {row["grant"]: D(row["amount"]) for row in vector["expected"]}


def run_correction(vector: Vector) -> None:
    """What was collected is corrected by reaching a cheaper volume tier."""
    collected = {row["grant"]: D(row["amount"]) for row in vector["collected"]}
    whole, back = sum(collected.values(), ZERO), D(vector["correct"])
    cheaper = (whole - back) / (2 * whole)
    pricing = Pricing(Volume((Tier(whole, D(1)), Tier(None, cheaper))), "USD")
    grants = [grant(name, amount, features=["a"] if name == "restricted" else ()) for name, amount in collected.items()]
    world = world_of(*metered("a"), plan(card("a", pricing)), customer(), subscription(INVOICE), *grants)
    world.use(event("1", "a", whole, START))
    assert world.paid() == collected
    world.use(event("2", "a", whole, START))
    given = {name: amount - world.paid().get(name, ZERO) for name, amount in collected.items()}
    assert given == {row["grant"]: D(row["amount"]) for row in vector["expected"]}
    assert list(reversed(collected)) == [row["grant"] for row in vector["expected"]]


def run_expiry(vector: Vector) -> None:
    grants = [
        granted(number, {"amount": given["amount"], "expires": "+1d"}) for number, given in enumerate(vector["grants"])
    ]
    world = world_of(*features("a"), *grants)
    world.use(event("1", "a", D(vector["used_before_expiry"]), START))
    world.beat(START + DAY)
    (expected,) = vector["expected"]
    assert [world.balance.live, world.balance.expired] == [D(expected["balance_after_expiry"]), D(expected["expired"])]


def run_lifecycle(vector: Vector) -> None:
    pricing = Pricing(price_from_v1(vector["price"]), "USD")
    records = [*metered("a"), plan(card("a", pricing)), customer(), subscription(INVOICE), *grants_of(vector)]
    world = World(*records, rules=TimeRules(grace=2 * DAY))
    world.beat(START + DAY)
    world.use(event("1", "a", D(vector["usage_in_period"]), START + DAY))
    world.beat(START + 32 * DAY)
    world.use(event("2", "a", D(vector["late_usage_stored_before_cutoff"]), START + 30 * DAY))
    world.beat(START + 34 * DAY)
    (expected,) = vector["expected"]
    rows = [row for row in world.charges.values() if row.period_start == START]
    assert any(row.closed for row in rows)
    found = [(row.amount, row.credits, row.uncovered) for row in rows]
    totals = [sum(figures, ZERO) for figures in zip(*found, strict=True)]
    assert totals == [D(expected[name]) for name in ("amount", "credits_total", "total")]


def run_burndown(vector: Vector) -> None:
    world = world_of(*features("a"), *grants_of(vector))
    for number, used in enumerate(vector["usage"]):
        amount, _, at = used.partition("@")
        now = instant(at) if at else START
        world.beat(max(now, world.now))
        world.use(event(str(number), "a", D(amount), now))
    (expected,) = vector["expected"]
    if "overage" in expected:
        assert world.balance.overage == D(expected["overage"])
        return
    active = {g.id: g for g in grants_of(vector) if g.effective_at <= world.now}
    left = {name: g.amount - world.paid().get(name, ZERO) for name, g in active.items()}
    assert {name: left.get(name, ZERO) for name in expected} == {name: D(value) for name, value in expected.items()}


RUNS: Final = {
    "credit_balance": run_balance,
    "credit_feature_balance": run_balance,
    "credit_pending": run_pending,
    "credit_collection_order": run_collection,
    "credit_correction": run_correction,
    "credit_expiry": run_expiry,
    "credit_lifecycle": run_lifecycle,
    "entitlement_burndown": run_burndown,
}


@pytest.mark.parametrize(
    "vector",
    [vector for vector in OPENMETER if reason_not_run(vector) is None],
    ids=lambda vector: f"{vector['group']}: {vector['name']}",
)
def test_credits_come_to_what_upstream_says(vector: Vector) -> None:
    """Balances, order of burning, corrections, expiry and late usage."""
    RUNS[vector["group"]](vector)


@pytest.mark.parametrize(
    "vector", [vector for vector in WALLETS if reason_not_run(vector) is None], ids=lambda vector: vector["name"]
)
def test_wallets_are_used_in_their_order(vector: Vector) -> None:
    """A wallet is a grant; what no wallet has goes to the last one there, and is overage here."""
    wallets = vector["params"]["wallets"]
    names = {wallet.get("only_metric") for wallet in wallets} | {used.get("metric") for used in vector["usage"]}
    names |= {kind for wallet in wallets for kind in wallet.get("fee_types", ())}
    names = {name for name in names if name} or {"any"}
    grants = [
        grant(
            wallet["id"],
            wallet["balance_cents"],
            priority=wallet["priority"],
            features=[*wallet.get("fee_types", ()), *([wallet["only_metric"]] if "only_metric" in wallet else [])],
        )
        for wallet in wallets
        if wallet["balance_cents"]
    ]
    world = world_of(*features(*sorted(names)), *grants)
    for number, used in enumerate(vector["usage"]):
        feature = used.get("metric") or used.get("fee_type") or min(names)
        world.use(event(str(number), feature, used["cents"], START))
    paid = {wallet["id"]: world.paid().get(wallet["id"], ZERO) for wallet in wallets}
    paid[wallets[-1]["id"]] += world.balance.overage
    assert paid == {name: D(amount) for name, amount in vector["expected_by_wallet"].items()}
    assert world.balance.charged == D(vector["expected_total"])


def test_every_vector_is_run_or_listed_with_a_reason() -> None:
    """Most are run."""
    listed = [vector for vector in (*OPENMETER, *WALLETS) if reason_not_run(vector)]
    assert all(vector["group"] in RUNS for vector in OPENMETER)
    assert all(vector["model"] == "wallet_waterfall" for vector in WALLETS if vector not in listed)
    assert len(listed) == 2 + 2 + 2 + 1 + 5 + 3 + 1
