"""Prepaid credits: grants, the balance, and how credits came and went."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from litestar import get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta, Struct

from rating.money import ZERO, plain, use_exact
from tollway.api import notes
from tollway.api.filters import Asked
from tollway.api.gate import VisibleBalance
from tollway.api.problems import Invalid, Problem, bad_request, conflict, not_found
from tollway.api.purchases import GrantPurchase, SettlementUpdate, buy, purchase_body
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import listing, of_ledger, threaded
from tollway.api.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    Numeric,
    PageNumberV3,
    PageSizeV3,
    Text,
    amount,
    compact,
    instant,
    page_v3,
)
from tollway.control import ControlCode, ControlError, GrantDraft
from tollway.ledger_reads import (
    Connection,
    CreditGrant,
    CreditTransaction,
    GrantStatus,
    TransactionType,
    balance,
    credit_grants,
    credit_transactions,
    find_customer,
    rows,
)
from tollway.openmeter.customers import standing

TAGS = ["Credits"]


class GrantFilters(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a grant may pay for; nothing said: any charge."""

    features: list[str] | None = None


class GrantCreate(Struct, kw_only=True, forbid_unknown_fields=True):
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


class GrantVoid(Struct, kw_only=True, forbid_unknown_fields=True):
    """How a grant is to be taken back."""

    payment_adjustment: Literal["none"] = "none"


def _bodies(connection: Connection, customer_id: str) -> list[Json]:
    written = {
        noted.record.id: noted  # type: ignore[union-attr]
        for noted in notes.read(connection, "grant", "where customer_id = %s", customer_id)
    }
    bought = {row["grant_id"]: row for row in rows(connection, "purchases", {"customer_id": customer_id})}
    found = []
    for grant in credit_grants(connection, customer_id):
        noted = written.get(grant.id)
        body = _body(grant, noted.notes if noted else {}, noted.updated_at if noted else grant.created_at)
        found.append(body | purchase_body(bought[grant.id]) if grant.id in bought else body)
    return found


def _body(grant: CreditGrant, noted: Json, updated_at: datetime) -> Json:
    return compact(
        {
            "id": grant.id,
            "key": grant.key,
            "name": grant.name,
            "customer": {"id": grant.customer_id},
            "currency": grant.currency,
            "amount": plain(grant.amount),
            "priority": grant.priority,
            "filters": {"features": list(grant.features)} if grant.features else None,
            "funding_method": "none",
            "status": grant.status.value,
            "available": plain(grant.available),
            "consumed": plain(grant.consumed),
            "effective_at": instant(grant.effective_at),
            "expires_at": instant(grant.expires_at),
            "voided_at": instant(grant.voided_at),
            "created_at": instant(grant.created_at),
            "updated_at": instant(max(updated_at, grant.voided_at or updated_at)),
        }
        | noted
    )


def _find(connection: Connection, customer: str, grant_id: str) -> Json:
    head = find_customer(connection, customer)
    for body in _bodies(connection, head.id):
        if body["id"] == grant_id:
            return body
    raise not_found("grant", grant_id)


@post(
    "/api/v3/openmeter/customers/{customer:str}/credits/grants",
    status_code=201,
    tags=TAGS,
)
@threaded
def create_grant(customer: FromPath[str], data: JSONBody[GrantCreate], stores: Stores) -> Json:
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
            buy(changes, made, data.funding_method, data.purchase)
    with stores.connection() as connection:
        return _find(connection, found.id, made.id)


@post(
    "/api/v3/openmeter/customers/{customer:str}/credits/grants/{grant:str}/settlement/external",
    status_code=200,
    tags=TAGS,
)
@threaded
def update_settlement(
    customer: FromPath[str], grant: FromPath[str], data: JSONBody[SettlementUpdate], stores: Stores
) -> Json:
    """Note how far the payment of a grant that is paid elsewhere has come; the credits do not depend on it."""
    with stores.connection() as connection:
        found = _find(connection, customer, grant)
        values = {"grant_id": found["id"], "status": data.status}
        if not rows(connection, "settle_purchase", values):
            raise conflict("status", "expected a grant with a `purchase` that is funded by `external`")
        return _find(connection, customer, grant)


