"""Catalog files: exact, refused with a place and a remedy, and applied once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from rating.catalog import Catalog, Grant, PlanVersion
from rating.events import BYTE_ORDER_MARK
from rating.prices import Dynamic, Flat, Free, Graduated, Package, PaymentTerm, Price, Tier, Unit, Volume
from tests.conftest import Stores
from tests.control.conftest import START, World
from tollway.catalog_file import CatalogFileError, apply, load_catalog_file, read_catalog, records
from tollway.control import ControlError

D = Decimal
EXAMPLES = Path(__file__).parents[2] / "config" / "catalog"

SMALL = """
meters:
  - {key: calls, event_type: call, aggregation: COUNT, group_by: {model: $.model}}
features:
  - {key: calls, meter: calls, filters: {model: [4, gpt-5, true]}}
plans:
  - key: pro
    cadence: P1M
    settlement_mode: credit_only
    rate_cards:
      - {feature: calls, price: {type: unit, amount: 0.01}}
customers:
  - key: globex
    subjects: [g_1, 010]
    low_balance_thresholds: [1, 2.50]
    subscription: {plan: pro, from: 2026-01-01}
    grants:
      - {key: first, amount: 10.10, expires_after: P1Y}
      - {key: second, amount: 5}
"""


def price_of(text: str) -> Price:
    """The price that a rate card with it has."""
    text = f"""plans: [{{key: p, cadence: P1M, rate_cards: [{{key: c, feature: f, price: {text}}}]}}]"""
    return read_catalog(text).plans[0].phases[0].rate_cards[0].pricing.price


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("{type: free}", Free()),
        ("{type: unit, amount: 0.1}", Unit(D("0.1"))),
        ("{type: unit, amount: '0.1'}", Unit(D("0.1"))),
        ("{type: unit, amount: 1e-7}", Unit(D("0.0000001"))),
        ("{type: unit, amount: 010}", Unit(D(10))),
        ("{type: unit, amount: 90071992547409930000001}", Unit(D(90071992547409930000001))),
        (
            "{type: unit, amount: 0.1000000000000000055511151231257827}",
            Unit(D("0.1000000000000000055511151231257827")),
        ),
        ("{type: unit, amount: 1, maximum_amount: 5}", Unit(D(1), maximum_amount=D(5))),
        (
            "{type: graduated, tiers: [{up_to_amount: 9, unit_price: 0.1, flat_price: 5}, {unit_price: 0}]}",
            Graduated((Tier(D(9), D("0.1"), D(5)), Tier(None, D(0)))),
        ),
        (
            "{type: volume, tiers: [{up_to_amount: 9, flat_price: 1}, {unit_price: {amount: 2}}]}",
            Volume((Tier(D(9), None, D(1)), Tier(None, D(2)))),
        ),
        ("{type: package, amount: 0.4, quantity_per_package: 1000}", Package(D("0.4"), D(1000))),
        ("{type: flat, amount: 9, payment_term: in_arrears}", Flat(D(9), PaymentTerm.IN_ARREARS)),
        ("{type: dynamic, multiplier: 1.2}", Dynamic(D("1.2"))),
        (
            "{type: tiered, mode: volume, tiers: [{unitPrice: {type: unit, amount: '3'}, flatPrice: null}]}",
            Volume((Tier(None, D(3)),)),
        ),
        ("{type: package, amount: '1', quantityPerPackage: '2'}", Package(D(1), D(2))),
    ],
)
def test_a_price_is_what_was_written_to_the_last_digit(text: str, price: Price) -> None:
    """Quoted or not, in snake case or as v1 has it, no amount passes through a float."""
    found = price_of(text)
    assert found == price
    assert str(found) == str(price) or "1e-7" in text


def test_texts_are_not_guessed_at() -> None:
    """A number, a date, a `no` where a text belongs is that text."""
    file = read_catalog("customers: [{key: no, name: 2026-03-01, subjects: [010, 1_000, 1.10, on, 0x1F]}]")
    assert file.customers[0].key == "no"
    assert file.customers[0].name == "2026-03-01"
    assert file.customers[0].subjects == ("010", "1_000", "1.10", "on", "0x1F")
    assert read_catalog(SMALL).features[0].filters == {"model": ("4", "gpt-5", "true")}


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    """As some editors write it; it is no part of the first name."""
    assert read_catalog(BYTE_ORDER_MARK + SMALL.encode()) == read_catalog(SMALL)


def test_instants_have_an_offset_or_are_days() -> None:
    """A date alone is its start in UTC."""
    file = read_catalog(
        "customers:\n  - {key: a, subscription: {plan: p, from: 2026-03-01, anchor: 2026-03-01T01:00:00.5+02:00}}"
    )
    subscription = file.customers[0].subscription
    assert subscription is not None
    assert subscription.active_from == datetime(2026, 3, 1, tzinfo=UTC)
    assert subscription.anchor == datetime(2026, 2, 28, 23, 0, 0, 500_000, tzinfo=UTC)


def test_an_anchor_is_read_wherever_it_is_used() -> None:
    """The parts of a YAML file may share a value."""
    file = read_catalog(
        """
