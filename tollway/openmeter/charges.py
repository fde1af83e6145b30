"""
Charges: what each rate card comes to in each billing period, from before it begins until it is settled.

    created   the subscription has not begun
    active    the period runs, or is over and not settled
    final     the period has closed, and is paid by credits or is on an invoice that went out
    deleted   the subscription was cancelled before it began

A running period has its charges from its first moment on. One that is over and has nothing in the ledger is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery

from rating.catalog import Catalog, Placement, RateCard, SettlementMode
from rating.money import ZERO, plain, round_minor, use_exact
from rating.prices import Flat, Pricing, discounts_to_v1
from tollway import ledger_reads as ledger
from tollway.invoicing import Before, before_parts, details_of, price_book, priced_by
from tollway.ledger_reads import ChargeStatus, Connection, CustomerHead, charges, find_customer, rows
from tollway.openmeter.features import features
from tollway.openmeter.filters import Asked
from tollway.openmeter.prices import PriceV3, price_v3
from tollway.openmeter.problems import bad_request
from tollway.openmeter.routes import v3
from tollway.openmeter.shapes import Amount, NumberedPage, Period, Reference, Totals, View
from tollway.openmeter.stores import Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import (
    PAGE_SIZE,
    Json,
    PageNumberV3,
    PageSizeV3,
    derived_id,
    listed,
)

Status = Literal["created", "active", "final", "deleted"]
PeriodKey = tuple[str, str, datetime]

CREATED: Final = "created"
ACTIVE: Final = "active"
FINAL: Final = "final"
DELETED: Final = "deleted"
REAL_TIME_USAGE: Final = "real_time_usage"


class ChargeTotals(View, frozen=True):
    """Both are of this moment: what is used is charged at once."""

    booked: Totals
    realtime: Totals | None = None


class Charge(View, frozen=True):
    """What a rate card came to in a billing period."""

    id: str
    type: Literal["flat_fee", "usage_based"]
    name: str
    status: Status
    customer: Reference
    subscription: Reference
    currency: str
    created_at: datetime
    lifecycle_controller: str
    service_period: Period
    full_service_period: Period
    billing_period: Period
    invoice_at: datetime
    settlement_mode: SettlementMode
    price: PriceV3
    quantity: Amount
    totals: ChargeTotals
    discounts: Json | None = None
    payment_term: Literal["in_advance", "in_arrears"] | None = None
    amount_before_proration: Amount | None = None
    amount_after_proration: Amount | None = None
    feature_key: str | None = None
    feature_id: str | None = None


SORTS: Final[Mapping[str, Callable[[Charge], Any]]] = {
    "id": lambda charge: charge.id,
    "created_at": lambda charge: charge.created_at,
    "service_period.from": lambda charge: charge.service_period.from_,
    "billing_period.from": lambda charge: charge.billing_period.from_,
}


@v3(get, "/customers/{customer:str}/charges", on=listing, tags=["Charges"])
def list_charges(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
    expand: FromQuery[list[str] | None] = None,
    sort: FromQuery[str | None] = None,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> NumberedPage[Charge]:
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
    views = [
        _view(charge, state, book, before.get(_key(charge)), head.read_at, ids, REAL_TIME_USAGE in expanded)
        for charge, state in found
        if (asked.hold("status", state) if "status" in asked.conditions else state != DELETED)
        and asked.hold("feature_key", charge.feature_key)
    ]
    views.sort(key=SORTS[by], reverse=direction == "desc")
    return NumberedPage.of(views, number, size)


def _check(name: str, values: list[str], known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            words = ", ".join(f"`{word}`" for word in known if word)
            raise bad_request(name, f"expected {words}, got `{value[:40]}`")


def _with_status(connection: Connection, head: CustomerHead, book: Catalog) -> Iterator[tuple[ledger.Charge, Status]]:
    """The charges that the ledger has, and those of periods to come or without usage yet, by period."""
    booked = charges(connection, head.id)
    issued: dict[PeriodKey, Decimal] = {
        (row["subscription_id"], row["card_key"], row["period_start"]): row["charged"]
        for row in rows(connection, "issued_periods", {"customer_id": head.id})
    }
    found: list[tuple[ledger.Charge, Status]] = [
        (charge, FINAL if _is_settled(charge, issued.get(_key(charge), ZERO)) else ACTIVE) for charge in booked
    ]
    known = {_key(charge) for charge in booked}
    for subscription in book.subscriptions.get(head.id, {}).values():
        at = head.read_at
        status: Status = ACTIVE
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


def _key(charge: ledger.Charge) -> PeriodKey:
    return charge.subscription_id, charge.card_key, charge.period_start


def _is_settled(charge: ledger.Charge, issued: Decimal) -> bool:
    """Whether nothing more is to happen to a charge: what credits do not cover is invoiced, unless credits are all."""
    if charge.status is not ChargeStatus.CLOSED:
        return False
    if charge.settlement_mode == SettlementMode.CREDIT_ONLY or not round_minor(charge.uncovered, charge.currency):
        return True
    return issued == charge.amount + charge.commitment


def _empty(placement: Placement) -> ledger.Charge:
    """The charge of a period that nothing was booked in."""
    subscription, period, full = placement.subscription, placement.period, placement.full_period
    return ledger.Charge(
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


def _totals(charge: ledger.Charge, pricing: Pricing, before: Before | None) -> Totals:
    discounts = ZERO
    if charge.revision:
        discounts = sum((part.discount for part in details_of(charge, pricing, before)), ZERO)
    # What credits leave is never invoiced under `credit_only`.
    overage = charge.uncovered if charge.settlement_mode == SettlementMode.CREDIT_ONLY else ZERO
    return Totals(
        # The ledger's amount is after discounts; a reader wants both.
        amount=plain(charge.amount + discounts),
        charges_total=plain(charge.commitment),
        discounts_total=plain(discounts),
        credits_total=plain(charge.credits),
        overage_total=plain(overage),
        taxes_total="0",
        total=plain(charge.amount + charge.commitment - charge.credits - overage),
    )


def _view(
    charge: ledger.Charge,
    status: Status,
    book: Catalog,
    before: Before | None,
    now: datetime,
    feature_ids: dict[str, str],
    with_realtime: bool,
) -> Charge:
    card, pricing = priced_by(book, charge)
    totals = _totals(charge, pricing, before)
    full_period = Period(from_=charge.full_start, to=charge.full_end)
    place = charge.subscription_id, charge.card_key, charge.period_start.isoformat()
    recorded_at = book.subscriptions[charge.customer_id][charge.subscription_id].recorded_at
    return Charge(
        id=derived_id(charge.period_start, "charge", *place),
        name=card.name,
        status=status,
        customer=Reference(id=charge.customer_id),
        subscription=Reference(id=charge.subscription_id),
        lifecycle_controller="system",
        currency=charge.currency,
        created_at=recorded_at if charge.period_start > now else max(recorded_at, charge.period_start),
        service_period=Period(from_=charge.period_start, to=charge.period_end),
        full_service_period=full_period,
        billing_period=full_period,
        settlement_mode=SettlementMode(charge.settlement_mode),
        discounts=discounts_to_v1(pricing.discounts),
        feature_key=charge.feature_key,
        feature_id=feature_ids.get(charge.feature_key or ""),
        price=price_v3(pricing.price),
        quantity=plain(charge.usage),
        totals=ChargeTotals(booked=totals, realtime=totals if with_realtime else None),
        **_terms(charge, card, pricing),
    )


def _terms(charge: ledger.Charge, card: RateCard, pricing: Pricing) -> Json:
    """When it is to be invoiced; of a flat fee, also what proration left of it."""
    price = pricing.price
    if not isinstance(price, Flat):
        return {"type": "usage_based", "invoice_at": charge.period_end}
    whole = card.pricing.price
    assert isinstance(whole, Flat), "proration changes the amount of a price, and nothing else of it"
    in_advance = price.payment_term == "in_advance"
    return {
        "type": "flat_fee",
        "invoice_at": charge.period_start if in_advance else charge.period_end,
        "payment_term": str(price.payment_term),
        "amount_before_proration": plain(whole.amount),
        "amount_after_proration": plain(price.amount),
    }


ROUTES = [list_charges]
