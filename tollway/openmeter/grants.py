"""
Grants of prepaid credits, and what they cost.

A grant that is funded by `invoice` and says what it costs is a line of the next invoice. Credits can be used from the
moment they are granted, whether they are paid or not.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from litestar import get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from rating import catalog as core
from rating.money import plain, round_minor, use_exact
from tollway import ledger_reads
from tollway.control import Changes, ControlCode, ControlError, GrantDraft, notes
from tollway.ledger_reads import Connection, credit_grants, find_customer, rows
from tollway.openmeter.customers import standing
from tollway.openmeter.filters import Asked
from tollway.openmeter.problems import Invalid, Problem, bad_request, conflict, not_found
from tollway.openmeter.routes import v3
from tollway.openmeter.shapes import Amount, Body, NumberedPage, Reference, View
from tollway.openmeter.stores import Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import PAGE_SIZE, Json, Metadata, Numeric, PageNumberV3, PageSizeV3, Text, amount

TAGS = ["Credits"]


class GrantFilters(Body):
    """What a grant may pay for; nothing said: any charge."""

    features: list[str] | None = None


class GrantPurchase(Body):
    """What the credits cost."""

    currency: str
    per_unit_cost_basis: Numeric = "1"
    """The price of one unit of credit; what is given has the funding method `none`."""
    availability_policy: Literal["on_creation"] = "on_creation"


class SettlementUpdate(Body):
    """How far a payment elsewhere has come."""

    status: Literal["pending", "authorized", "settled"]


class GrantCreate(Body):
    """Prepaid credits to be."""

    name: Text
    funding_method: Literal["none", "invoice", "external"]
    """Given; paid on the next invoice, if `purchase` says what they cost; or paid elsewhere."""
    currency: str
    amount: Numeric
    purchase: GrantPurchase | None = None
    priority: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Lower burns first; 10 if it is not said."""
    filters: GrantFilters | None = None
    effective_at: datetime | None = None
    """From when on it pays; now, if it is not said."""
    expires_after: str | None = None
    """ISO 8601 duration, from the effective instant on."""
    key: str | None = None
    """Makes it safe to repeat: the same customer and key again is refused with 409."""
    description: Text | None = None
    labels: Metadata | None = None


class GrantVoid(Body):
    """How a grant is to be taken back."""

    payment_adjustment: Literal["none"] = "none"


class GrantFeatures(View, frozen=True):
    """What a grant may pay for."""

    features: list[str]


class CreditPurchase(View, frozen=True):
    """What a grant costs, and how far its payment has come."""

    currency: str
    per_unit_cost_basis: Amount
    amount: Amount
    availability_policy: Literal["on_creation"]
    settlement_status: Literal["pending", "authorized", "settled"]


class PurchaseInvoice(View, frozen=True):
    """The invoice, and the line of it, that a grant is paid by."""

    id: str
    line: Reference


class CreditGrant(View, frozen=True):
    """Prepaid credits, and what became of them."""

    id: str
    name: str
    customer: Reference
    currency: str
    amount: Amount
    priority: int
    funding_method: Literal["none", "invoice", "external"]
    status: Literal["pending", "active", "expired", "voided"]
    available: Amount
    consumed: Amount
    effective_at: datetime
    created_at: datetime
    updated_at: datetime
    key: str | None = None
    filters: GrantFeatures | None = None
    purchase: CreditPurchase | None = None
    invoice: PurchaseInvoice | None = None
    expires_after: str | None = None
    expires_at: datetime | None = None
    voided_at: datetime | None = None
    description: str | None = None
    labels: Metadata | None = None


def view(grant: ledger_reads.CreditGrant, noted: notes.Noted | None, bought: Json | None) -> CreditGrant:
    """A grant as it is shown, with what was written on it, and the row of its purchase."""
    written: Json = {} if noted is None else noted.notes
    updated_at = grant.created_at if noted is None else noted.updated_at
    return CreditGrant(
        id=grant.id,
        key=grant.key,
        name=grant.name,
        customer=Reference(id=grant.customer_id),
        currency=grant.currency,
        amount=plain(grant.amount),
        priority=grant.priority,
        filters=GrantFeatures(features=list(grant.features)) if grant.features else None,
        purchase=None if bought is None else _purchase(bought),
        invoice=None if bought is None else _invoice(bought),
        funding_method=written.get("funding_method", "none"),
        status=grant.status.value,
        available=plain(grant.available),
        consumed=plain(grant.consumed),
        effective_at=grant.effective_at,
        expires_after=written.get("expires_after"),
        expires_at=grant.expires_at,
        voided_at=grant.voided_at,
        created_at=grant.created_at,
        updated_at=max(updated_at, grant.voided_at or updated_at),
        description=written.get("description"),
        labels=written.get("labels"),
    )


def _purchase(row: Json) -> CreditPurchase:
    return CreditPurchase(
        currency=row["currency"],
        per_unit_cost_basis=plain(row["cost_basis"]),
        amount=plain(row["amount"]),
        availability_policy="on_creation",
        settlement_status=row["settlement_status"],
    )


def _invoice(row: Json) -> PurchaseInvoice | None:
    return PurchaseInvoice(id=row["invoice_id"], line=Reference(id=row["line_id"])) if row["invoice_id"] else None


