"""What the control plane changes, what it refuses, and that it does neither by half."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import psycopg
import pytest
from msgspec.structs import replace
from ulid import ULID

from rating.catalog import Catalog, Customer, Grant, Phase, RateCard, SettlementMode, Subscription
from rating.meters import Aggregation, Feature, Meter
from rating.prices import Discounts, Flat, Graduated, Pricing, Tier, Unit
from tests.control.conftest import START, TOKENS, World, card, phase
from tests.plane import Plane
from tollway.control import CHANNEL, ControlCode, ControlError, CustomerDraft, GrantDraft, SubscriptionDraft
from tollway.control.head import ControlHead

D = Decimal


def test_the_log_and_the_rows_say_the_same(world: World) -> None:
    """Folding the log gives what the plane reads from the tables."""
    plane = world.plane
    subscription = plane.subscribe("acme", "pro")
    grant = plane.void_grant(plane.grant("acme", D("12.345678901234567890123"), key="a").id)
    plane.put_customer("acme", name="Acme", subjects=("other",))
    catalog = Catalog()
    for entry_id, record in enumerate(world.log(), 1):
        catalog.apply(entry_id, record)
    acme = plane.customer("acme")
    assert list(catalog.meters.values()) == plane.list_meters()
    assert sorted(catalog.features.values(), key=lambda f: f.key) == plane.list_features()
    assert sorted(catalog.plans.values(), key=lambda p: (p.key, p.version)) == plane.list_plans()
    assert list(catalog.customers.values()) == plane.list_customers() == [acme]
    assert list(catalog.subscriptions[acme.id].values()) == plane.list_subscriptions("acme") == [subscription]
    assert catalog.grants_of(acme.id) == plane.list_grants(acme.id) == [grant]
    assert grant.amount == D("12.345678901234567890123")


def test_every_entry_says_whom_it_concerns(world: World) -> None:
    """The key group and the customer stand beside the record, none where it concerns all."""
    world.plane.grant("acme", D(1))
    acme = world.plane.customer("acme")
    rows = world.rows("select kind, customer_id, key_group is null from control_log order by id")
    assert rows == [
        ("meter", None, True),
        ("feature", None, True),
        ("feature", None, True),
        ("plan", None, True),
        ("plan", None, True),
        ("customer", acme.id, False),
        ("grant", acme.id, False),
    ]


def test_the_head_is_raised_before_a_change_returns(world: World) -> None:
    """The head in Redis is the newest entry, whether this change wrote it or found it done."""
    world.plane.grant("acme", D(1), key="a")
    assert world.head() == world.plane.head() == 7
    with psycopg.connect(world.stores.postgres_dsn, autocommit=True) as connection:
        connection.execute("insert into control_log (kind, body) values ('grant', '{}')")
    world.plane.grant("acme", D(1), key="a")
    assert world.head() == 8


def test_the_head_never_falls(world: World) -> None:
    """A writer that comes late to Redis does not take the head back."""
    head = ControlHead(world.stores.redis_url)
    head.raise_to(100)
    head.close()
    world.plane.grant("acme", D(1))
    assert world.head() == 100


def test_a_change_is_notified(world: World) -> None:
    """Whoever listens is told the id of the newest entry, once per transaction."""
    with psycopg.connect(world.stores.postgres_dsn, autocommit=True) as connection:
        connection.execute(f"listen {CHANNEL}".encode())
        with world.plane.batch():
            world.plane.grant("acme", D(1))
            world.plane.grant("acme", D(2))
        told = [notice.payload for notice in connection.notifies(timeout=5, stop_after=1)]
    assert told == ["8"]


def test_a_transaction_is_one_instant(world: World) -> None:
    """Whatever it takes, and however often it asks; ids rise all the same, and grants burn as they were made."""

    def ticking() -> datetime:
        world.clock.forward(milliseconds=3)
        return world.clock.at

    with Plane(world.stores.postgres_dsn, world.stores.redis_url, ticking) as plane:
        with plane.changing() as changes:
            customer = changes.put_customer(CustomerDraft(key="globex"))
            held = changes.subscribe(customer, SubscriptionDraft(plan="pro"))
            grants = []
            for _ in range(9):
                grants.append(changes.grant(customer, GrantDraft(amount=D(1))))
                ULID.from_datetime(ticking())  # others make ids too
        later = plane.put_customer("initech")
    instants = {held.active_from, held.recorded_at, customer.recorded_at}
    instants |= {at for grant in grants for at in (grant.effective_at, grant.created_at)}
    assert len(instants) == 1
    assert later.recorded_at not in instants
    assert sorted(grants, key=Grant.burn_order) == grants


def test_losing_redis_does_not_lose_a_change(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What is committed stays, and the warning carries no address."""
    with Plane(world.stores.postgres_dsn, "redis://:secret@127.0.0.1:1/0") as plane:
        grant = plane.grant("acme", D(1))
    assert world.plane.find_grant(grant.id) == grant
    assert "control head" in caplog.text
    assert "secret" not in caplog.text


