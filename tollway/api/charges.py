"""Charges: what each rate card came to in each billing period, while it runs and when it has closed."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter

from rating.catalog import Catalog
from rating.details import details
from rating.money import ZERO, plain
from rating.prices import Flat, discounts_to_v1, price_to_v1
from tollway.api.plans import price_v3
from tollway.api.setup import features
from tollway.api.stores import Stores
from tollway.api.threads import threaded
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
from tollway.invoicing import price_book, priced_by
from tollway.ledger_reads import Charge, ChargeStatus, charges, find_customer

STATUS = {ChargeStatus.ACTIVE: "active", ChargeStatus.CLOSED: "final"}


@get("/api/v3/openmeter/customers/{customer:str}/charges", tags=["Charges"])
@threaded
def list_charges(
    customer: FromPath[str],
    stores: Stores,
    status: Annotated[list[str] | None, QueryParameter(name="filter[status]")] = None,
    feature_key: Annotated[str | None, QueryParameter(name="filter[feature_key]")] = None,
    expand: FromQuery[list[str] | None] = None,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """
    The customer's charges, the oldest period first.

    `totals.booked` and `totals.realtime` are both of this moment: what is used is charged at once.
    """
    statuses = listed(status)
    with stores.connection() as connection:
        head = find_customer(connection, customer)
        found = charges(connection, head.id, feature_key=feature_key)
        book = price_book(connection, head.id) if found else Catalog()
        ids = {feature["key"]: feature["id"] for feature in features(connection)} if found else {}
    bodies = [_body(charge, book, ids) for charge in found if not statuses or STATUS[charge.status] in statuses]
    return page_v3(bodies, number, size)


def _body(charge: Charge, book: Catalog, feature_ids: dict[str, str]) -> Json:
    card, pricing = priced_by(book, charge)
    is_fee = isinstance(pricing.price, Flat)
    price = price_to_v1(pricing.price)
    parts = details(pricing, charge.usage, None, is_fee or charge.status is ChargeStatus.CLOSED)
    discounts = sum((part.discount for part in parts), ZERO)
    totals = {
        # The ledger's amount is after discounts; a reader wants both.
        "amount": plain(charge.amount + discounts),
        "charges_total": plain(charge.commitment),
        "discounts_total": plain(discounts),
        "credits_total": plain(charge.credits),
        "taxes_total": "0",
        "total": plain(charge.amount + charge.commitment - charge.credits),
    }
    period = {"from": instant(charge.period_start), "to": instant(charge.period_end)}
    full_period = {"from": instant(charge.full_start), "to": instant(charge.full_end)}
    place = charge.subscription_id, charge.card_key, charge.period_start.isoformat()
    return compact(
        {
            "id": derived_id(charge.period_start, "charge", *place),
            "type": "flat_fee" if is_fee else "usage_based",
            "name": card.name or card.key,
            "status": STATUS[charge.status],
            "customer": {"id": charge.customer_id},
            "subscription": {"id": charge.subscription_id},
            "currency": charge.currency,
            "service_period": period,
            "full_service_period": full_period,
            "billing_period": full_period,
            "invoice_at": instant(charge.period_end),
            "settlement_mode": charge.settlement_mode,
            "discounts": snake(discounts_to_v1(pricing.discounts)),
            "feature_key": charge.feature_key,
            "feature_id": feature_ids.get(charge.feature_key or ""),
            "price": price_v3(price),
            "quantity": plain(charge.usage),
            "totals": {"booked": totals, "realtime": totals},
        }
    )


ROUTES: list[Any] = [list_charges]
