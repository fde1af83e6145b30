"""
The lines of the next invoice: each a difference between what a period has come to and what was billed of it.

Credits are billed as the ledger settled them, spread over the lines as `credits` says, and cover the details of a
period in their order. What they leave is to be paid under `credit_then_invoice`. Under `credit_only` it is overage,
which the next grant repays and which is never invoiced: it is taken off as a figure of its own, so that the line comes
to 0, and turns into credits on the next invoice once it is repaid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from rating.calendar import is_in_arrears
from rating.catalog import Catalog, RateCard, SettlementMode, decode_record
from rating.charge import billable_quantity
from rating.details import Category, Detail
from rating.money import ONE, ZERO, plain, round_minor, use_exact
from rating.prices import Flat, Json, Pricing, conversion_to_v1, discounts_to_v1, price_to_v1
from tollway.invoicing.credits import Coverage, spread
from tollway.invoicing.model import LedgerIncomplete, Line, LineDetail, LineType, Totals
from tollway.invoicing.parts import Before, PeriodKey, before_parts, details_of, key_of, period_end
from tollway.invoicing.pricing import priced_by
from tollway.ledger_reads import Charge, ChargeStatus, Connection, CustomerHead, rows


class DetailKey(NamedTuple):
    """Details of one key, within a billing period, differ only in figures."""

    name: str
    category: Category
    per_unit_amount: Decimal
    is_flat: bool


class Figures(NamedTuple):
    """What adds up, of a detail."""

    quantity: Decimal = ZERO
    amount: Decimal = ZERO
    charges: Decimal = ZERO
    discounts: Decimal = ZERO
    credits: Decimal = ZERO
    overage: Decimal = ZERO

    def less(self, billed: Figures) -> Figures:
        """What is left when the other is taken off."""
        return Figures(*(after - before for after, before in zip(self, billed, strict=True)))


class Billed(NamedTuple):
    """What the invoices that stand have billed of a billing period."""

    details: dict[DetailKey, Figures]
    quantity: Decimal = ZERO
    metered_quantity: Decimal = ZERO
    charged: Decimal = ZERO
    """How much of what the period was charged, exact."""
    credited: Decimal = ZERO
    """How much of what credits paid of it, exact."""

    @property
    def credits(self) -> Decimal:
        """What they show of credits."""
        return sum((figures.credits for figures in self.details.values()), ZERO)


class PeriodStanding(NamedTuple):
    """A billing period as it stands: what it has come to, how it is priced, and what was billed of it."""

    charge: Charge
    card: RateCard
    pricing: Pricing
    billed: Billed
    before: Before | None = None
    """What the parts of the period before it had come to, where a move has cut it."""
    customer_key: str | None = None
    """Whose ledger may be behind a move; None: nothing has priced it anew."""


def unbilled(
    connection: Connection,
    head: CustomerHead,
    as_of: datetime | None,
    new_id: Callable[[], str],
    *,
    ended_by: datetime | None = None,
) -> list[Line]:
    """
    The lines that the next invoice has, of what was charged.

    Args:
        connection: Is read on.
        head: Whose invoice.
        as_of: Only periods that began before; None for all.
        new_id: Gives the ids of lines and children.
        ended_by: Only periods that were over by then, and fees in advance, which are due as theirs begin; None for all.

    Raises:
        LedgerIncomplete: Some of the customer's charges are missing.
    """
    use_exact()
    # Read before the ledger: the other way round, more could be billed than what the ledger is seen to have.
    billed = read_billed(connection, head.id)
    found = _read_charges(connection, head)
    catalog = price_book(connection, head.id) if found else Catalog()
    periods = []
    before = before_parts(catalog, found)
    for charge in found:
        if as_of is not None and charge.period_start >= as_of:
            continue
        assert charge.currency == head.currency, f"a charge in {charge.currency}, expected {head.currency}"
        card, pricing = priced_by(catalog, charge)
        is_in_advance = isinstance(pricing.price, Flat) and not is_in_arrears(pricing)
        if ended_by is not None and not is_in_advance and period_end(catalog, charge) > ended_by:
            continue
        key = key_of(charge)
        has_moved = bool(catalog.subscriptions[head.id][charge.subscription_id].moves)
        standing = PeriodStanding(charge, card, pricing, billed.get(key, Billed({})), before.get(key))
        periods.append(standing._replace(customer_key=head.key) if has_moved else standing)
    return differences(periods, billed.values(), new_id)


def _read_charges(connection: Connection, head: CustomerHead) -> list[Charge]:
    """All charges of a customer, provided that they come to what its balance says."""
    found = rows(connection, "charges", {"customer_id": head.id, "feature_key": None, "closed": None})
    for name, in_all, parts in (
        ("charged", "charged_in_all", ("amount", "commitment")),
        ("consumed", "consumed_in_all", ("credits",)),
    ):
        told = sum((row[part] for row in found for part in parts), ZERO)
        balance = found[0][in_all] if found else ZERO
        if told != balance:
            raise LedgerIncomplete(head.key, name, plain(told), "nothing" if balance is None else plain(balance))
    return [msgspec.convert(row, Charge) for row in found]


def read_billed(connection: Connection, customer_id: str) -> dict[PeriodKey, Billed]:
    """What the invoices that stand have billed, by billing period."""
    by_period: dict[PeriodKey, Billed] = {}
    for row in rows(connection, "billed_quantities", {"customer_id": customer_id}):
        period_key = row["subscription_id"], row["card_key"], row["period_start"]
        sums = (row[name] for name in Billed._fields[1:])
        by_period[period_key] = Billed({}, *sums)
    for row in rows(connection, "billed_details", {"customer_id": customer_id}):
        period = by_period[row["subscription_id"], row["card_key"], row["period_start"]]
        key = _key(row["name"], row["category"], row["unit_price"], row["flat_price"])
        period.details[key] = Figures(*(row[name] for name in Figures._fields))
    return by_period


def price_book(connection: Connection, customer_id: str) -> Catalog:
    """The customer's subscriptions, the plan versions they are on, and their features: what priced a charge."""
    catalog = Catalog()
    found = rows(connection, "price_records", {"customer_id": customer_id})
    for entry_id, row in enumerate(found, 1):
        catalog.apply(entry_id, decode_record(row["body"]))
    return catalog


