"""Writes what the control plane and the dataflow would write, and tells an invoice as rows of text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import psycopg

from rating.catalog import (
    Customer,
    Grant,
    Phase,
    PlanVersion,
    RateCard,
    SettlementMode,
    Subscription,
    encode_record,
)
from rating.charge import commitment, prorate, total
from rating.money import ZERO, plain, use_exact
from rating.outcome import BalanceRow, ChargeRow, Outcome
from rating.prices import Flat, Price, Pricing, discounts_from_v1, price_from_v1
from sinks.postgres.ledger import Ledger, rows_of
from tollway.invoicing import Invoice, Line, Totals

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLAN = "pro"

D = Decimal


def pricing(price: dict[str, Any], currency: str = "USD", **discounts: str) -> Pricing:
    """A pricing from a price as v1 writes it, and discounts by name."""
    return Pricing(price_from_v1(price), currency, None, discounts_from_v1(discounts or None))


def unit(amount: str, **limits: str) -> dict[str, Any]:
    """A unit price as v1 writes it."""
    return {"type": "unit", "amount": amount, **limits}


def tiered(mode: str, *tiers: tuple[str | None, str, str | None], **limits: str) -> dict[str, Any]:
    """A tiered price as v1 writes it: each tier is its end, its unit price and its flat price."""
    written = [
        {
            "upToAmount": up_to,
            "unitPrice": {"type": "unit", "amount": unit_price},
            "flatPrice": None if flat_price is None else {"type": "flat", "amount": flat_price},
        }
        for up_to, unit_price, flat_price in tiers
    ]
    return {"type": "tiered", "mode": mode, "tiers": written, **limits}


class Books:
    """One database. Customers are on plan versions of their own, each card of which has its feature's key."""

    def __init__(self, dsn: str, connection: psycopg.Connection[Any], ledger: Ledger) -> None:
        self.dsn = dsn
        self.connection = connection
        self._ledger = ledger
        self._revisions = count(1)
        self._versions = count(1)
        self._pricings: dict[tuple[str, str], Pricing] = {}
        self._modes: dict[str, SettlementMode] = {}
        self._currencies: dict[str, str] = {}
        self._charges: dict[tuple[Any, ...], ChargeRow] = {}

    @classmethod
    @contextmanager
    def open(cls, dsn: str) -> Iterator[Books]:
        """Books on a migrated database."""
        use_exact()
        ledger = Ledger(dsn)
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                yield cls(dsn, connection, ledger)
        finally:
            ledger.close()

    def customer(
        self,
        key: str,
        cards: dict[str, Pricing],
        mode: SettlementMode = SettlementMode.CREDIT_THEN_INVOICE,
        prorate: bool = False,
        fees: tuple[str, ...] = (),
    ) -> str:
        """A customer subscribed from March on, to rate cards of which `fees` have no feature. Its id."""
        version = next(self._versions)
        currency = next(iter(cards.values())).currency
        plan = PlanVersion(
            key=PLAN,
            version=version,
            currency=currency,
            cadence="P1M",
            phases=(
                Phase(
                    "default",
                    tuple(
                        RateCard(name, None if name in fees else name, found, name.title())
                        for name, found in cards.items()
                    ),
                ),
            ),
            settlement_mode=mode,
            prorate=prorate,
        )
        customer_id = f"id-of-{key}"
        customer = Customer(customer_id, key, key.title(), currency)
        subscription = Subscription(f"sub-{key}", customer_id, PLAN, version, MARCH, MARCH, MARCH, None, mode)
        for record in (plan, customer, subscription):
            self.record(record)
        self._pricings |= {(key, name): found for name, found in cards.items()}
        self._modes[key] = mode
        self._currencies[key] = currency
        return customer_id

    def grant(self, key: str, grant_id: str, amount: str, **fields: Any) -> None:
        """A grant of a customer."""
        values = {"effective_at": MARCH, "created_at": MARCH} | fields
        grant = Grant(grant_id, f"id-of-{key}", D(amount), self._currencies[key], **values)
        self.record(grant)

    def record(self, record: PlanVersion | Customer | Subscription | Grant) -> None:
        """A row of the catalog."""
        body = encode_record(record).decode()
        insert = self.connection.execute
        match record:
            case PlanVersion():
                values = record.key, record.version, body
                insert("insert into plans (key, version, body) values (%s, %s, %s)", values)
            case Customer():
                customer = record.id, record.key, body
                insert("insert into customers (id, key, body) values (%s, %s, %s)", customer)
            case Subscription():
                owned = record.id, record.customer_id, body
                insert("insert into subscriptions (id, customer_id, body) values (%s, %s, %s)", owned)
            case Grant():
                owned = record.id, record.customer_id, body
                insert("insert into grants (id, customer_id, body) values (%s, %s, %s)", owned)

    def used(
        self,
        key: str,
        card: str,
        usage: str | Decimal,
        credits: str = "0",
        closed: bool = False,
        start: datetime = MARCH,
        end: datetime | None = None,
        fee: bool = False,
    ) -> None:
        """A billing period has come to this usage, of which credits paid so much."""
        found = self._pricings[key, card]
        full_end = APRIL if start == MARCH else MAY
        end = end or full_end
        if isinstance(found.price, Flat) and end != full_end:
            found = Pricing(_shortened(found.price, start, end, full_end), found.currency)
        amount = total(found, D(usage))
        added = commitment(found, D(usage)) if closed else ZERO
        self.charged(
            ChargeRow(
                customer_id=f"id-of-{key}",
                subscription_id=f"sub-{key}",
                card_key=card,
                period_start=start,
                window_start=start,
                feature_key=None if fee else card,
                period_end=end,
                full_start=start,
                full_end=full_end,
                currency=self._currencies[key],
                settlement_mode=self._modes[key],
                quantity=D(usage),
                late_quantity=ZERO,
                events=1,
                amount=amount + added,
                commitment=added,
                credits=D(credits),
                uncovered=amount + added - D(credits),
                paid={"grant": D(credits)} if D(credits) else {},
                closed=closed,
                revision=next(self._revisions),
            )
        )

    def paid(self, key: str, card: str, window: datetime, paid: dict[str, str]) -> None:
        """Grants have paid so much for a window of March, which is all that it came to."""
        amounts = {grant_id: D(amount) for grant_id, amount in paid.items()}
        credits = sum(amounts.values(), ZERO)
        self.charged(
            ChargeRow(
                customer_id=f"id-of-{key}",
                subscription_id=f"sub-{key}",
                card_key=card,
                period_start=MARCH,
                window_start=window,
                feature_key=card,
                period_end=APRIL,
                full_start=MARCH,
                full_end=APRIL,
                currency=self._currencies[key],
                settlement_mode=self._modes[key],
                quantity=credits,
                late_quantity=ZERO,
                events=1,
                amount=credits,
                commitment=ZERO,
                credits=credits,
                uncovered=ZERO,
                paid=amounts,
                closed=False,
                revision=next(self._revisions),
            )
        )

    def charged(self, *charges: ChargeRow) -> None:
        """Windows have come to this, and the balance of their customer with them."""
        outcome = Outcome()
        for row in charges:
            self._charges[row[:5]] = row
            outcome.charges.append(row)
        customer_id = charges[0].customer_id
        of_customer = [row for row in self._charges.values() if row.customer_id == customer_id]
        charged = sum((row.amount for row in of_customer), ZERO)
        consumed = sum((row.credits for row in of_customer), ZERO)
        outcome.balances.append(
            BalanceRow(
                customer_id=customer_id,
                customer_key=customer_id.removeprefix("id-of-"),
                currency=charges[0].currency,
                funded=consumed,
                settled=ZERO,
                live=ZERO,
                pending=ZERO,
                overage=ZERO,
                consumed=consumed,
                expired=ZERO,
                voided=ZERO,
                uncovered=charged - consumed,
                charged=charged,
                access="allowed",
                reason="",
                level=0,
                threshold="",
                blocked_features=(),
                usage=(),
                revision=next(self._revisions),
                as_of=MARCH,
            )
        )
        self.write(outcome)

    def write(self, outcome: Outcome) -> None:
        """Write rows as the dataflow's sink does."""
        self._ledger.write(rows_of(outcome, 0, 1))


