"""A deleted customer is one no longer, whoever asks; what was its own stays so."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from rating.catalog import Catalog, Customer
from sinks.postgres import migrate
from tests.control.conftest import World
from tollway.control import ControlCode, ControlError, CustomerDraft, GrantDraft, SubscriptionDraft

D = Decimal


def folded(world: World) -> Catalog:
    """What the dataflow sees."""
    catalog = Catalog()
    for entry_id, record in enumerate(world.log(), 1):
        catalog.apply(entry_id, record)
    return catalog


def test_its_subjects_are_nobodys_from_then_on(world: World) -> None:
    """Its key as one too; before, they are its own; others may take them."""
    acme = world.plane.customer("acme")
    gone = world.plane.delete_customer("acme")
    assert (gone.deleted_at, gone.recorded_at, gone.subjects) == (world.clock.at, world.clock.at, ())
    assert world.plane.customer("acme") == gone
    assert world.rows("select subject from customer_subjects") == []
    catalog = folded(world)
    for subject in ("acme", "acme_api"):
        assert catalog.customer_id_at(subject, world.clock.at) is None
        assert catalog.customer_id_at(subject, world.clock.at - world.clock.at.resolution) == acme.id
    world.clock.forward(hours=1)
    heir = world.plane.put_customer("heir", subjects=("acme", "acme_api"))
    assert folded(world).customer_id_at("acme", world.clock.at) == heir.id


def test_nothing_is_given_to_it(world: World) -> None:
    """Each way says who was deleted and when; what is left of a grant may still be taken back."""
    plane = world.plane
    made = plane.subscribe("acme", "pro")
    grant = plane.grant("acme", D(5))
    with pytest.raises(ControlError, match="cancel that subscription first"):
        plane.delete_customer("acme")
    later = world.clock.at.replace(day=20)
    plane.cancel_subscription(made.id, later)
    with pytest.raises(ControlError, match=made.id):
        plane.delete_customer("acme")
    plane.cancel_subscription(made.id)
    planned = plane.subscribe("acme", "pro", active_from=later)
    with pytest.raises(ControlError, match=planned.id):
        plane.delete_customer("acme")
    plane.cancel_subscription(planned.id)
    gone = plane.delete_customer("acme")
    log = world.log()
    draft = CustomerDraft(key="acme", subscription=SubscriptionDraft(plan="pro"), grants=(GrantDraft(amount=D(1)),))
    for refused in (
        lambda: plane.subscribe("acme", "pro"),
        lambda: plane.subscribe(gone.id, "pro", active_from=later),
        lambda: plane.grant("acme", D(1)),
        lambda: plane.grant(gone.id, D(1), key="k"),
        lambda: plane.put_customer("acme"),
        lambda: plane.bulk_customers([draft]),
        lambda: plane.delete_customer("acme"),
    ):
        with pytest.raises(ControlError, match=r"`acme`, deleted at 2026-03-01T02:00:00Z") as caught:
            refused()
        assert caught.value.code is ControlCode.CONFLICT
    assert world.log() == log
    assert plane.void_grant(grant.id).voided_at == world.clock.at


def test_a_deletion_that_was_noted_beside_the_catalog_becomes_part_of_it(world: World) -> None:
    """The record and the entry say so, its subjects are free, and a subscription that it was given since ends."""
    acme = world.plane.customer("acme")
    with psycopg.connect(world.stores.postgres_dsn) as connection:
        connection.execute(
            "insert into api_notes (kind, ref, body) values ('customer', %s, %s)",
            (acme.id, '{"metadata": {"a": "b"}, "deleted_at": "2026-03-01T01:00:00.000001Z"}'),
        )
    made = world.plane.subscribe("acme", "pro")
    world.plane.subscribe("acme", "basic", active_from=world.clock.at.replace(year=2150))
    other = world.plane.subscribe(world.plane.put_customer("other").id, "pro")
    text = (Path(migrate.MIGRATIONS) / "0012_deletions_and_applied_terms.sql").read_text()
    with psycopg.connect(world.stores.postgres_dsn) as connection:
        connection.execute(text[text.index("-- No control entry") :].encode())
    gone = world.plane.customer("acme")
    assert gone == replace(acme, subjects=(), recorded_at=gone.deleted_at, deleted_at=gone.deleted_at)
    assert str(gone.deleted_at) == "2026-03-01 01:00:00.000001+00:00"
    ended, never = world.plane.list_subscriptions("acme")
    assert ended.active_to is not None
    assert made.active_from < ended.active_to < never.active_from == never.active_to
    assert world.plane.subscription(other.id) == other
    assert isinstance(world.log()[-1], Customer)
    catalog = folded(world)
    assert catalog.customers[acme.id] == gone
    assert list(catalog.subscriptions[acme.id].values()) == world.plane.list_subscriptions("acme")
    groups = world.rows(f"select distinct key_group from control_log where customer_id = '{acme.id}'")
    assert len(groups) == 1
    assert world.rows("select subject from customer_subjects") == [("other",)]
    assert world.rows("select body ? 'deleted_at', body ->> 'metadata' from api_notes") == [(False, '{"a": "b"}')]
