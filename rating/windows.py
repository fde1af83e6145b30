"""
Windows that left the state, and come back from the ledger.

A window leaves once newer ones are open, a period once it has closed; what they came to is in the ledger. They come
back where something concerns them after all: a grant that became known later and may pay for them, or usage that was
received in time and could be placed only now. Its row tells of a window what the engine knew of it: usage is dated by
the start of its window, or of the part of it that begins where a grant did that was known by then.

A row of the ledger that was written in an epoch that a crash undid is deleted, and emitted again from the snapshot. So
the rows of what comes back change only once a snapshot holds it; and the ledger keeps the row that is replaced, for
where more than one epoch is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from rating.account import Account
from rating.meters import Aggregation
from rating.money import ZERO
from rating.outcome import ChargeRow, WindowPart
from rating.periods import window_at
from rating.tallies import HighestTally, LowestTally, Tally
from rating.usage import PeriodKey, Slice, UsagePeriod
from rating.wallet import book

LoadWindows = Callable[[str, PeriodKey], Sequence[ChargeRow]]
"""Given a customer and a rate card's billing period: what the ledger has of it, a row for each window."""


LEDGER_LOADS_MAX = 20
"""At most this many customers get windows back from the ledger in one beat: each is a query."""
LEDGER_ASKED_EPOCHS_MAX = 5
"""Stop asking the ledger for windows that do not add up after this many epochs: grants then pay for open ones alone."""


class Reopening:
    """
    Accounts that want windows back, or hold some until a snapshot was made.

    Args:
        accounts: All of the key group, as of a snapshot.
    """

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts: dict[str, Account] = {}
        self._missed_in = -1
        """The last epoch in which the ledger did not have all yet that it was asked for: it has after its end."""
        for account in accounts:
            self.note(account)

    def __bool__(self) -> bool:
        return bool(self._accounts)

    def note(self, account: Account) -> None:
        """Note an account that was settled, if it wants windows or holds some."""
        if account.wanted or account.reopened_in is not None:
            self._accounts[account.state.customer_id] = account

    def forget(self, customer_id: str) -> None:
        """Forget a customer that was set aside."""
        self._accounts.pop(customer_id, None)

    def go_on(
        self,
        load_windows: LoadWindows | None,
        window_seconds: int,
        epoch: int,
        now: datetime,
        settle: Callable[[Account], None],
    ) -> None:
        """
        Bring back windows that grants may pay for, and let them pay once a snapshot holds those.

        Args:
            load_windows: None: what left the state is gone for good.
            window_seconds: Length of a window.
            epoch: How many snapshots were made.
            now: The present instant.
            settle: Settles an account.
        """
        loads = LEDGER_LOADS_MAX if self._missed_in < epoch else 0
        for customer_id, account in [*self._accounts.items()]:
            if account.reopened_in is not None:
                if account.reopened_in < epoch:
                    settle(account)
            elif loads:
                loads -= 1
                if not load_wanted(account, load_windows, window_seconds, epoch, now):
                    self._missed_in = epoch
                if account.reopened_in is None and not account.wanted:
                    # Nothing comes back: what is open is not kept waiting for it.
                    account.wallet.has_refunds = True
                    account.note_transitions()
                    settle(account)
            if account.reopened_in is None and not account.wanted:
                self._accounts.pop(customer_id, None)


def load_wanted(
    account: Account, load_windows: LoadWindows | None, window_seconds: int, epoch: int, now: datetime
) -> bool:
    """
    Load the windows that an account wants, and hold them until a snapshot was made.

    Args:
        account: Its `wanted` periods are those of which the ledger did not have all afterwards.
        load_windows: None: what left the state is gone for good.
        window_seconds: Length of a window.
        epoch: How many snapshots were made.
        now: The present instant.

    Returns:
        Whether the ledger had them all.
    """
    missed = []
    for period in account.wanted:
        if load_windows is None or account.periods.get(period.key) is not period:
            account.looked(period, now)
            continue
        rows = load_windows(account.state.customer_id, period.key)
        slices = windows_that_left(period, rows, window_seconds)
        if slices is not None:
            account.hold_returned(period, slices, epoch)
        elif account.asked < LEDGER_ASKED_EPOCHS_MAX:
            missed.append(period)
        else:
            account.looked(period, now)
    account.keep_wanting(missed)
    return not missed


def windows_that_left(period: UsagePeriod, rows: Sequence[ChargeRow], window_seconds: int) -> list[Slice] | None:
    """
    The windows of a period that are not open any more, in order.

    None where the rows do not add up to what left: the newest ones may not be in the ledger yet.
    """
    open_windows = {part.window_start for part in period.slices}
    left = [row for row in rows if row.window_start not in open_windows]
    events = period.events - sum(part.events for part in period.slices)
    quantity = period.usage - sum((part.quantity for part in period.slices), ZERO)
    uncovered = period.uncovered - sum((part.uncovered for part in period.slices), ZERO)
    paid = dict(period.paid)
    for part in period.slices:
        for grant_id, amount in part.paid.items():
            book(paid, grant_id, -amount)
    found: dict[str, Decimal] = {}
    for row in left:
        for grant_id, amount in row.paid.items():
            book(found, grant_id, amount)
    in_ledger = (
        sum(row.events for row in left),
        sum((row.quantity for row in left), ZERO),
        sum((row.uncovered for row in left), ZERO),
        found,
    )
    return slices_of(left, window_seconds) if in_ledger == (events, quantity, uncovered, paid) else None


def slices_of(rows: Sequence[ChargeRow], window_seconds: int) -> list[Slice]:
    """Windows as the state holds them, in order."""
    slices = []
    before = ZERO
    for row in sorted(rows, key=lambda row: row.window_start):
        start, end = window_at(row.window_start, window_seconds)
        whole = WindowPart(start, end, row.quantity, row.late_quantity, row.events, row.amount, row.uncovered, row.paid)
        for part in row.parts or (whole,):
            slices.append(
                Slice(
                    start=part.start,
                    end=part.end,
                    window_start=start,
                    quantity=part.quantity,
                    late_quantity=part.late_quantity,
                    events=part.events,
                    total_before=before,
                    amount=part.amount,
                    settled=part.amount,
                    paid=dict(part.paid),
                    uncovered=part.uncovered,
                    was_left=True,
                )
            )
            before += part.amount
    return slices


def bring_back(period: UsagePeriod, rows: Sequence[ChargeRow], window_seconds: int) -> None:
    """Make a period that was just opened what it was when it left the state, with all its windows open."""
    period.slices = slices_of(rows, window_seconds)
    period.usage = sum((row.quantity for row in rows), ZERO)
    period.events = sum(row.events for row in rows)
    period.commitment = sum((row.commitment for row in rows), ZERO)
    period.amount = sum((row.amount for row in rows), ZERO) - period.commitment
    period.uncovered = sum((row.uncovered for row in rows), ZERO)
    for row in rows:
        for grant_id, amount in row.paid.items():
            book(period.paid, grant_id, amount)
    period.closed = any(row.closed for row in rows)
    period.segment = None


def comes_back(aggregation: Aggregation) -> bool:
    """Whether what an aggregation remembers follows from what it came to."""
    return aggregation in (Aggregation.SUM, Aggregation.COUNT, Aggregation.MAX, Aggregation.MIN)


def tally_of(aggregation: Aggregation, period: UsagePeriod) -> Tally | None:
    """What an aggregation that comes back remembered."""
    if aggregation is Aggregation.MAX:
        return HighestTally(period.usage)
    if aggregation is Aggregation.MIN:
        return LowestTally(period.usage if period.events else None)
    return None