def test_a_lost_connection_is_opened_again(world: World) -> None:
    """After PostgreSQL ended both connections, the next change and the next read work."""
    world.plane.list_meters()
    world.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'tollway-control' and datname = current_database()"
    )
    assert world.plane.list_grants("acme") == []
    assert world.plane.grant("acme", D(1)).amount == 1


# -- all or nothing -----------------------------------------------------------------------------


def test_a_batch_that_fails_leaves_nothing(world: World) -> None:
    """An exception in a batch undoes all of it, in the log, the tables and Redis."""
    before = world.log(), world.head()

    def fail() -> None:
        with world.plane.batch():
            world.plane.put_customer("globex")
            world.plane.grant("globex", D(5), key="a")
            world.plane.subscribe("globex", "no_such_plan")

    with pytest.raises(ControlError):
        fail()
    assert (world.log(), world.head()) == before
    assert world.rows("select count(*) from grants") == [(0,)]
    assert [customer.key for customer in world.plane.list_customers()] == ["acme"]


def test_a_failed_write_leaves_no_entry(world: World) -> None:
    """Where PostgreSQL refuses the row, the log has no entry either, and the plane goes on."""
    with psycopg.connect(world.stores.postgres_dsn, autocommit=True) as connection:
        connection.execute("alter table grants add constraint no_more check (false) not valid")
    before = world.log()
    with pytest.raises(psycopg.errors.CheckViolation):
        world.plane.grant("acme", D(1))
    assert world.log() == before
    assert world.plane.put_customer("acme", name="Acme").name == "Acme"


def test_a_batch_sees_its_own_changes(world: World) -> None:
    """Inside a batch reads show what was changed, and no one else sees it until the end."""
    with world.plane.batch():
        grant = world.plane.grant("acme", D(1))
        assert world.plane.list_grants("acme") == [grant]
        assert world.plane.find_grant(grant.id) == grant
        assert world.rows("select count(*) from grants") == [(0,)]
        world.plane.void_grant(grant.id)
    assert world.plane.find_grant(grant.id).voided_at == world.clock.at


def test_an_operation_refused_in_a_batch_leaves_no_trace(world: World) -> None:
    """A caller that goes on after an error commits the rest, and nothing of what was refused."""
    with world.plane.batch():
        with pytest.raises(ControlError):
            world.plane.put_customer("globex", subjects=("free", "acme_api"))
        world.plane.put_customer("initech", subjects=("free",))
    assert [customer.key for customer in world.plane.list_customers()] == ["acme", "initech"]


# -- meters, features, plans --------------------------------------------------------------------


def test_the_same_content_again_changes_nothing(world: World) -> None:
    """Putting what is there writes no entry."""
    before = world.log()
    world.plane.put_meter(TOKENS)
    world.plane.put_feature(Feature("tokens", meter_key="tokens"))
    plan = world.plane.publish_plan("pro", cadence="P1M", phases=(phase(card("tokens", Unit(D("0.010")))),))
    world.plane.put_customer("acme", subjects=("acme_api",))
    assert plan.version == 1
    assert world.log() == before


def test_names_and_descriptions_may_change(world: World) -> None:
    """What is only shown can be corrected."""
    meter = Meter("tokens", "prompt", Aggregation.SUM, "$.tokens", {"model": "$.model"}, "Tokens", "All of them")
    assert world.plane.put_meter(meter) == world.plane.meter("tokens") == meter
    feature = Feature("tokens", "Tokens", "tokens")
    assert world.plane.put_feature(feature) == world.plane.feature("tokens") == feature


