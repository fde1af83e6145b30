"""
What the core emits: absolute rows with a revision, and events that were not rated.

Amounts are exact decimals in the customer's currency. A row states a total, never a change, so it may
be written any number of times; of two rows with the same key, the one with the greater revision holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

import msgspec
from msgspec import Struct

from rating.account import Account
from rating.money import ZERO
from rating.refusals import Parked, Rejected
from rating.usage import Slice, UsagePeriod, merged


class WindowPart(NamedTuple):
    """The part of a window's charge that is for usage from `start` up to `end`: by that it is decided who may pay."""

    start: datetime
    end: datetime
    quantity: Decimal
    late_quantity: Decimal
    events: int
    amount: Decimal
    uncovered: Decimal
    paid: dict[str, Decimal]


class ChargeRow(NamedTuple):
    """
    What one rate card of one customer cost within one window of a billing period, and who paid.

    The one row of the ledger from which all else of a charge follows: the period is the sum of its windows,
    and what a grant paid is the sum of its entries in `paid`.
    """

    customer_id: str
    subscription_id: str
    card_key: str
    period_start: datetime
    window_start: datetime
    feature_key: str | None
    period_end: datetime
    full_start: datetime
    full_end: datetime
    currency: str
    settlement_mode: str
    quantity: Decimal
    late_quantity: Decimal
    events: int
    amount: Decimal
    """Running charges and commitment."""
    commitment: Decimal
    """The part of `amount` that the minimum added when the period closed."""
    credits: Decimal
    uncovered: Decimal
    paid: dict[str, Decimal]
    """What each grant paid; their sum is `credits`."""
    closed: bool
    revision: int
    parts: tuple[WindowPart, ...] = ()
    """Where a grant begins or ends within the window, or usage came late for another. Empty: all is as of its start."""
    was_left: bool = False
    """Whether the window had left the state before, so that only the ledger has the row that this one replaces."""


class PeriodUsage(NamedTuple):
    """What a feature was used in a billing period, in the meter's unit."""

    feature_key: str
    period_start: datetime
    period_end: datetime
    quantity: Decimal


class BalanceRow(NamedTuple):
    """
    What a customer has left, and whether it may go on.

    ``funded == settled + pending + consumed + expired + voided`` and ``charged == consumed + uncovered``.
    """

    customer_id: str
    customer_key: str
    currency: str
    funded: Decimal
    settled: Decimal
    live: Decimal
    pending: Decimal
    overage: Decimal
    consumed: Decimal
    expired: Decimal
    voided: Decimal
    uncovered: Decimal
    charged: Decimal
    access: str
    reason: str
    level: int
    """How many low-balance thresholds are crossed, zero itself being the last."""
    threshold: str
    """The lowest threshold crossed, in plain notation; empty when none is."""
    blocked_features: tuple[str, ...]
    """Features that may not be used although the customer may go on: only restricted credit is left."""
    usage: tuple[PeriodUsage, ...]
    """Of the features with a metered entitlement, in the billing periods that are not over."""
    revision: int
    as_of: datetime


class MismatchRow(NamedTuple):
    """A duplicate whose content differs from the event that was rated: no effect on money, kept to be looked at."""

    source: str
    id: str
    raw: bytes


class SeenIds(NamedTuple):
    """A full segment of event ids, kept in the ledger so that snapshots need not carry it again."""

    key_group: int
    segment: int
    ids: bytes
    oldest_needed: int
    """Segments with smaller numbers have been forgotten."""


class UsedSubject(NamedTuple):
    """A subject under which a customer had usage. Emitted again whenever its route is looked up."""

    customer_id: str
    subject: str