plans:
  - {key: a, cadence: P1M, rate_cards: [{feature: f, price: &p {type: unit, amount: 0.3}}]}
  - {key: b, cadence: P1M, rate_cards: [{feature: f, price: *p}]}
"""
    )
    first, second = (plan.phases[0].rate_cards[0].pricing.price for plan in file.plans)
    assert first == second == Unit(D("0.3"))


# -- refused ------------------------------------------------------------------------------------

PLAN = "plans:\n  - key: p\n    cadence: P1M\n    rate_cards:\n      - feature: f\n"
"""Its price is to be on line 6."""

UNREADABLE: dict[str, tuple[str, str, int | None]] = {
    "no YAML": ("meters: [", "$", 2),
    "not UTF-8": ("\udcff", "$", None),
    "nothing": ("", "$", None),
    "a list": ("- 1", "$", 1),
    "an unknown field": ("meters: []\nmeter: []", "$.meter", 2),
    "an unknown field deep inside": (
        PLAN + "        price: {type: unit, amount: 1, maximum: 3}",
        "$.plans[0].rate_cards[0].price.maximum",
        6,
    ),
    "a field twice": ("customers:\n  - key: a\n    name: b\n    name: c", "$.customers[0].name", 4),
    "a merge": ("customers:\n  - {<<: {key: a}}", "$.customers[0].key", 2),
    "a tag": ("customers:\n  - key: !!python/name:os.system a", "$.customers[0].key", 2),
    "nesting without end": ("[" * 100_000 + "]" * 100_000, "$" + "[0]" * 30, 1),
    "a cycle": ("customers: &c [*c]", "$.customers[0]", 1),
    "a mapping as a name": ("customers:\n  - {{a: b}: c}", "$.customers[0]", 2),
    "two documents": ("meters: []\n---\nmeters: []", "$", 2),
    "a missing field": ("meters:\n  - key: a\n    aggregation: COUNT", "$.meters[0].event_type", 2),
    "an aggregation that is none": (
        "meters:\n  - {key: a, event_type: e, aggregation: MEDIAN}",
        "$.meters[0].aggregation",
        2,
    ),
    "a path that is none": (
        "meters:\n  - key: a\n    event_type: e\n    aggregation: SUM\n    value_property: tokens",
        "$.meters[0].value_property",
        5,
    ),
    "a dimension's path that is none": (
        "meters:\n  - key: a\n    event_type: e\n    aggregation: COUNT\n    group_by:\n      m: model",
        "$.meters[0].group_by.m",
        6,
    ),
    "a filter without a meter": ("features:\n  - {key: a, filters: {m: x}}", "$.features[0].filters", 2),
    "the same key twice": ("customers:\n  - {key: a}\n  - {key: a}", "$.customers[1].key", 3),
    "no price": (PLAN, "$.plans[0].rate_cards[0].price", 5),
    "a price of an unknown type": (
        PLAN + "        price: {type: stairs}", "$.plans[0].rate_cards[0].price.type", 6,
    ),
    "an amount that is no number": (
        PLAN + "        price: {type: unit, amount: 1_000}", "$.plans[0].rate_cards[0].price.amount", 6,
    ),
    "a negative amount": (
        PLAN + "        price: {type: unit, amount: -1}", "$.plans[0].rate_cards[0].price.amount", 6,
    ),
    "a package without a size": (
        PLAN + "        price: {type: package, amount: 1}",
        "$.plans[0].rate_cards[0].price.quantity_per_package",
        6,
    ),
    "a tier's price that is no number": (
        PLAN + "        price:\n          type: volume\n          tiers:\n            - {unit_price: much}",
        "$.plans[0].rate_cards[0].price.tiers[0].unit_price",
        9,
    ),
    "a tier that does not rise": (
        PLAN + "        price:\n          type: graduated\n          tiers:\n"
        "            - {up_to_amount: 5, unit_price: 1}\n            - {up_to_amount: 5, unit_price: 1}\n"
        "            - {unit_price: 1}",
        "$.plans[0].rate_cards[0].price.tiers[1].up_to_amount",
        10,
    ),
    "a discount above 100": (
        PLAN + "        price: {type: unit, amount: 1}\n        discounts: {percentage: 101}",
        "$.plans[0].rate_cards[0].discounts.percentage",
        7,
    ),
    "a conversion without a factor": (
        PLAN + "        price: {type: unit, amount: 1}\n        unit_config: {operation: divide}",
        "$.plans[0].rate_cards[0].unit_config.conversion_factor",
        7,
    ),
    "rate cards and phases": (PLAN + "        price: {type: free}\n    phases: []", "$.plans[0]", 2),
    "a rate card without key and feature": (
        "plans:\n  - {key: p, cadence: P1M, rate_cards: [{price: {type: free}}]}",
        "$.plans[0].rate_cards[0]",
        2,
    ),
    "a truth that is a text": (
        "customers:\n  - {key: a, block_when_exhausted: 'true'}", "$.customers[0].block_when_exhausted", 2,
    ),
    "an integer that is none": (
        "customers:\n  - {key: a, subscription: {plan: p, version: 1.0}}",
        "$.customers[0].subscription.version",
        2,
    ),
    "a time without an offset": (
        "customers:\n  - {key: a, subscription: {plan: p, from: 2026-03-01T00:00:00}}",
        "$.customers[0].subscription.from",
        2,
    ),
    "a grant without a key": (
        "customers:\n  - {key: a, grants: [{amount: 1}]}", "$.customers[0].grants[0].key", 2,
    ),
    "a settlement mode that is none": (
        "plans:\n  - {key: p, cadence: P1M, settlement_mode: prepaid}", "$.plans[0].settlement_mode", 2,
    ),
    "two grants of one key": (
        "customers:\n  - key: a\n    grants:\n      - {key: k, amount: 1}\n      - {key: k, amount: 1}",
        "$.customers[0].grants[1].key",
        5,
    ),
    "a grant of nothing": (
        "customers:\n  - {key: a, grants: [{key: k, amount: 0}]}", "$.customers[0].grants[0].amount", 2,
    ),
    "a threshold that is no number": (
        "customers:\n  - {key: a, low_balance_thresholds: [few]}",
        "$.customers[0].low_balance_thresholds[0]",
        2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_is_refused_with_its_path_its_line_and_what_to_do(case: str) -> None:
    """A file that can't be used says where, and how to go on."""
    text, path, line = UNREADABLE[case]
    with pytest.raises(CatalogFileError) as caught:
        read_catalog(text.encode(errors="surrogateescape"))
    error = caught.value
    assert (error.path, error.line) == (path, line)
    assert error.message.startswith(f"`{path}`")
    assert error.hint
    assert "upTo" not in str(error)
    assert "unitPrice" not in str(error)