def test_what_a_meter_counts_never_changes(world: World, subtests: pytest.Subtests) -> None:
    """Usage rated so far would mean something else."""
    others = {
        "event_type": replace(TOKENS, event_type="other"),
        "aggregation": replace(TOKENS, aggregation=Aggregation.MAX),
        "value_property": replace(TOKENS, value_property="$.other"),
        "group_by": replace(TOKENS, group_by={}),
    }
    for path, meter in others.items():
        with subtests.test(path):
            error = refused(partial(world.plane.put_meter, meter))
            assert (error.code, error.path) == (ControlCode.IMMUTABLE, path)
            assert error.hint.startswith("make a new meter")


def test_the_order_of_texts_in_a_filter_does_not_matter(world: World) -> None:
    """The same feature and the same grant, written the other way round, are the same."""
    world.plane.put_feature(Feature("gpt", meter_key="tokens", filters={"model": ("a", "b")}))
    world.plane.grant("acme", D(1), features=("tokens", "seats"), key="k")
    before = world.log()
    world.plane.put_feature(Feature("gpt", meter_key="tokens", filters={"model": ("b", "a")}))
    world.plane.grant("acme", D(1), features=("seats", "tokens"), key="k")
    assert world.log() == before


def test_changed_content_is_a_new_plan_version(world: World) -> None:
    """The version before stays as it was."""
    first = world.plane.plan("pro")
    second = world.plane.publish_plan("pro", cadence="P1M", phases=(phase(card("tokens", Unit(D("0.02")))),))
    assert (first.version, second.version) == (1, 2)
    assert world.plane.plan("pro") == second
    assert world.plane.plan("pro", 1) == first
    back = world.plane.publish_plan("pro", cadence="P1M", phases=first.phases)
    assert back.version == 3


# -- customers ----------------------------------------------------------------------------------


def test_a_customer_is_found_by_key_and_by_id(world: World) -> None:
    """Both name the same customer, whose id never changes."""
    acme = world.plane.customer("acme")
    changed = world.plane.put_customer("acme", name="Acme Inc.", low_balance_thresholds=(D(1), D(10)))
    assert changed.id == acme.id
    assert changed.subjects == ()
    assert changed.low_balance_thresholds == (D(10), D(1))
    assert world.plane.customer(acme.id) == world.plane.customer("acme") == changed


@pytest.mark.parametrize("key", ["acme_api", "globex"])
def test_a_subject_belongs_to_one_customer(world: World, key: str) -> None:
    """What another customer has is refused, as a subject and as a key, and the error names who has it."""
    subjects = () if key == "acme_api" else ("x", "acme_api")
    error = refused(lambda: world.plane.put_customer(key, subjects=subjects))
    assert (error.code, error.path) == (ControlCode.CONFLICT, "subjects[1]" if subjects else "key")
    assert "customer `acme` has" in error.message


def test_a_key_is_a_subject_too(world: World) -> None:
    """No other customer can have a customer's key as a subject."""
    assert refused(lambda: world.plane.put_customer("globex", subjects=("acme",))).path == "subjects[0]"


def test_a_subject_that_was_let_go_is_free(world: World) -> None:
    """It can move to another customer in one batch, and back."""
    for key, other in (("globex", "acme"), ("acme", "globex")):
        with world.plane.batch():
            world.plane.put_customer(other)
            world.plane.put_customer(key, subjects=("acme_api",))
        owner = world.plane.customer(key)
        query = "select customer_id from customer_subjects where subject = 'acme_api'"
        assert world.rows(query) == [(owner.id,)]


def test_a_subject_moves_at_the_instant_of_the_change(world: World) -> None:
    """The log says when, so that usage of before stays with who had the subject; no change is no record."""
    acme = world.plane.customer("acme")
    world.clock.forward(hours=1)
    with world.plane.batch():
        world.plane.put_customer("acme", name="Acme")
        globex = world.plane.put_customer("globex", subjects=("acme_api",))
    moved_at = world.clock.at
    world.clock.forward(hours=1)
    before = len(world.log())
    assert world.plane.put_customer("globex", subjects=("acme_api",)) == globex
    assert len(world.log()) == before
    catalog = Catalog()
    for entry_id, record in enumerate(world.log(), 1):
        catalog.apply(entry_id, record)
    assert globex.recorded_at == moved_at
    assert catalog.customer_id_at("acme_api", moved_at - timedelta.resolution) == acme.id
    assert catalog.customer_id_at("acme_api", moved_at) == globex.id