def _shortened(price: Price, start: datetime, end: datetime, full_end: datetime) -> Price:
    assert isinstance(price, Flat)
    return Flat(prorate(price.amount, (start, end), (start, full_end)), price.payment_term)


def shown(totals: Totals) -> str:
    """Totals on one line: amount, + charges, - discounts, - credits, - overage, = total."""
    parts = [plain(totals.amount)]
    for sign, part in (
        ("+", totals.charges_total),
        ("-", totals.discounts_total),
        ("cr", totals.credits_total),
        ("over", totals.overage_total),
    ):
        if part:
            parts.append(f"{sign} {plain(part)}")
    return " ".join([*parts, f"= {plain(totals.total)}"])


def children(line: Line) -> list[str]:
    """The children of a line: name, quantity × price, totals."""
    return [
        f"{child.name}: {plain(child.quantity)} x {plain(child.per_unit_amount)}: {shown(child.totals)}"
        for child in line.children
    ]


def adds_up(invoice: Invoice) -> bool:
    """Whether children add up to lines, and lines to the invoice."""
    return invoice.totals == Totals.sum(line.totals for line in invoice.lines) and all(
        line.totals == Totals.sum(child.totals for child in line.children)
        and line.totals.total
        == line.totals.amount
        + line.totals.charges_total
        - line.totals.discounts_total
        - line.totals.credits_total
        - line.totals.overage_total
        for line in invoice.lines
    )