CONTRADICTIONS: dict[str, tuple[str, str, str, str, int]] = {
    "an unknown feature": ("{feature: calls, price", "{feature: gone, price", "not_found",
        "$.plans[0].rate_cards[0].feature", 11),
    "an unknown meter": ("meter: calls", "meter: gone", "not_found", "$.features[0].meter", 5),
    "a dimension that the meter does not have": ("filters: {model", "filters: {region", "invalid",
        "$.features[0].filters.region", 5),
    "an unknown plan": ("plan: pro", "plan: max", "not_found", "$.customers[0].subscription.plan", 16),
    "a cadence that is none": ("cadence: P1M", "cadence: monthly", "invalid", "$.plans[0].cadence", 8),
    "a price by usage that is due once": ("{feature: calls, price", "{feature: calls, cadence: once, price", "invalid",
        "$.plans[0].rate_cards[0].cadence", 11),
    "another currency": ("- key: globex", "- key: globex\n    currency: EUR", "conflict",
        "$.customers[0].subscription.plan", 17),
    "a subject twice": ("subjects: [g_1, 010]", "subjects: [g_1, acme]", "conflict",
        "$.customers[0].subjects[1]", 14),
    "a grant's unknown feature": ("amount: 5", "amount: 5, features: [x]", "not_found",
        "$.customers[0].grants[1].features[0]", 19),
    "an expiry that is none": ("P1Y", "1Y", "invalid", "$.customers[0].grants[0].expires_after", 18),
}  # fmt: skip


