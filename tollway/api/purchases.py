"""
What grants of credits cost.

A grant that is funded by `invoice` and says what it costs is a line of the next invoice. Credits can be used from the
moment they are granted, whether they are paid or not.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from rating.catalog import Grant
from rating.money import plain, round_minor, use_exact
from tollway.api.problems import bad_request
from tollway.api.wire import Json, Numeric, amount
from tollway.control import Changes


class GrantPurchase(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the credits cost."""

    currency: str
    per_unit_cost_basis: Numeric = "1"
    """The price of one unit of credit; what is given has the funding method `none`."""
    availability_policy: Literal["on_creation"] = "on_creation"


class SettlementUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """How far a payment elsewhere has come."""

    status: Literal["pending", "authorized", "settled"]


def purchase_body(row: Json) -> Json:
    """What of a grant says how it was paid for, and on which invoice."""
    purchase = {
        "currency": row["currency"],
        "per_unit_cost_basis": plain(row["cost_basis"]),
        "amount": plain(row["amount"]),
        "availability_policy": "on_creation",
        "settlement_status": row["settlement_status"],
    }
    billed = {"invoice": {"id": row["invoice_id"], "line": {"id": row["line_id"]}}} if row["invoice_id"] else {}
    return {"purchase": purchase} | billed


def buy(changes: Changes, grant: Grant, method: str, purchase: GrantPurchase) -> None:
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
        "insert into credit_purchases (grant_id, customer_id, funding_method, currency, cost_basis, amount,"
        " settlement_status) values (%s, %s, %s, %s, %s, %s, 'pending') returning grant_id",
        grant.id,
        grant.customer_id,
        method,
        grant.currency,
        cost_basis,
        round_minor(grant.amount * cost_basis, grant.currency),
    )
