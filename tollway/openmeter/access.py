"""May this customer go on? Answers from Redis alone, in both dialects' forms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, assert_never

from litestar import get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from rating.entitlements import BooleanEntitlement, MeteredEntitlement, StaticEntitlement
from rating.money import ZERO
from tollway.gate.projection import REASONS, Reason, Seen, Standing
from tollway.openmeter.customers import Attribution
from tollway.openmeter.problems import not_found
from tollway.openmeter.routes import v1, v3
from tollway.openmeter.shapes import Body, CursorPage, Quantity, View
from tollway.openmeter.stores import Stores

KEYS_MAX = 100
TAGS = ["Access"]

Keys = Annotated[list[str], Meta(min_length=1, max_length=KEYS_MAX)]


class CustomerKeys(Body):
    """Customers, each by its key or by a subject of it."""

    keys: Keys


class FeatureKeys(Body):
    """Features."""

    keys: Keys


class AccessQuery(Body):
    """Which customers, and which features of theirs: all, if none is named."""

    customer: CustomerKeys
    feature: FeatureKeys | None = None
    include_credits: bool = True
    """Whether want of credit counts. It does, unless this is false."""


class AccessReason(View, frozen=True):
    """Why not."""

    code: Reason
    message: str


class FeatureAccess(View, frozen=True):
    """Whether a feature may be used."""

    has_access: bool
    reason: AccessReason | None = None


class SeenCustomer(View, frozen=True):
    """A customer as the gate knows it."""

    id: str
    key: str
    name: str
    currency: str
    usage_attribution: Attribution
    created_at: datetime


class CustomerAccess(View, frozen=True):
    """What a customer may use, and by which of the names that were asked for it was found."""

    matched: list[str]
    customer: SeenCustomer
    features: dict[str, FeatureAccess]
    updated_at: datetime


class AccessError(View, frozen=True):
    """A name that is no customer's."""

    code: str
    message: str
    customer: str


class AccessAnswer(CursorPage[CustomerAccess], frozen=True, kw_only=True):
    """By customer and feature, whether it may go on."""

    errors: list[AccessError]


class EntitlementValue(View, frozen=True):
    """
    Whether a feature may be used.

    Where the plan meters it: usage, balance and overage in the meter's unit. Where it gives a configuration, that.
    Otherwise the credit that is left, and what is short.
    """

    has_access: bool
    balance: Quantity | None = None
    overage: Quantity | None = None
    usage: Quantity | None = None
    total_available_grant_amount: Quantity | None = None
    config: str | None = None


class Entitlements(View, frozen=True):
    """The same by feature."""

    entitlements: dict[str, EntitlementValue]


@v3(post, "/entitlement-access/query", status_code=200, tags=TAGS)
async def query_access(data: JSONBody[AccessQuery], stores: Stores) -> AccessAnswer:
    """Whether customers may use features, up to 100 of each."""
    names = list(dict.fromkeys(data.customer.keys))
    wanted = None if data.feature is None else list(dict.fromkeys(data.feature.keys))
    found, known = await stores.gate.read(names, wanted)
    now = datetime.now(UTC)
    matched: dict[str, list[str]] = {}
    customers: dict[str, Seen] = {}
    errors: list[AccessError] = []
    for name, seen in zip(names, found, strict=True):
        if seen is None:
            message = f"there is no customer `{name[:256]}`"
            errors.append(AccessError(code="customer_not_found", message=message, customer=name))
        else:
            matched.setdefault(seen.document.id, []).append(name)
            customers[seen.document.id] = seen
    accesses = [
        CustomerAccess(
            matched=matched[customer_id],
            customer=seen_customer(seen),
            features=_accesses(seen.at(now), known, data.include_credits),
            updated_at=seen.balance.as_of or seen.document.created_at,
        )
        for customer_id, seen in customers.items()
    ]
    page = CursorPage.of(accesses, KEYS_MAX, following=None, preceding=None)
    return AccessAnswer(data=page.data, meta=page.meta, errors=errors)


def _accesses(standing: Standing, known: dict[str, bool], with_credits: bool) -> dict[str, FeatureAccess]:
    return {key: _access(standing.reason(key, is_known, with_credits)) for key, is_known in known.items()}


def _access(reason: Reason | None) -> FeatureAccess:
    if reason is None:
        return FeatureAccess(has_access=True)
    return FeatureAccess(has_access=False, reason=AccessReason(code=reason, message=REASONS[reason]))


def seen_customer(seen: Seen) -> SeenCustomer:
    """A customer as it is shown by what the gate sees of it."""
    document = seen.document
    return SeenCustomer(
        id=document.id,
        key=document.key,
        name=document.name,
        currency=document.currency,
        usage_attribution=Attribution(subject_keys=list(document.subjects)),
        created_at=document.created_at,
    )


@v1(get, "/customers/{customer:str}/entitlements/{feature:str}/value", tags=TAGS)
async def entitlement_value(customer: FromPath[str], feature: FromPath[str], stores: Stores) -> EntitlementValue:
    """
    Whether a customer may use a feature, and what it has left of it, or is short of.

    Where the plan meters the feature: usage, balance and overage of the billing period, in the meter's unit. Where it
    gives a configuration, that. Otherwise the credit that is left, or is short.
    """
    (seen,), known = await stores.gate.read([customer], [feature])
    if seen is None:
        raise not_found("customer", customer)
    if not known[feature]:
        raise not_found("feature", feature)
    return _value(seen.at(datetime.now(UTC)), feature)


@v1(get, "/customers/{customer:str}/access", tags=TAGS)
async def customer_access(customer: FromPath[str], stores: Stores) -> Entitlements:
    """The same for all features that the customer's plan has."""
    (seen,), known = await stores.gate.read([customer], None)
    if seen is None:
        raise not_found("customer", customer)
    standing = seen.at(datetime.now(UTC))
    return Entitlements(entitlements={key: _value(standing, key) for key in known if key in standing.given})


def _value(standing: Standing, feature_key: str) -> EntitlementValue:
    has_access = standing.reason(feature_key, True) is None
    match standing.given.get(feature_key):
        case MeteredEntitlement(limit):
            used = standing.used.get(feature_key, ZERO)
            return EntitlementValue(
                has_access=has_access,
                balance=None if limit is None else max(limit - used, ZERO),
                overage=ZERO if limit is None else max(used - limit, ZERO),
                usage=used,
                total_available_grant_amount=limit,
            )
        case StaticEntitlement(config):
            return EntitlementValue(has_access=has_access, config=config)
        case BooleanEntitlement():
            return EntitlementValue(has_access=has_access)
        case None:
            balance = standing.balance
            return EntitlementValue(has_access=has_access, balance=max(balance.live, ZERO), overage=balance.overage)
        case unreachable:
            assert_never(unreachable)


ROUTES = [query_access, entitlement_value, customer_access]