def test_the_currency_stays_once_there_are_grants(world: World) -> None:
    """A customer without dealings may change it, one with credits may not."""
    assert world.plane.put_customer("acme", currency="EUR").currency == "EUR"
    world.plane.grant("acme", D(1), currency="EUR")
    error = refused(lambda: world.plane.put_customer("acme", currency="USD"))
    assert (error.code, error.path) == (ControlCode.CONFLICT, "currency")


# -- subscriptions ------------------------------------------------------------------------------


def test_a_new_subscription_ends_the_one_before(world: World) -> None:
    """At any instant one subscription is in force, and the change is without a gap."""
    first = world.plane.subscribe("acme", "pro", active_from=START, settlement_mode=SettlementMode.CREDIT_ONLY)
    world.clock.forward(days=3)
    second = world.plane.subscribe("acme", "basic", anchor=START)
    ended, found = world.plane.list_subscriptions("acme")
    assert (ended.id, ended.active_to) == (first.id, world.clock.at)
    assert found == second
    assert (second.active_from, second.active_to, second.anchor) == (world.clock.at, None, START)
    assert (first.settlement_mode, second.settlement_mode) == ("credit_only", "credit_then_invoice")
    assert first.anchor == START


def test_a_change_can_be_planned(world: World) -> None:
    """A start to come leaves the present subscription in force until then."""
    world.plane.subscribe("acme", "pro", active_from=START)
    later = START + timedelta(days=31)
    world.plane.subscribe("acme", "basic", active_from=later)
    assert [s.active_to for s in world.plane.list_subscriptions("acme")] == [later, None]
    error = refused(lambda: world.plane.subscribe("acme", "pro"))
    assert (error.code, error.path) == (ControlCode.CONFLICT, "active_from")


def test_a_subscription_is_cancelled_once(world: World) -> None:
    """It ends at the instant given; an earlier end replaces a later one, a later one is refused."""
    subscription = world.plane.subscribe("acme", "pro")
    later = world.clock.at + timedelta(days=30)
    assert world.plane.cancel_subscription(subscription.id, later).active_to == later
    ended = world.plane.cancel_subscription(subscription.id)
    assert ended.active_to == world.clock.at
    assert world.plane.cancel_subscription(subscription.id, world.clock.at) == ended
    assert refused(lambda: world.plane.cancel_subscription(subscription.id, later)).code == ControlCode.CONFLICT
    assert world.plane.subscription(subscription.id) == ended


def test_a_planned_subscription_cancelled_before_its_start_never_is(world: World) -> None:
    """Its time is empty, and the place is free."""
    planned = world.plane.subscribe("acme", "pro", active_from=START + timedelta(days=9))
    ended = world.plane.cancel_subscription(planned.id)
    assert ended.active_to == ended.active_from
    assert world.plane.subscribe("acme", "basic").active_to is None


def test_a_subscription_key_makes_repeating_safe(world: World) -> None:
    """The same terms return the subscription there is; other terms take its place, and the key."""
    first = world.plane.subscribe("acme", "pro", key="main")
    world.plane.publish_plan("pro", cadence="P1M", phases=(phase(card("tokens", Unit(D(7)))),))
    world.clock.forward(days=1)
    assert world.plane.subscribe("acme", "pro", key="main") == first
    second = world.plane.subscribe("acme", "pro", version=2, key="main")
    assert (second.plan_version, second.id == first.id) == (2, False)
    world.clock.forward(days=1)
    assert world.plane.subscribe("acme", "pro", key="main") == second
    assert world.rows("select key from subscriptions order by id") == [(None,), ("main",)]
    world.plane.cancel_subscription(second.id)
    assert world.plane.subscribe("acme", "pro", key="main").id != second.id


# -- grants -------------------------------------------------------------------------------------


def test_a_grant_key_makes_repeating_safe(world: World) -> None:
    """The same content returns the grant there is, also where the instants were left to the moment."""
    first = world.plane.grant("acme", D("10.50"), key="may", expires_after="P1M", features=("tokens",))
    assert first.effective_at == world.clock.at
    assert first.expires_at == world.clock.at.replace(month=4)
    world.clock.forward(days=2)
    again = world.plane.grant("acme", D("10.5"), key="may", expires_after="P1M", features=("tokens",))
    assert again == first
    world.plane.put_customer("globex")
    assert world.plane.grant("globex", D(1), key="may").id != first.id


