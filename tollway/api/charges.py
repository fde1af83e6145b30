"""
Charges: what each rate card comes to in each billing period, from before it begins until it is settled.

    created   the subscription has not begun
    active    the period runs, or is over and not settled
    final     the period has closed, and is paid by credits or is on an invoice that went out
    deleted   the subscription was cancelled before it began

A running period has its charges from its first moment on. One that is over and has nothing in the ledger is not listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery

from rating.catalog import Catalog, Placement, RateCard, SettlementMode
from rating.money import ZERO, plain, round_minor, use_exact
from rating.prices import Flat, Pricing, discounts_to_v1, price_to_v1
from tollway.api.filters import Asked
from tollway.api.plan_v3 import price_v3
from tollway.api.problems import bad_request
from tollway.api.stores import Stores
from tollway.api.threads import listing
from tollway.api.wire import (
    PAGE_SIZE,
    Json,
    PageNumberV3,
    PageSizeV3,
    compact,
    derived_id,
    instant,
    listed,
    page_v3,
    snake,
)
from tollway.invoicing import Before, before_parts, details_of, price_book, priced_by
from tollway.ledger_reads import Charge, ChargeStatus, Connection, CustomerHead, charges, find_customer, rows
from tollway.openmeter.features import features

CREATED, ACTIVE, FINAL, DELETED = ("created", "active", "final", "deleted")
REAL_TIME_USAGE: Final = "real_time_usage"
SORTS: Final = {
    "id": lambda body: body["id"],
    "created_at": lambda body: body["created_at"],
    "service_period.from": lambda body: body["service_period"]["from"],
    "billing_period.from": lambda body: body["billing_period"]["from"],
}

PeriodKey = tuple[str, str, datetime]


@get("/api/v3/openmeter/customers/{customer:str}/charges", tags=["Charges"])
@listing
def list_charges(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
    expand: FromQuery[list[str] | None] = None,
    sort: FromQuery[str | None] = None,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """
    The customer's charges, the oldest period first, and all but those that are deleted.

    What is used is charged at once, so `totals.booked` is of this moment; `expand=real_time_usage` adds
    `totals.realtime`, which is the same. Both are exact: amounts are rounded on invoices only.
    """
    expanded = listed(expand)
    _check("expand", expanded, (REAL_TIME_USAGE,))
    by, _, direction = (sort or "service_period.from").partition(" ")
    _check("sort", [by], tuple(SORTS))
    _check("sort", [direction], ("", "asc", "desc"))
    use_exact()
    with stores.connection() as connection:
        head = find_customer(connection, customer)
        book = price_book(connection, head.id)
        found = list(_with_status(connection, head, book))
        before = before_parts(book, [charge for charge, _ in found])
        ids = {feature.key: feature.id for feature in features(connection)} if found else {}
    bodies = [
        _body(charge, state, book, before.get(_key(charge)), head.read_at, ids, REAL_TIME_USAGE in expanded)
        for charge, state in found
        if (asked.hold("status", state) if "status" in asked.conditions else state != DELETED)
        and asked.hold("feature_key", charge.feature_key)
    ]
    bodies.sort(key=SORTS[by], reverse=direction == "desc")
    return page_v3(bodies, number, size)


def _check(name: str, values: list[str], known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            words = ", ".join(f"`{word}`" for word in known if word)
            raise bad_request(name, f"expected {words}, got `{value[:40]}`")


def _with_status(connection: Connection, head: CustomerHead, book: Catalog) -> Iterator[tuple[Charge, str]]:
    """The charges that the ledger has, and those of periods to come or without usage yet, by period."""
    booked = charges(connection, head.id)
    issued: dict[PeriodKey, Decimal] = {
        (row["subscription_id"], row["card_key"], row["period_start"]): row["charged"]
        for row in rows(connection, "issued_periods", {"customer_id": head.id})
    }
    found = [(charge, FINAL if _is_settled(charge, issued.get(_key(charge), ZERO)) else ACTIVE) for charge in booked]
    known = {_key(charge) for charge in booked}
    for subscription in book.subscriptions.get(head.id, {}).values():
        at, status = head.read_at, ACTIVE
        if subscription.active_to is not None and subscription.active_to <= subscription.active_from:
            subscription, at, status = (
                msgspec.structs.replace(subscription, active_to=None),
                subscription.active_from,
                DELETED,
            )
        elif subscription.active_from > head.read_at:
            at, status = subscription.active_from, CREATED
        elif subscription.active_to is not None and subscription.active_to <= head.read_at:
            continue
        empty = [(_empty(placement), status) for placement in book.placements_at(subscription, at)]
        found += [(charge, status) for charge, status in empty if _key(charge) not in known]
    found.sort(key=lambda pair: _key(pair[0])[2:] + _key(pair[0])[:2])
    yield from found


def _key(charge: Charge) -> PeriodKey:
    return charge.subscription_id, charge.card_key, charge.period_start


def _is_settled(charge: Charge, issued: Decimal) -> bool:
    """Whether nothing more is to happen to a charge: what credits do not cover is invoiced, unless credits are all."""
    if charge.status is not ChargeStatus.CLOSED:
        return False
    if charge.settlement_mode == SettlementMode.CREDIT_ONLY or not round_minor(charge.uncovered, charge.currency):
        return True
    return issued == charge.amount + charge.commitment


def _empty(placement: Placement) -> Charge:
    """The charge of a period that nothing was booked in."""
    subscription, period, full = placement.subscription, placement.period, placement.full_period
    return Charge(
        customer_id=subscription.customer_id,
        subscription_id=subscription.id,
        card_key=placement.card.key,
        feature_key=placement.card.feature_key,
        period_start=period.start,
        period_end=period.end,
        full_start=full.start,
        full_end=full.end,
        currency=placement.plan.currency,
        settlement_mode=subscription.settlement_mode.value,
        status=ChargeStatus.ACTIVE,
        usage=ZERO,
        events=0,
        amount=ZERO,
        commitment=ZERO,
        credits=ZERO,
        uncovered=ZERO,
        revision=0,
    )


def _totals(charge: Charge, pricing: Pricing, before: Before | None) -> Json:
    discounts = ZERO
    if charge.revision:
        discounts = sum((part.discount for part in details_of(charge, pricing, before)), ZERO)
    # What credits leave is never invoiced under `credit_only`.
    overage = charge.uncovered if charge.settlement_mode == SettlementMode.CREDIT_ONLY else ZERO
    return {
        # The ledger's amount is after discounts; a reader wants both.
        "amount": plain(charge.amount + discounts),
        "charges_total": plain(charge.commitment),
        "discounts_total": plain(discounts),
        "credits_total": plain(charge.credits),
        "overage_total": plain(overage),
        "taxes_total": "0",
        "total": plain(charge.amount + charge.commitment - charge.credits - overage),
    }


def _body(
    charge: Charge,
    status: str,
    book: Catalog,
    before: Before | None,
    now: datetime,
    feature_ids: dict[str, str],
    with_realtime: bool,
) -> Json:
    card, pricing = priced_by(book, charge)
    price = price_to_v1(pricing.price)
    totals = _totals(charge, pricing, before)
    period = {"from": instant(charge.period_start), "to": instant(charge.period_end)}
    full_period = {"from": instant(charge.full_start), "to": instant(charge.full_end)}
    place = charge.subscription_id, charge.card_key, charge.period_start.isoformat()
    recorded_at = book.subscriptions[charge.customer_id][charge.subscription_id].recorded_at
    created_at = recorded_at if charge.period_start > now else max(recorded_at, charge.period_start)
    return compact(
        {
            "id": derived_id(charge.period_start, "charge", *place),
            "name": card.name,
            "status": status,
            "customer": {"id": charge.customer_id},
            "subscription": {"id": charge.subscription_id},
            "lifecycle_controller": "system",
            "currency": charge.currency,
            "created_at": instant(created_at),
            "service_period": period,
            "full_service_period": full_period,
            "billing_period": full_period,
            "settlement_mode": charge.settlement_mode,
            "discounts": snake(discounts_to_v1(pricing.discounts)),
            "feature_key": charge.feature_key,
            "feature_id": feature_ids.get(charge.feature_key or ""),
            "price": price_v3(price),
            "quantity": plain(charge.usage),
            "totals": {"booked": totals, "realtime": totals} if with_realtime else {"booked": totals},
            **_terms(charge, card, pricing),
        }
    )


def _terms(charge: Charge, card: RateCard, pricing: Pricing) -> Json:
    """When it is to be invoiced; of a flat fee, also what proration left of it."""
    price = pricing.price
    if not isinstance(price, Flat):
        return {"type": "usage_based", "invoice_at": instant(charge.period_end)}
    whole = card.pricing.price
    assert isinstance(whole, Flat), "proration changes the amount of a price, and nothing else of it"
    in_advance = price.payment_term == "in_advance"
    return {
        "type": "flat_fee",
        "invoice_at": instant(charge.period_start if in_advance else charge.period_end),
        "payment_term": str(price.payment_term),
        "amount_before_proration": plain(whole.amount),
        "amount_after_proration": plain(price.amount),
    }


ROUTES: list[Any] = [list_charges]
