"""
Time and an account: each instant that moves it has its effect as of then, whenever somebody looks.

A grant begins or ends, a period opens or closes, a fee comes due. What was received before an instant is settled before
it, so the outcome is that of having looked all the time. What a single instant does is in `rating.calendar`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime

from rating.account import Account
from rating.calendar import TICK, Calendar
from rating.catalog import Catalog
from rating.outcome import Outcome
from rating.routes import KnownRoutes
from rating.settle import settle_account
from rating.usage import UsagePeriod
from rating.windows import Reopening

STEP_WORK = 10
"""What a step of an account costs besides its periods. The unit is the work of one period: some microseconds."""


class Turn:
    """How much work may still be done in this turn; what is left over goes on in the next one."""

    def __init__(self) -> None:
        self.left = math.inf

    def step(self, account: Account) -> None:
        """Take the work of a step of an account off what is left."""
        self.left -= STEP_WORK + len(account.state.periods)


class Timeline:
    """
    Brings accounts up to an instant, and settles them there.

    Args:
        catalog: The process's catalog.
        calendar: Knows which instant moves an account next, and what it does.
        routes: Those to an account are forgotten as its periods leave.
        turn: Bounds the work.
        reopening: Learns of accounts that want windows back.
        touch: Marks an account for the next beat.
    """

    def __init__(
        self,
        catalog: Catalog,
        calendar: Calendar,
        routes: KnownRoutes,
        turn: Turn,
        reopening: Reopening,
        touch: Callable[[Account], None],
    ) -> None:
        self.catalog = catalog
        self.calendar = calendar
        self.routes = routes
        self.turn = turn
        self.reopening = reopening
        self.touch = touch

    def make_up(self, account: Account, until: datetime, out: Outcome) -> None:
        """
        Let the instants that passed while nobody looked have their effect, one by one, as if somebody had.

        What was received before an instant is settled before it.
        """
        while account.next_due is not None and account.next_due <= until and self.turn.left > 0:
            self.turn.step(account)
            due = account.next_due
            if account.dirty:
                self._settle_at(account, due - TICK, out)
            self.refresh(account, due)
            self._settle_at(account, due, out)
        if account.next_due is not None and account.next_due <= until:
            self.calendar.again(account)

    def catch_up(self, account: Account, now: datetime, out: Outcome) -> None:
        """
        Let all instants up to now have their effect one by one, with the catalog as it is.

        An account that is new lives through all of them: its grants come and go, and the fees of its periods come due.
        """
        reached = account.state.advanced_to
        if reached is None:
            instant = self.catalog.first_instant(account.state.customer_id)
            while instant is not None and instant < now:
                if self.turn.left <= 0 and account.next_due is not None:
                    # Others have their turn first: it goes on with what is due.
                    return
                self.turn.step(account)
                self.refresh(account, instant)
                self._settle_at(account, instant, out)
                instant = self.calendar.next_charge(account)
        elif reached < now:
            self.refresh(account, reached)
            self.make_up(account, now, out)
            if account.next_due is not None and account.next_due <= now:
                return
        self.refresh(account, now)

    def refresh(self, account: Account, now: datetime) -> None:
        """Read the catalog, and let time have its effect on the account up to `now`."""
        self.calendar.lanes.close(account)
        if self.calendar.advance(account, now):
            self.routes.forget_account(account)

    def settle(self, account: Account, now: datetime, out: Outcome, last: Sequence[UsagePeriod] = ()) -> None:
        """
        Price and settle the dirty periods of an account and emit it, after the instants that passed.

        What an event used that may have exhausted a grant is settled `last`: all before it fitted in the headroom,
        where order does not matter, so credits burn in the order in which the usage was rated.
        """
        if account.next_due is not None and account.next_due <= now:
            self._settle_at(account, account.next_due - TICK, out, last)
            self.make_up(account, now, out)
            last = ()
            if account.next_due is not None and account.next_due <= now:
                # Others have their turn first.
                self.touch(account)
                return
        self._settle_at(account, now, out, last)

    def _settle_at(self, account: Account, now: datetime, out: Outcome, last: Sequence[UsagePeriod] = ()) -> None:
        """Settle an account on which time has had its effect."""
        settle_account(account, self.calendar, now, out, last)
        self.reopening.note(account)