def _views(connection: Connection, customer_id: str) -> list[CreditGrant]:
    """The grants of a customer, in the order in which they burn."""
    written = {
        noted.record.id: noted  # type: ignore[union-attr]
        for noted in notes.read(connection, "grant", "noted_of_customer", customer_id)
    }
    bought = {row["grant_id"]: row for row in rows(connection, "purchases", {"customer_id": customer_id})}
    return [
        view(grant, written.get(grant.id), bought.get(grant.id)) for grant in credit_grants(connection, customer_id)
    ]


def _find(connection: Connection, customer: str, grant_id: str) -> CreditGrant:
    for grant in _views(connection, find_customer(connection, customer).id):
        if grant.id == grant_id:
            return grant
    raise not_found("grant", grant_id)


def _buy(changes: Changes, grant: core.Grant, method: str, purchase: GrantPurchase) -> None:
    """Keep what a grant costs, in the transaction that makes it."""
    if method == "none":
        raise bad_request("purchase", "expected none, since the funding method is `none`")
    if purchase.currency != grant.currency:
        raise bad_request("purchase.currency", f"expected `{grant.currency}`, the currency of the grant")
    cost_basis = amount(purchase.per_unit_cost_basis)
    if cost_basis <= 0:
        raise bad_request("purchase.per_unit_cost_basis", "expected a decimal above 0; what is given costs nothing")
    use_exact()
    changes.rows(
        "insert_purchase",
        grant.id,
        grant.customer_id,
        method,
        grant.currency,
        cost_basis,
        round_minor(grant.amount * cost_basis, grant.currency),
    )


@v3(post, "/customers/{customer:str}/credits/grants", status_code=201, tags=TAGS)
def create_grant(customer: FromPath[str], data: JSONBody[GrantCreate], stores: Stores) -> CreditGrant:
    """Grant prepaid credits to a customer."""
    with stores.changing() as changes:
        found = standing(changes, customer)
        if data.key is not None and changes.grant_by_key(found.id, data.key) is not None:
            raise conflict("key", f"customer `{found.key}` has a grant with the key `{data.key}` already")
        draft = GrantDraft(
            amount=amount(data.amount),
            currency=data.currency,
            priority=10 if data.priority is None else data.priority,
            features=tuple(data.filters.features or ()) if data.filters else (),
            effective_at=data.effective_at,
            expires_after=data.expires_after,
            key=data.key,
            name=data.name,
        )
        try:
            made = changes.grant(found, draft)
        except ControlError as error:
            if error.code is ControlCode.INVALID:
                raise
            # Another currency, or a feature that is not there: what was sent is wrong, not the state of things.
            message = f"{error.what}; {error.hint}"
            raise Problem(400, message, Invalid(error.path, str(error.code), message)) from error
        written = {
            "funding_method": data.funding_method,
            "description": data.description,
            "labels": data.labels,
            "expires_after": data.expires_after,
        }
        notes.write(changes, "grant", made.id, written)
        if data.purchase is not None:
            _buy(changes, made, data.funding_method, data.purchase)
    with stores.connection() as connection:
        return _find(connection, found.id, made.id)


@v3(post, "/customers/{customer:str}/credits/grants/{grant:str}/settlement/external", status_code=200, tags=TAGS)
def update_settlement(
    customer: FromPath[str], grant: FromPath[str], data: JSONBody[SettlementUpdate], stores: Stores
) -> CreditGrant:
    """Note how far the payment of a grant that is paid elsewhere has come; the credits do not depend on it."""
    with stores.connection() as connection:
        found = _find(connection, customer, grant)
        values = {"grant_id": found.id, "status": data.status}
        if not rows(connection, "settle_purchase", values):
            raise conflict("status", "expected a grant with a `purchase` that is funded by `external`")
        return _find(connection, customer, grant)


@v3(get, "/customers/{customer:str}/credits/grants", on=listing, tags=TAGS)
def list_grants(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> NumberedPage[CreditGrant]:
    """The customer's grants, in the order in which they burn."""
    with stores.connection() as connection:
        found = _views(connection, find_customer(connection, customer).id)
    return NumberedPage.of(asked.chosen(found), number, size)


@v3(get, "/customers/{customer:str}/credits/grants/{grant:str}", tags=TAGS)
def get_grant(customer: FromPath[str], grant: FromPath[str], stores: Stores) -> CreditGrant:
    """A grant, and what became of it."""
    with stores.connection() as connection:
        return _find(connection, customer, grant)


@v3(post, "/customers/{customer:str}/credits/grants/{grant:str}/void", status_code=200, tags=TAGS)
def void_grant(
    customer: FromPath[str], grant: FromPath[str], stores: Stores, data: JSONBody[GrantVoid | None] = None
) -> CreditGrant:
    """Take back what is left of a grant; one that is used up or expired is refused with 409."""
    with stores.connection() as connection:
        found = _find(connection, customer, grant)
    with stores.changing() as changes:
        changes.void_grant(found.id)
    with stores.connection() as connection:
        return _find(connection, customer, grant)


ROUTES = [create_grant, update_settlement, list_grants, get_grant, void_grant]