class Outcome:
    """Everything that a key group emits for its input. Falsy where it is empty."""

    __slots__ = (
        "balances", "catalog_version", "charges", "ended", "mismatches",
        "parked", "received", "rejected", "seen", "subjects", "urgent", "wrong_lanes",
    )  # fmt: skip

    def __init__(self, catalog_version: int = 0) -> None:
        self.catalog_version = catalog_version
        """The control-log entry that had at least been seen: an event parked here waits for a later one."""
        self.charges: list[ChargeRow] = []
        self.balances: list[BalanceRow] = []
        self.rejected: list[Rejected] = []
        self.parked: list[Parked] = []
        self.mismatches: list[MismatchRow] = []
        self.seen: list[SeenIds] = []
        self.subjects: list[UsedSubject] = []
        """Come with events that ended."""
        self.ended: Counter[tuple[str, str]] = Counter()
        """How events ended: (`rated` | `duplicate` | `parked` | `rejected`, reason) → how many."""
        self.received: list[tuple[datetime, int]] = []
        """When the events behind these balances were received, and how many."""
        self.wrong_lanes = 0
        """How many folds by a lane were found to be wrong, and went the slow way."""
        self.urgent = False
        """Whether access changed, so that the balances go out first."""

    def __reduce__(self) -> tuple[Callable[[bytes], Outcome], tuple[bytes]]:
        """An outcome crosses to another process as MessagePack; within one it is handed on as it is."""
        return unpack_outcome, (pack_outcome(self),)

    def reject(self, rejected: Rejected) -> None:
        """An event ends as rejected."""
        self.rejected.append(rejected)
        self.ended["rejected", rejected.code] += 1

    def mark(self) -> tuple[int, int, bool]:
        """How many rows of customers there are, for `cut`."""
        return len(self.charges), len(self.balances), self.urgent

    def cut(self, mark: tuple[int, int, bool]) -> None:
        """Take back the rows of customers that came after a mark."""
        charges, balances, self.urgent = mark
        del self.charges[charges:], self.balances[balances:]

    def __bool__(self) -> bool:
        return bool(
            self.balances or self.charges or self.ended or self.rejected or self.parked or self.seen or self.subjects
        )


class _Packed(Struct, array_like=True):
    """An outcome as it crosses to another process: what is for the sinks. Ends of events are counted before."""

    catalog_version: int
    charges: list[ChargeRow]
    balances: list[BalanceRow]
    rejected: list[Rejected]
    parked: list[Parked]
    mismatches: list[MismatchRow]
    seen: list[SeenIds]
    subjects: list[UsedSubject]
    received: list[tuple[datetime, int]]
    urgent: bool


_encoder = msgspec.msgpack.Encoder(decimal_format="string")
_decoder = msgspec.msgpack.Decoder(_Packed)


def pack_outcome(outcome: Outcome) -> bytes:
    """All but what is counted where it happens (`ended`, `wrong_lanes`), as MessagePack."""
    return _encoder.encode(_Packed(*(getattr(outcome, name) for name in _Packed.__struct_fields__)))


def unpack_outcome(packed: bytes) -> Outcome:
    """The inverse of `pack_outcome`."""
    found = _decoder.decode(packed)
    outcome = Outcome()
    for name in _Packed.__struct_fields__:
        setattr(outcome, name, getattr(found, name))
    return outcome


# -- the rows of a period ----------------------------------------------------------------------------


def charge_rows(account: Account, period: UsagePeriod, whole: bool) -> Iterator[ChargeRow]:
    """The rows of a period's windows: of all that are open, or of the last alone."""
    slices = period.slices
    last = slices[-1]
    if len(slices) == 1 or (not whole and slices[-2].window_start != last.window_start):
        yield _row(account, period, [last], period.commitment)
        return
    # Slices are in the order of their windows.
    for window_start, parts in groupby(slices, key=_window):
        if whole or window_start == last.window_start:
            commitment = period.commitment if window_start == last.window_start else ZERO
            yield _row(account, period, list(parts), commitment)


def _window(part: Slice) -> datetime:
    return part.window_start


def _row(account: Account, period: UsagePeriod, slices: list[Slice], commitment: Decimal) -> ChargeRow:
    customer = account.customer
    first = slices[0]
    window_start = first.window_start
    if len(slices) == 1:
        within, was_left, is_whole = first, first.was_left, first.start == window_start
    else:
        within, was_left, is_whole = merged(slices), any(part.was_left for part in slices), False
    return ChargeRow(
        account.state.customer_id,
        period.subscription_id,
        period.card_key,
        period.period_start,
        window_start,
        period.feature_key,
        period.period_end,
        period.full_start,
        period.full_end,
        customer.currency if customer is not None else "",
        "credit_only" if period.repays else "credit_then_invoice",
        within.quantity,
        within.late_quantity,
        within.events,
        within.amount,
        commitment,
        within.amount - within.uncovered,
        within.uncovered,
        dict(within.paid),
        period.closed,
        account.revision,
        () if is_whole else tuple(map(_part, slices)),
        was_left,
    )


def _part(found: Slice) -> WindowPart:
    return WindowPart(
        found.start,
        found.end,
        found.quantity,
        found.late_quantity,
        found.events,
        found.amount,
        found.uncovered,
        dict(found.paid),
    )