def test_a_grant_key_with_other_content_is_refused(world: World, subtests: pytest.Subtests) -> None:
    """It would be unclear which of the two was meant."""
    first = GrantDraft(amount=D(10), key="may")
    others = {
        "amount": replace(first, amount=D(11)),
        "priority": replace(first, priority=11),
        "features": replace(first, features=("tokens",)),
        "effective_at": replace(first, effective_at=START),
        "expires_at": replace(first, expires_after="P1D"),
        "name": replace(first, name="other"),
    }
    with world.plane.changing() as changes:
        changes.grant("acme", first)
        for path, other in others.items():
            with subtests.test(path):
                error = refused(partial(changes.grant, "acme", other))
                assert (error.code, error.path) == (ControlCode.KEY_REUSED, path)


def test_grants_of_the_same_instant_burn_in_the_order_they_were_made(world: World) -> None:
    """Ids rise, and decide where all else is equal."""
    made = [world.plane.grant("acme", D(amount)) for amount in range(1, 20)]
    assert world.plane.list_grants("acme") == made


def test_only_what_is_left_of_a_grant_can_be_voided(world: World) -> None:
    """One that expired or is used up is a conflict; voiding twice is not."""
    grant = world.plane.grant("acme", D(10))
    voided = world.plane.void_grant(grant.id)
    world.clock.forward(days=1)
    assert world.plane.void_grant(grant.id) == voided
    expired = world.plane.grant("acme", D(10), effective_at=START, expires_after="PT1H")
    assert refused(lambda: world.plane.void_grant(expired.id)).code == ControlCode.CONFLICT
    used = world.plane.grant("acme", D(10))
    with psycopg.connect(world.stores.postgres_dsn, autocommit=True) as connection:
        # The part of the ledger that counts here, whatever else belongs to a row of it.
        connection.execute("create schema part; create table part.credit_entries (like credit_entries)")
        connection.execute(
            "insert into part.credit_entries (customer_id, grant_id, amount) values (%s, %s, 4), (%s, %s, 6)",
            (used.customer_id, used.id) * 2,
        )
        name = connection.info.dbname
        connection.execute(f"alter database {name} set search_path to part, public".encode())
    with Plane(world.stores.postgres_dsn, world.stores.redis_url, world.clock) as plane:
        assert "used up" in refused(lambda: plane.void_grant(used.id)).message


# -- what is refused ----------------------------------------------------------------------------

NAIVE = datetime(2026, 3, 1)  # noqa: DTZ001
TIERS = Graduated((Tier(None, D(1)),))


def _publish(*phases: Phase, **other: str) -> Callable[[Plane], object]:
    return lambda plane: plane.publish_plan("new", phases=phases, **({"cadence": "P1M"} | other))  # type: ignore[arg-type]


def _card(pricing: Pricing, feature: str | None = "tokens") -> Phase:
    return phase(RateCard("card", feature, pricing))


