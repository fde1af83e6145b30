"""Credits of a customer: the balance, and how they came and went."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from litestar import get
from litestar.params import FromPath, QueryParameter

from rating.money import ZERO, plain, use_exact
from tollway import ledger_reads
from tollway.ledger_reads import GrantStatus, TransactionType, balance, credit_grants, credit_transactions
from tollway.openmeter.dialect import OPTION, V3
from tollway.openmeter.filters import Asked
from tollway.openmeter.problems import bad_request
from tollway.openmeter.routes import v3
from tollway.openmeter.shapes import Amount, CursorPage, Reference, View
from tollway.openmeter.stores import ApiStores, Stores
from tollway.openmeter.threads import listing, of_ledger
from tollway.openmeter.wire import PAGE_SIZE, PageSizeV3

TAGS = ["Credits"]


class CreditBalance(View, frozen=True):
    """Settled is what is left of active grants; live is that less overage; pending is not effective yet."""

    currency: str
    live: Amount
    settled: Amount
    pending: Amount


class CreditBalances(View, frozen=True):
    """What is left, by currency."""

    retrieved_at: datetime
    balances: list[CreditBalance]


class BeforeAndAfter(View, frozen=True):
    """The balance around a transaction."""

    before: Amount
    after: Amount


class CreditTransaction(View, frozen=True):
    """How credits came or went."""

    id: str
    name: str
    type: Literal["funded", "consumed", "expired", "voided"]
    currency: str
    amount: Amount
    available_balance: BeforeAndAfter
    created_at: datetime
    booked_at: datetime
    grant: Reference | None = None
    feature_key: str | None = None


def view(found: ledger_reads.CreditTransaction) -> CreditTransaction:
    """A transaction as it is shown."""
    around = found.available_balance
    return CreditTransaction(
        id=found.id,
        name=found.name or found.type.value,
        type=found.type.value,
        grant=Reference(id=found.grant_id),
        feature_key=found.feature_key,
        currency=found.currency,
        amount=plain(found.amount),
        available_balance=BeforeAndAfter(before=plain(around.before), after=plain(around.after)),
        created_at=found.booked_at,
        booked_at=found.booked_at,
    )


@get("/api/v3/openmeter/customers/{customer:str}/credits/balance", opt={OPTION: V3}, tags=TAGS)
async def get_balance(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
) -> CreditBalances:
    """
    What the customer has left, in all or for one feature.

    In all, it is what the gate sees, and comes from Redis; for one feature it is worked out from the ledger.
    """
    feature_key = asked.equal("feature_key")
    seen = await stores.gate.customer(customer)
    if feature_key is not None or seen is None or not seen.balance.revision:
        found = await of_ledger.run(_ledger_balance, stores, customer, feature_key)
    else:
        visible = seen.balance
        found = _balance(visible.currency, visible.live, visible.settled, visible.pending)
    balances = [found] if asked.hold("currency", found.currency) else []
    return CreditBalances(retrieved_at=datetime.now(UTC), balances=balances)


def _balance(currency: str, live: Decimal, settled: Decimal, pending: Decimal) -> CreditBalance:
    return CreditBalance(currency=currency, live=plain(live), settled=plain(settled), pending=plain(pending))


def _ledger_balance(stores: ApiStores, customer: str, feature_key: str | None) -> CreditBalance:
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
    return _balance(found.currency, settled - found.overage, settled, pending)


@v3(get, "/customers/{customer:str}/credits/transactions", on=listing, tags=TAGS)
def list_transactions(
    customer: FromPath[str],
    stores: Stores,
    asked: Asked,
    after: Annotated[str | None, QueryParameter(name="page[after]")] = None,
    before: Annotated[str | None, QueryParameter(name="page[before]")] = None,
    size: PageSizeV3 = PAGE_SIZE,
) -> CursorPage[CreditTransaction]:
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
    return CursorPage.of(
        [view(one) for one in found],
        size,
        following=found[-1].id if older else None,
        preceding=found[0].id if newer else None,
    )


ROUTES = [get_balance, list_transactions]