@get("/api/v3/openmeter/customers/{customer:str}/credits/grants", tags=TAGS)
@listing
def list_grants(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """The customer's grants, in the order in which they burn."""
    with stores.connection() as connection:
        found = _bodies(connection, find_customer(connection, customer).id)
    return page_v3(asked.chosen(found), number, size)


@get("/api/v3/openmeter/customers/{customer:str}/credits/grants/{grant:str}", tags=TAGS)
@threaded
def get_grant(customer: FromPath[str], grant: FromPath[str], stores: Stores) -> Json:
    """A grant, and what became of it."""
    with stores.connection() as connection:
        return _find(connection, customer, grant)


@post(
    "/api/v3/openmeter/customers/{customer:str}/credits/grants/{grant:str}/void",
    status_code=200,
    tags=TAGS,
)
@threaded
def void_grant(
    customer: FromPath[str], grant: FromPath[str], stores: Stores, data: JSONBody[GrantVoid | None] = None
) -> Json:
    """Take back what is left of a grant; one that is used up or expired is refused with 409."""
    with stores.connection() as connection:
        found = _find(connection, customer, grant)
    with stores.changing() as changes:
        changes.void_grant(found["id"])
    with stores.connection() as connection:
        return _find(connection, customer, grant)


@get("/api/v3/openmeter/customers/{customer:str}/credits/balance", tags=TAGS)
async def get_balance(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
) -> Json:
    """
    What the customer has left, in all or for one feature.

    In all, it is what the gate sees, and comes from Redis; for one feature it is worked out from the ledger.
    """
    feature_key = asked.equal("feature_key")
    seen = await stores.gate.customer(customer)
    if feature_key is not None or seen is None or not seen.balance.revision:
        body = await of_ledger.run(_ledger_balance, stores, customer, feature_key)
    else:
        body = _balance_body(seen.balance)
    balances = [body] if asked.hold("currency", body["currency"]) else []
    return {"retrieved_at": instant(datetime.now(UTC)), "balances": balances}


def _balance_body(found: VisibleBalance) -> Json:
    return {
        "currency": found.currency,
        "live": plain(found.live),
        "settled": plain(found.settled),
        "pending": plain(found.pending),
    }


def _ledger_balance(stores: ApiStores, customer: str, feature_key: str | None) -> Json:
    use_exact()
    with stores.connection() as connection:
        found = balance(connection, customer)
        settled, pending = found.settled, found.pending
        if feature_key is not None:
            paying = [
                grant
                for grant in credit_grants(connection, found.customer_id)
                if not grant.features or feature_key in grant.features
            ]
            settled = sum((grant.available for grant in paying if grant.status is GrantStatus.ACTIVE), ZERO)
            pending = sum((grant.pending for grant in paying), ZERO)
    return {
        "currency": found.currency,
        "live": plain(settled - found.overage),
        "settled": plain(settled),
        "pending": plain(pending),
    }


@get("/api/v3/openmeter/customers/{customer:str}/credits/transactions", tags=TAGS)
@listing
def list_transactions(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
    after: Annotated[str | None, QueryParameter(name="page[after]")] = None,
    before: Annotated[str | None, QueryParameter(name="page[before]")] = None,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """How the customer's credits came and went, the newest first, each with the balance before and after it."""
    if after is not None and before is not None:
        raise bad_request("page[before]", "expected either `page[after]` or `page[before]`")
    kind = asked.equal("type")
    with stores.connection() as connection:
        # One more than asked for tells whether there is another page.
        found = credit_transactions(
            connection,
            customer,
            cursor=before or after,
            limit=size + 1,
            newest_first=before is None,
            kind=None if kind is None else TransactionType(kind),
            feature_key=asked.equal("feature_key"),
        )
    # All are in the customer's currency: none is left out, or all are.
    found = [one for one in found if asked.hold("currency", one.currency)]
    more = len(found) > size
    found = found[:size]
    if before is not None:
        found.reverse()
    older = bool(found) and (more if before is None else True)
    newer = bool(found) and (after is not None if before is None else more)
    page = {
        "size": size,
        "next": found[-1].id if older else None,
        "previous": found[0].id if newer else None,
    }
    return {"data": [_transaction_body(one) for one in found], "meta": {"page": page}}


def _transaction_body(found: CreditTransaction) -> Json:
    return compact(
        {
            "id": found.id,
            "name": found.name or found.type.value,
            "type": found.type.value,
            "grant": {"id": found.grant_id},
            "feature_key": found.feature_key,
            "currency": found.currency,
            "amount": plain(found.amount),
            "available_balance": {
                "before": plain(found.available_balance.before),
                "after": plain(found.available_balance.after),
            },
            "created_at": instant(found.booked_at),
            "booked_at": instant(found.booked_at),
        }
    )


ROUTES: list[Any] = [
    create_grant,
    list_grants,
    get_grant,
    void_grant,
    update_settlement,
    get_balance,
    list_transactions,
]
