"""
How an account is as it was before something that failed: copied beforehand, or taken back step by step.
"""

from __future__ import annotations

from copy import copy
from decimal import Decimal

from msgspec.structs import replace

from rating.account import Account, AccountState
from rating.lanes import Lanes
from rating.money import ZERO
from rating.tallies import Tally, UniqueTally
from rating.usage import Slice, UsagePeriod


def copied(state: AccountState) -> AccountState:
    """The state apart from its tallies, which only events change; nothing else is shared with the original."""
    found = copy(state)
    found.consumed = {**state.consumed}
    found.standing_through = {**state.standing_through}
    found.moves = {**state.moves}
    found.periods = [_copied(period) for period in state.periods]
    return found


def _copied(period: UsagePeriod) -> UsagePeriod:
    found = copy(period)
    found.paid = {**period.paid}
    found.slices = [_copied_slice(part) for part in period.slices]
    if found.reopened:
        found.reopened = [_copied_slice(part) for part in found.reopened]
    return found


def _copied_slice(part: Slice) -> Slice:
    found = copy(part)
    found.paid = {**part.paid}
    return found


class Undo:
    """What one event has added to the periods of an account so far. It costs little, since an event rarely fails."""

    __slots__ = ("_account", "_lanes", "_noted")

    def __init__(self, account: Account, lanes: Lanes) -> None:
        self._account = account
        self._lanes = lanes
        self._noted: list[_Noted] = []

    def note(self, period: UsagePeriod, value: Decimal | str) -> None:
        """The period is about to count the event."""
        self._noted.append(_Noted(period, value))

    def used(self, part: Slice, quantity: Decimal) -> None:
        """It has counted it in a slice."""
        noted = self._noted[-1]
        noted.part, noted.quantity = part, quantity

    def all(self) -> None:
        """Take back what was added. Meters stay to be priced, which comes to the same."""
        for noted in reversed(self._noted):
            period, part = noted.period, noted.part
            period.usage, period.events = noted.usage, noted.events
            if part is not None:
                part.quantity -= noted.quantity
                part.events -= 1
                if part.is_late:
                    part.late_quantity -= noted.quantity
                if len(period.slices) > noted.slices:
                    period.slices = [found for found in period.slices if found is not part]
                self._lanes.take_off(self._account, period, -noted.quantity)
            if isinstance(period.tally, UniqueTally) and isinstance(noted.value, str):
                if len(period.tally) > noted.different:
                    period.tally.discard_last(noted.value)
            else:
                period.tally = noted.tally


class _Noted:
    """A usage period before an event."""

    __slots__ = ("different", "events", "part", "period", "quantity", "slices", "tally", "usage", "value")

    def __init__(self, period: UsagePeriod, value: Decimal | str) -> None:
        tally = period.tally
        self.period = period
        self.value = value
        self.usage = period.usage
        self.events = period.events
        self.slices = len(period.slices)
        self.part: Slice | None = None
        self.quantity = ZERO
        self.different = len(tally) if isinstance(tally, UniqueTally) else 0
        self.tally: Tally | None = tally if tally is None or isinstance(tally, UniqueTally) else replace(tally)
