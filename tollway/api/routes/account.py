"""All that the gate sees of a customer, in one answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from litestar import get
from litestar.params import FromPath

from rating.money import plain
from tollway.openmeter.access import SeenCustomer, seen_customer
from tollway.openmeter.problems import not_found
from tollway.openmeter.shapes import Amount, View
from tollway.openmeter.stores import Stores


class AccountBalance(View, frozen=True):
    """What is left, in one currency."""

    currency: str
    live: Amount
    settled: Amount
    pending: Amount
    overage: Amount


class Account(View, frozen=True):
    """Balance, access and its reason, of one revision."""

    customer: SeenCustomer
    access: Literal["allowed", "blocked"]
    blocked_features: list[str]
    features: list[str]
    balance: AccountBalance
    revision: int
    retrieved_at: datetime
    reason: str | None = None
    as_of: datetime | None = None
    staleness_seconds: float | None = None


@get("/api/v3/tollway/customers/{customer:str}/account", tags=["Access"])
async def account(customer: FromPath[str], stores: Stores) -> Account:
    """
    Balance, access and its reason, of one revision, as the gate sees them.

    `staleness_seconds` is how long ago they last changed; `revision` is 0 as long as the dataflow has not told.
    """
    seen = await stores.gate.customer(customer)
    if seen is None:
        raise not_found("customer", customer)
    now = datetime.now(UTC)
    balance = seen.balance
    return Account(
        customer=seen_customer(seen),
        access=balance.access,
        reason=balance.reason or None,
        blocked_features=list(balance.blocked_features),
        features=sorted(seen.document.in_force(now)),
        balance=AccountBalance(
            currency=balance.currency,
            live=plain(balance.live),
            settled=plain(balance.settled),
            pending=plain(balance.pending),
            overage=plain(balance.overage),
        ),
        revision=balance.revision,
        as_of=balance.as_of,
        staleness_seconds=None if balance.as_of is None else max((now - balance.as_of).total_seconds(), 0.0),
        retrieved_at=now,
    )


ROUTES = [account]