def differences(
    periods: Iterable[PeriodStanding], all_billed: Iterable[Billed], new_id: Callable[[], str]
) -> list[Line]:
    """
    What periods have come to, less what was billed of them, with a line for each that differs.

    Args:
        periods: Those that may be billed, of one customer.
        all_billed: Of all its periods, those that are not billed now among them.
        new_id: Gives the ids of lines and children.
    """
    use_exact()
    changed = [_Draft.of(period) for period in periods]
    changed = [draft for draft in changed if draft.has_changed()]
    if not changed:
        return []
    currency = changed[0].standing.charge.currency
    paid = shown = ZERO
    for billed in all_billed:
        paid += billed.credited
        shown += billed.credits
    paid += sum((draft.standing.charge.credits - draft.standing.billed.credited for draft in changed), ZERO)
    shares = spread(round_minor(paid, currency) - shown, [draft.coverage for draft in changed], currency)
    lines = (draft.line(draft.coverage.shown + share, new_id) for draft, share in zip(changed, shares, strict=True))
    return [line for line in lines if line is not None]


class _Draft(NamedTuple):
    """A period that may become a line."""

    standing: PeriodStanding
    details: list[Detail]
    coverage: Coverage

    @staticmethod
    def of(standing: PeriodStanding) -> _Draft:
        charge, pricing = standing.charge, standing.pricing
        found = details_of(charge, pricing, standing.before)
        exact, in_ledger = sum((row.amount for row in found), ZERO), charge.amount + charge.commitment
        if exact != in_ledger and standing.customer_key is not None:
            raise LedgerIncomplete(standing.customer_key, "charged", plain(in_ledger), f"{plain(exact)} after a move")
        assert exact == in_ledger, (
            f"rate card `{charge.card_key}` comes to {plain(exact)}, but the ledger has {plain(in_ledger)}"
        )
        net = sum((row.rounded for row in found), ZERO)
        return _Draft(standing, found, Coverage(net, charge.credits, charge.uncovered, standing.billed.credits))

    def has_changed(self) -> bool:
        """Whether anything of the period differs from what was billed of it, to the last digit."""
        charge, billed = self.standing.charge, self.standing.billed
        if (charge.usage, charge.amount + charge.commitment, charge.credits) != billed[2:]:
            return True
        quantities = {key: figures.quantity for key, figures in billed.details.items() if figures.quantity}
        return quantities != {_key_of(row): row.quantity for row in self.details if row.quantity}

    def line(self, credits: Decimal, new_id: Callable[[], str]) -> Line | None:
        """The line, where the period comes to show so much of credits; None where it differs in nothing to be seen."""
        charge, card, pricing, billed, *_ = self.standing
        owed = self._owed(credits)
        changed = {}
        for key in owed | billed.details:
            figures = owed.get(key, Figures()).less(billed.details.get(key, Figures()))
            if any(figures):
                changed[key] = figures
        metered_quantity = charge.usage - billed.metered_quantity
        if not changed and not metered_quantity:
            return None
        is_fee = isinstance(pricing.price, Flat)
        line_id = new_id()
        children = tuple(_child(new_id(), key, figures) for key, figures in changed.items())
        return Line(
            id=line_id,
            type=LineType.FLAT_FEE if is_fee or card.feature_key is None else LineType.USAGE_BASED,
            subscription_id=charge.subscription_id,
            card_key=charge.card_key,
            feature_key=charge.feature_key,
            name=card.name,
            period_start=charge.period_start,
            period_end=charge.period_end,
            quantity=(ONE if is_fee else self._quantity()) - billed.quantity,
            metered_quantity=metered_quantity,
            rate_card=_rate_card(card.pricing),
            totals=Totals.sum(child.totals for child in children),
            usage_after=charge.usage,
            credits_after=charge.credits,
            closed=charge.status is ChargeStatus.CLOSED,
            charged=charge.amount + charge.commitment - billed.charged,
            credited=charge.credits - billed.credited,
            children=children,
        )

    def _quantity(self) -> Decimal:
        """The usage as the price sees it: of a later part, what it brings beyond the parts before."""
        _, _, pricing, _, before, _ = self.standing
        carried = ZERO if before is None else before.usage
        return billable_quantity(pricing, carried + self.standing.charge.usage) - billable_quantity(pricing, carried)

    def _owed(self, credits: Decimal) -> dict[DetailKey, Figures]:
        """All details of the period, as if nothing of it had been billed."""
        charge = self.standing.charge
        left = self.coverage.left(credits, charge.currency)
        rounding = self.coverage.net - credits - left
        is_overage = charge.settlement_mode == SettlementMode.CREDIT_ONLY
        owed = {}
        for row in self.details:
            paid = min(credits, row.rounded)
            taken_off = min(rounding, row.rounded - paid)
            credits -= paid
            rounding -= taken_off
            overage = row.rounded - paid - taken_off if is_overage else ZERO
            owed[_key_of(row)] = _figures(row, taken_off, paid, overage)
        return owed