def test_a_contradiction_is_told_by_its_place_in_the_file_and_nothing_is_applied(
    world: World, subtests: pytest.Subtests
) -> None:
    """What the control plane refuses has the path of the file, and all before it in the file is undone."""
    before = world.log()
    for case, (old, new, code, path, line) in CONTRADICTIONS.items():
        with subtests.test(case):
            assert SMALL.count(old) == 1
            with pytest.raises(ControlError) as caught:
                apply(world.plane, read_catalog(SMALL.replace(old, new)))
            assert (caught.value.code, caught.value.path, caught.value.line) == (code, path, line)
            assert world.log() == before


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error says which file, and why."""
    with pytest.raises(CatalogFileError, match=r"none\.yaml.*No such file"):
        load_catalog_file(tmp_path / "none.yaml")


# -- applied ------------------------------------------------------------------------------------


def actions(world: World, text: str) -> dict[str, str]:
    """What applying a file did, by thing."""
    return {f"{change.kind} {change.key}": change.action for change in apply(world.plane, read_catalog(text))}


def test_applying_again_changes_nothing(world: World) -> None:
    """The first time all is made, then all is unchanged, also at another time."""
    assert actions(world, SMALL) == {
        "meter calls": "created",
        "feature calls": "created",
        "plan pro": "published v2",
        "customer globex": "created",
        "subscription globex/default": "created",
        "grant globex/first": "created",
        "grant globex/second": "created",
    }
    log = world.log()
    world.clock.forward(days=9)
    assert set(actions(world, SMALL).values()) == {"unchanged"}
    assert world.log() == log


@pytest.mark.parametrize("name", ["ai_tokens", "api_calls"])
def test_an_example_is_applied_and_stands_on_its_own(stores: Stores, name: str) -> None:
    """Read without a database it comes to the records that applying it wrote, but for ids and instants."""
    world = World(stores)
    file = load_catalog_file(EXAMPLES / f"{name}.yaml")
    with world.plane:
        apply(world.plane, file)
        log = world.log()
        assert {change.action for change in apply(world.plane, file)} == {"unchanged"}
        assert world.log() == log
    found = records(file, world.clock.at)
    assert [type(record) for record in found] == [type(record) for record in log]
    assert [r for r in found if isinstance(r, PlanVersion)] == [r for r in log if isinstance(r, PlanVersion)]


def test_a_changed_price_is_a_new_version_that_moves_no_one(world: World) -> None:
    """Whoever is subscribed stays until the file says so, and the change tells how."""
    apply(world.plane, read_catalog(SMALL))
    dearer = SMALL.replace("amount: 0.01", "amount: 0.02")
    changes = {f"{change.kind} {change.key}": change for change in apply(world.plane, read_catalog(dearer))}
    assert changes["plan pro"].action == "published v3"
    assert changes["subscription globex/default"].action == "unchanged"
    assert changes["subscription globex/default"].detail.endswith(
        "write `version: 3`, and `version_from: this_billing_cycle` for usage that waits for its price"
    )
    world.clock.forward(hours=1)
    moved = actions(world, dearer.replace("plan: pro", "plan: pro, version: 3"))
    assert moved["subscription globex/default"] == "updated"
    (held,) = world.plane.list_subscriptions("globex")
    assert (held.plan_version, held.last_version, held.active_to) == (2, 3, None)
    assert [move.at for move in held.moves] == [world.clock.at]


def test_a_changed_plan_changes_the_subscription_from_now(world: World) -> None:
    """An instant of the past is where the first one began, and does not move the change back."""
    apply(world.plane, read_catalog(SMALL))
    world.clock.forward(days=1)
    basic = SMALL.replace("plan: pro,", "plan: basic,")
    assert actions(world, basic)["subscription globex/default"] == "updated"
    assert actions(world, basic)["subscription globex/default"] == "unchanged"
    old, new = world.plane.list_subscriptions("globex")
    assert (old.active_from, old.active_to) == (datetime(2026, 1, 1, tzinfo=UTC), world.clock.at)
    assert (new.plan_key, new.active_from) == ("basic", world.clock.at)


def test_subjects_may_swap_customers_within_a_file(world: World) -> None:
    """The order of the customers does not matter."""
    text = "customers: [{key: a, subjects: [%s]}, {key: b, subjects: [%s]}]"
    actions(world, text % ("x", "y"))
    assert actions(world, text % ("y", "x")) == {"customer a": "updated", "customer b": "updated"}
    assert world.plane.customer("a").subjects == ("y",)
    assert world.plane.customer("b").subjects == ("x",)


def test_a_changed_grant_is_refused_and_nothing_is_applied(world: World) -> None:
    """Money that was granted is not edited: the error says what to do."""
    apply(world.plane, read_catalog(SMALL))
    before = world.log()
    changed = SMALL.replace("amount: 10.10", "amount: 10.11").replace("key: globex", "key: globex\n    name: G")
    with pytest.raises(ControlError) as caught:
        apply(world.plane, read_catalog(changed))
    assert (caught.value.code, caught.value.path) == ("key_reused", "$.customers[0].grants[0].amount")
    assert world.log() == before


def test_the_records_of_a_file_are_the_same_every_time() -> None:
    """So is a rating with them; grants that are equal otherwise burn in the order of the file."""
    file = read_catalog(SMALL)
    found = records(file, START)
    assert found == records(read_catalog(SMALL), START)
    catalog = Catalog()
    for entry_id, record in enumerate(found, 1):
        catalog.apply(entry_id, record)
    customer = next(iter(catalog.customers.values()))
    assert catalog.customer_id_by_subject == {"globex": customer.id, "g_1": customer.id, "010": customer.id}
    assert customer.low_balance_thresholds == (D("2.50"), D(1))
    subscription = catalog.subscription_at(customer.id, START)
    assert subscription is not None
    assert [placement.card.key for placement in catalog.placements_at(subscription, START)] == ["calls"]
    grants = catalog.grants_of(customer.id)
    assert [(grant.key, grant.amount, grant.expires_at) for grant in grants] == [
        ("first", D("10.10"), START + timedelta(days=365)),
        ("second", D(5), None),
    ]
    three = "customers: [{key: a, grants: [{key: z, amount: 1}, {key: y, amount: 1}, {key: x, amount: 1}]}]"
    granted = [record for record in records(read_catalog(three), START) if isinstance(record, Grant)]
    assert [grant.key for grant in sorted(granted, key=Grant.burn_order)] == ["z", "y", "x"]


def test_a_file_of_many_customers_is_applied_in_few_queries(world: World) -> None:
    """A thousand customers take about a second, the second time too."""
    rows = "".join(
        f"  - {{key: c_{n}, subscription: {{plan: pro}}, grants: [{{key: k, amount: {n}.5}}]}}\n" for n in range(1000)
    )
    started = datetime.now(UTC)
    first = apply(world.plane, read_catalog("customers:\n" + rows))
    second = apply(world.plane, read_catalog("customers:\n" + rows))
    assert {change.action for change in first} == {"created"}
    assert {change.action for change in second} == {"unchanged"}
    assert datetime.now(UTC) - started < timedelta(seconds=30)