REFUSED: dict[str, tuple[Callable[[Plane], object], str, str]] = {
    "a feature of an unknown meter": (
        lambda plane: plane.put_feature(Feature("x", meter_key="y")), "not_found", "meter_key",
    ),
    "a filter by a dimension that the meter does not have": (
        lambda plane: plane.put_feature(Feature("x", meter_key="tokens", filters={"region": ("eu",)})),
        "invalid", "filters.region",
    ),
    "another meter for a feature": (
        lambda plane: plane.put_feature(Feature("seats", meter_key="tokens")), "immutable", "meter_key",
    ),
    "a text that PostgreSQL could not hold": (
        lambda plane: plane.put_feature(Feature("x", "a\x00b")), "invalid", "name",
    ),
    "a plan without phases": (_publish(), "invalid", "phases"),
    "a plan with a key that is none": (
        lambda plane: plane.publish_plan("No Key", cadence="P1M", phases=(phase(),)), "invalid", "key",
    ),
    "a plan with a cadence that is none": (_publish(phase(), cadence="month"), "invalid", "cadence"),
    "a plan with a cadence below a minute": (_publish(phase(), cadence="PT59S"), "invalid", "cadence"),
    "a rate card with a cadence below a minute": (
        _publish(phase(RateCard("card", "tokens", Pricing(Unit(D(1)), "USD"), cadence="PT1S"))),
        "invalid", "phases[0].rate_cards[0].cadence",
    ),
    "a plan with a currency that is none": (_publish(phase(), currency="usd"), "invalid", "currency"),
    "two phases of one key": (
        _publish(phase(duration="P1M"), phase()), "invalid", "phases[1].key",
    ),
    "too many phases": (
        _publish(*(phase(key=f"p_{n}", duration="P100Y") for n in range(51))), "invalid", "phases",
    ),
    "a phase without an end before another": (
        _publish(phase(key="a"), phase(key="b")), "invalid", "phases[0].duration",
    ),
    "two rate cards of one feature": (
        _publish(phase(card("tokens"), card("tokens", key="b"))),
        "invalid", "phases[0].rate_cards[1].feature_key",
    ),
    "a rate card for an unknown feature": (
        _publish(phase(card("gone"))), "not_found", "phases[0].rate_cards[0].feature_key",
    ),
    "a price by usage for a feature without a meter": (
        _publish(phase(card("seats"))), "invalid", "phases[0].rate_cards[0].feature_key",
    ),
    "a price by usage for no feature": (
        _publish(phase(card(None, TIERS))), "invalid", "phases[0].rate_cards[0].feature_key",
    ),
    "a rate card in another currency than its plan": (
        _publish(phase(card("tokens", currency="EUR"))),
        "invalid", "phases[0].rate_cards[0].pricing.currency",
    ),
    "free units of a flat price": (
        _publish(_card(Pricing(Flat(D(1)), "USD", None, Discounts(usage=D(1))))),
        "invalid", "phases[0].rate_cards[0].discounts.usage",
    ),
    "a customer's key with a slash": (lambda plane: plane.put_customer("a/b"), "invalid", "key"),
    "an empty subject": (lambda plane: plane.put_customer("x", subjects=("a", "")), "invalid", "subjects[1]"),
    "a threshold of zero": (
        lambda plane: plane.put_customer("x", low_balance_thresholds=(D(0),)),
        "invalid", "low_balance_thresholds[0]",
    ),
    "a subscription of an unknown customer": (
        lambda plane: plane.subscribe("x", "pro"), "not_found", "customer",
    ),
    "a subscription to an unknown plan": (lambda plane: plane.subscribe("acme", "x"), "not_found", "plan"),
    "a subscription to an unknown version": (
        lambda plane: plane.subscribe("acme", "pro", version=9), "not_found", "version",
    ),
    "a subscription from an instant without an offset": (
        lambda plane: plane.subscribe("acme", "pro", active_from=NAIVE), "invalid", "active_from",
    ),
    "an unknown subscription": (lambda plane: plane.cancel_subscription("x"), "not_found", "id"),
    "a grant of nothing": (lambda plane: plane.grant("acme", D(0)), "invalid", "amount"),
    "a grant of no number": (lambda plane: plane.grant("acme", D("NaN")), "invalid", "amount"),
    "a grant in another currency": (
        lambda plane: plane.grant("acme", D(1), currency="EUR"), "conflict", "currency",
    ),
    "a grant for an unknown feature": (
        lambda plane: plane.grant("acme", D(1), features=("seats", "gone")), "not_found", "features[1]",
    ),
    "a grant of priority 0": (lambda plane: plane.grant("acme", D(1), priority=0), "invalid", "priority"),
    "a grant that expires before it starts": (
        lambda plane: plane.grant("acme", D(1), expires_at=START), "invalid", "expires_at",
    ),
    "a grant from a year without an end": (
        lambda plane: plane.grant("acme", D(1), effective_at=START.replace(year=9999)),
        "invalid", "effective_at",
    ),
    "a grant with two expiries": (
        lambda plane: plane.grant("acme", D(1), expires_at=START, expires_after="P1M"),
        "invalid", "expires_after",
    ),
    "a grant that expires after a duration that is none": (
        lambda plane: plane.grant("acme", D(1), expires_after="1M"), "invalid", "expires_after",
    ),
    "an unknown grant": (lambda plane: plane.void_grant("a\x00b"), "not_found", "id"),
}  # fmt: skip


def test_what_cannot_be_is_refused_where_it_is_wrong_with_what_to_do(world: World, subtests: pytest.Subtests) -> None:
    """Each error names the path and a remedy, and nothing is written."""
    before = world.log()
    for case, (change, code, path) in REFUSED.items():
        with subtests.test(case):
            error = refused(partial(change, world.plane))
            assert (error.code, error.path) == (code, path)
            assert error.message.startswith(f"`{path}`: ")
            assert error.hint
            assert str(error) == f"{error.message}\nhint: {error.hint}"
            assert world.log() == before