def _figures(row: Detail, rounding: Decimal, credits: Decimal, overage: Decimal) -> Figures:
    gross, discount = row.minor.gross, row.minor.discount + rounding
    if row.category is Category.COMMITMENT:
        return Figures(row.quantity, ZERO, gross, discount, credits, overage)
    return Figures(row.quantity, gross, ZERO, discount, credits, overage)


def _key_of(row: Detail) -> DetailKey:
    return _key(row.name, row.category, row.unit_price, row.flat_price)


def _key(name: str, category: str, unit_price: Decimal | None, flat_price: Decimal | None) -> DetailKey:
    per_unit_amount = (unit_price or ZERO) + (flat_price or ZERO)
    return DetailKey(name, Category(category), per_unit_amount, flat_price is not None)


def _child(child_id: str, key: DetailKey, figures: Figures) -> LineDetail:
    return LineDetail(
        id=child_id,
        name=key.name,
        category=key.category,
        per_unit_amount=key.per_unit_amount,
        is_flat=key.is_flat,
        quantity=figures.quantity,
        totals=Totals.of(*figures[1:]),
    )


def _rate_card(pricing: Pricing) -> Json:
    written: Json = {
        "price": price_to_v1(pricing.price),
        "discounts": discounts_to_v1(pricing.discounts),
    }
    conversion = conversion_to_v1(pricing.conversion)
    return written if conversion is None else written | {"unitConfig": conversion}
