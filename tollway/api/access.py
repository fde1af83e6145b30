"""May this customer go on? Answers from Redis alone, in both APIs' forms, and all that the gate sees of a customer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, assert_never

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from rating.entitlements import BooleanEntitlement, MeteredEntitlement, StaticEntitlement
from rating.money import ZERO, plain
from tollway.api.gate import REASONS, Seen, Standing
from tollway.api.problems import not_found
from tollway.api.stores import Stores
from tollway.api.wire import Json, compact, instant

KEYS_MAX = 100
TAGS = ["Access"]

Keys = Annotated[list[str], Meta(min_length=1, max_length=KEYS_MAX)]

_numbers = msgspec.json.Encoder(decimal_format="number")


class CustomerKeys(Struct, kw_only=True, forbid_unknown_fields=True):
    """Customers, each by its key or by a subject of it."""

    keys: Keys


class FeatureKeys(Struct, kw_only=True, forbid_unknown_fields=True):
    """Features."""

    keys: Keys


class AccessQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which customers, and which features of theirs: all, if none is named."""

    customer: CustomerKeys
    feature: FeatureKeys | None = None
    include_credits: bool = True
    """Whether want of credit counts. It does, unless this is false."""


@post("/api/v3/openmeter/entitlement-access/query", status_code=200, tags=TAGS)
async def query_access(data: JSONBody[AccessQuery], stores: Stores) -> Json:
    """Whether customers may use features, up to 100 of each."""
    names = list(dict.fromkeys(data.customer.keys))
    wanted = None if data.feature is None else list(dict.fromkeys(data.feature.keys))
    found, known = await stores.gate.read(names, wanted)
    now = datetime.now(UTC)
    matched: dict[str, list[str]] = {}
    customers: dict[str, Seen] = {}
    errors: list[Json] = []
    for name, seen in zip(names, found, strict=True):
        if seen is None:
            message = f"there is no customer `{name[:256]}`"
            errors.append({"code": "customer_not_found", "message": message, "customer": name})
        else:
            matched.setdefault(seen.document.id, []).append(name)
            customers[seen.document.id] = seen
    data_out = [
        {
            "matched": matched[customer_id],
            "customer": _customer(seen),
            "features": _accesses(seen.at(now), known, data.include_credits),
            "updated_at": instant(seen.balance.as_of or seen.document.created_at),
        }
        for customer_id, seen in customers.items()
    ]
    page = {"size": KEYS_MAX, "next": None, "previous": None}
    return {"data": data_out, "errors": errors, "meta": {"page": page}}


def _accesses(standing: Standing, known: dict[str, bool], with_credits: bool) -> Json:
    return {key: _access(standing.reason(key, is_known, with_credits)) for key, is_known in known.items()}


def _access(reason: str | None) -> Json:
    if reason is None:
        return {"has_access": True}
    return {"has_access": False, "reason": {"code": reason, "message": REASONS[reason]}}


def _customer(seen: Seen) -> Json:
    document = seen.document
    return {
        "id": document.id,
        "key": document.key,
        "name": document.name,
        "currency": document.currency,
        "usage_attribution": {"subject_keys": list(document.subjects)},
        "created_at": instant(document.created_at),
    }


@get("/api/v1/customers/{customer:str}/entitlements/{feature:str}/value", tags=TAGS)
async def entitlement_value(customer: FromPath[str], feature: FromPath[str], stores: Stores) -> Response[bytes]:
    """
    Whether a customer may use a feature, and what it has left of it, or is short of.

    Where the plan meters the feature: usage, balance and overage of the billing period, in the meter's unit. Where it
    gives a configuration, that. Otherwise the credit that is left, or is short.
    """
    found, known = await stores.gate.read([customer], [feature])
    seen = found[0]
    if seen is None:
        raise not_found("customer", customer)
    now = datetime.now(UTC)
    if not known[feature]:
        raise not_found("feature", feature)
    return Response(_numbers.encode(_value(seen.at(now), feature)), media_type="application/json")


@get("/api/v1/customers/{customer:str}/access", tags=TAGS)
async def customer_access(customer: FromPath[str], stores: Stores) -> Response[bytes]:
    """The same for all features that the customer's plan has."""
    found, known = await stores.gate.read([customer], None)
    seen = found[0]
    if seen is None:
        raise not_found("customer", customer)
    now = datetime.now(UTC)
    standing = seen.at(now)
    values = {key: _value(standing, key) for key in known if key in standing.given}
    return Response(_numbers.encode({"entitlements": values}), media_type="application/json")


def _value(standing: Standing, feature_key: str) -> Json:
    access: Json = {"hasAccess": standing.reason(feature_key, True) is None}
    match standing.given.get(feature_key):
        case MeteredEntitlement(limit):
            used = standing.used.get(feature_key, ZERO)
            if limit is None:
                return access | {"usage": used, "overage": ZERO}
            left = {"balance": max(limit - used, ZERO), "overage": max(used - limit, ZERO)}
            return access | left | {"usage": used, "totalAvailableGrantAmount": limit}
        case StaticEntitlement(config):
            return access | {"config": config}
        case BooleanEntitlement():
            return access
        case None:
            return access | {"balance": max(standing.balance.live, ZERO), "overage": standing.balance.overage}
        case unreachable:
            assert_never(unreachable)


@get("/api/v3/tollway/customers/{customer:str}/account", tags=TAGS)
async def account(customer: FromPath[str], stores: Stores) -> Json:
    """
    Balance, access and its reason, of one revision, as the gate sees them.

    `staleness_seconds` is how long ago they last changed; `revision` is 0 as long as the dataflow has not told.
    """
    seen = await stores.gate.customer(customer)
    if seen is None:
        raise not_found("customer", customer)
    now = datetime.now(UTC)
    balance = seen.balance
    staleness = None if balance.as_of is None else max((now - balance.as_of).total_seconds(), 0.0)
    return compact(
        {
            "customer": _customer(seen),
            "access": balance.access,
            "reason": balance.reason or None,
            "blocked_features": list(balance.blocked_features),
            "features": sorted(seen.document.in_force(now)),
            "balance": {
                "currency": balance.currency,
                "live": plain(balance.live),
                "settled": plain(balance.settled),
                "pending": plain(balance.pending),
                "overage": plain(balance.overage),
            },
            "revision": balance.revision,
            "as_of": instant(balance.as_of),
            "staleness_seconds": staleness,
            "retrieved_at": instant(now),
        }
    )


ROUTES: list[Any] = [query_access, entitlement_value, customer_access, account]