def test_a_subscription_begins_at_most_so_many_periods_ago(world: World) -> None:
    """Each of them would have to be looked at: the refusal says from when on it may begin."""
    world.plane.publish_plan("minutely", cadence="PT1M", phases=(phase(card("tokens")),))
    since = world.clock.at - timedelta(minutes=10_000)
    error = refused(lambda: world.plane.subscribe("acme", "minutely", active_from=since - timedelta(seconds=1)))
    assert (error.code, error.path) == ("invalid", "active_from")
    assert "2026-02-22T03:20:00Z" in error.message
    assert "10,000" in error.hint
    assert world.plane.subscribe("acme", "minutely", active_from=since).active_from == since


def test_a_plan_in_another_currency_is_refused(world: World) -> None:
    """Customer, plan and grants are in one currency."""
    euro = phase(card("tokens", currency="EUR"))
    world.plane.publish_plan("euro", cadence="P1M", phases=(euro,), currency="EUR")
    error = refused(lambda: world.plane.subscribe("acme", "euro"))
    assert (error.code, error.path) == (ControlCode.CONFLICT, "plan")


# -- many at once -------------------------------------------------------------------------------


def drafts(count: int) -> list[CustomerDraft]:
    """Customers with a subscription and a grant each."""
    return [
        CustomerDraft(
            key=f"customer_{number:05}",
            subjects=(f"subject_{number:05}",),
            subscription=SubscriptionDraft(plan="pro", active_from=START, key="main"),
            grants=(GrantDraft(amount=D(number + 1), key="first"),),
        )
        for number in range(count)
    ]


def test_many_customers_are_set_up_at_once(world: World) -> None:
    """In one transaction, in order, and again without effect."""
    made = world.plane.bulk_customers(drafts(300))
    assert [customer.key for customer in made] == [draft.key for draft in drafts(300)]
    assert world.plane.count_customers() == 301
    assert world.plane.list_customers(2, offset=1) == made[:2]
    log = world.log()
    assert [type(record) for record in log[6:8]] == [Customer, Subscription]
    assert len(log) == 6 + 900
    assert world.head() == world.plane.head() == len(log)
    assert world.plane.bulk_customers(drafts(300)) == made
    assert world.log() == log


def test_one_bad_customer_among_many_leaves_none(world: World) -> None:
    """The error says which."""
    bad = CustomerDraft(key="bad", grants=(GrantDraft(amount=D(1)), GrantDraft(amount=D(-1))))
    error = refused(lambda: world.plane.bulk_customers([*drafts(10), bad]))
    assert error.path == "[10].grants[1].amount"
    assert world.plane.count_customers() == 1


@pytest.mark.parametrize(
    ("draft", "path"),
    [
        (CustomerDraft(key="a\x00b"), "key"),
        (CustomerDraft(key="initech", subjects=("fine", "a\x00b")), "subjects[1]"),
        (CustomerDraft(key="acme", grants=(GrantDraft(amount=D(1), key="a\x00b"),)), "grants[0].key"),
    ],
)
def test_a_text_that_no_row_can_hold_is_refused_in_a_bulk_too(world: World, draft: CustomerDraft, path: str) -> None:
    """What is looked up for many customers at once names the field, as for one alone; nobody is written."""
    before = world.plane.count_customers()
    with pytest.raises(ControlError) as refused:
        world.plane.bulk_customers([CustomerDraft(key="hooli"), draft])
    assert refused.value.path.endswith(path)
    assert world.plane.count_customers() == before


def test_a_batch_and_a_bulk_within_it_see_each_other(world: World) -> None:
    """What a batch did before is not read over by what a bulk looks up."""
    world.plane.grant("acme", D(1), key="old")
    with world.plane.batch():
        world.plane.subscribe("acme", "pro", key="main")
        world.plane.grant("acme", D(2), key="new")
        world.plane.put_customer("globex", subjects=("g",))
        again = (GrantDraft(amount=D(1), key="old"), GrantDraft(amount=D(2), key="new"))
        world.plane.bulk_customers(
            [
                CustomerDraft(key="acme", subscription=SubscriptionDraft(plan="pro", key="main"), grants=again),
                CustomerDraft(key="globex", subjects=("g",)),
            ]
        )
    assert [grant.key for grant in world.plane.list_grants("acme")] == ["old", "new"]
    assert len(world.plane.list_subscriptions("acme")) == 1


def refused(change: Callable[[], object]) -> ControlError:
    """The error that a change ends in."""
    with pytest.raises(ControlError) as caught:
        change()
    return caught.value
