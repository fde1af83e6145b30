"""
A key group: keeps the accounts of its customers, and hands on what concerns them.

Pure: the instant and the catalog are given, and everything it emits comes back as an `Outcome`. Events are counted at
once (`rating.intake`). Accounts that changed are settled on the beat, or at once where access could change
(`rating.settle`), and so are instants that passed (`rating.timeline`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

import msgspec

from rating.account import Account, AccountState
from rating.aside import Aside
from rating.calendar import Calendar
from rating.catalog import Catalog
from rating.dedup import LoadSegments, SeenEvents
from rating.intake import Arrival, Intake
from rating.lanes import Gathered, Lanes
from rating.money import use_exact
from rating.outcome import Outcome
from rating.outside import Outside
from rating.routes import KnownRoutes
from rating.snapshots import GroupState, Waiting, pack_account, pack_group, unpack_accounts, unpack_group
from rating.time_rules import TimeRules
from rating.timeline import Timeline, Turn
from rating.undo import copied
from rating.usage import UsagePeriod
from rating.windows import LoadWindows, Reopening

EMITTED_PERIODS_MAX = 500
"""After a start, emit at most this many periods of an account at a time: each is priced again for that."""


class KeyGroup:
    """
    The customers of one key group.

    Args:
        number: 0 to 63.
        catalog: The process's catalog; it grows while the group is alive.
        rules: The deployment's rules.
        snapshot: What `snapshot()` gave, or None for a new group.
        load_segments: Gives back sealed segments of event ids by number.
        refresh: Lets the catalog catch up with the control log; called before an event is parked.
        load_windows: Gives back what the ledger has of a period; None: what left the state is gone for good.
    """

    def __init__(
        self,
        number: int,
        catalog: Catalog,
        rules: TimeRules,
        snapshot: bytes | None = None,
        load_segments: LoadSegments = lambda _group, _numbers: (),
        refresh: Callable[[], bool] = lambda: False,
        load_windows: LoadWindows | None = None,
    ) -> None:
        use_exact()
        self.number = number
        self.catalog = catalog
        self.rules = rules
        self._outside = Outside()
        load_segments = self._outside.watched(load_segments)
        if load_windows is not None:
            load_windows = self._outside.watched(load_windows)
        self._turn = Turn()
        self.behind: dict[str, None] = {}
        """Customers that are to be brought up to the catalog and the instant, in order."""
        self._unemitted: dict[str, list[UsagePeriod]] = {}
        """Periods that are still to be emitted since the start, of customers with many."""
        self._aside = Aside()
        self.aside = self._aside.causes
        """Customers at whose data the engine failed, with how: kept as they are until their catalog changes."""
        self._aside_version = catalog.global_version
        state = unpack_group(snapshot)
        self.seen = SeenEvents(number, state.seen, rules.dedup_horizon, load_segments)
        self.accounts = unpack_accounts(state)
        self.dirty: list[Account] = []
        """Accounts that changed since the last beat."""
        self._settling: deque[Account] = deque()
        """Accounts that a beat has not come to yet."""
        self.lanes = Lanes(rules.with_lanes)
        self.calendar = Calendar(catalog, rules, self.accounts, self.lanes, state.read_through, load_windows)
        self.routes = KnownRoutes(self.lanes)
        self.intake = Intake(
            number, catalog, rules, self, self.calendar, self.seen, self.routes, self._outside.watched(refresh)
        )
        self._waiting = state.waiting
        self._waiting_since = -1
        """The epoch in which the last of them came."""
        self._reopening = Reopening(self.accounts.values())
        self._timeline = Timeline(catalog, self.calendar, self.routes, self._turn, self._reopening, self.touch)
        self.received: list[tuple[datetime, int]] = []
        self._numbered = max((account.state.number for account in self.accounts.values()), default=0)
        """How many customers have got a number."""
        for account in self.accounts.values():
            if not account.state.number:
                self._give_number(account)

    # -- input: usage ---------------------------------------------------------------------------

    def fold(
        self,
        blob: bytes,
        received_at: datetime,
        now: datetime,
        out: Outcome,
        framed: bool = False,
        meter: str = "",
        is_back: bool = False,
    ) -> None:
        """
        Take a raw batch of events in.

        Args:
            blob: CloudEvents as JSON, one per line.
            received_at: When the log first took the batch; the time of events that carry none.
            now: The present instant.
            out: Gains what there is to say at once.
            framed: Whether it is known that `is_framed`.
            meter: The key of the one meter whose usage is to be counted, since the rest was; empty: all of it.
            is_back: Whether its events were read before, and waited.
        """
        use_exact()
        self.intake.read_catalog()
        due = self.calendar.next_due()
        if due is not None and due <= received_at:
            self._let_pass(min(received_at, now), out)
        # The clock of events is that of their receiving: what passed since has its effect after them.
        now = min(received_at, now)
        read_through = self.calendar.read_through
        if read_through is None or read_through < received_at:
            self.calendar.read_through = received_at
        rated = self.intake.take(blob, received_at, now, out, framed, meter, is_back)
        if rated:
            self.received.append((received_at, rated))

    # -- input: the catalog, and time -----------------------------------------------------------

    def account(self, customer_id: str, now: datetime) -> Account:
        """The account of a customer, opened if need be."""
        account = self.accounts.get(customer_id)
        if account is None:
            account = self.open_account(customer_id)
        if account.customer is None:
            self._timeline.refresh(account, now)
        return account

    def open_account(self, customer_id: str) -> Account:
        account = self.accounts[customer_id] = Account(AccountState(customer_id))
        self._give_number(account)
        return account

    def _give_number(self, account: Account) -> None:
        """Give an account a number that no other one of the group ever had."""
        self._numbered += 1
        account.give_number(self._numbered)

    def touch(self, account: Account) -> None:
        """Mark an account for the next beat."""
        if account.mark_dirty():
            self.dirty.append(account)

    def begin_turn(self, work: float) -> None:
        """
        Bound the work of what follows: what is left goes on in the turns after it, so that nobody holds up others.

        Args:
            work: In steps of an account, each of as much as it has periods and some more. Without end: all is done.
        """
        self._turn.left = work

    @property
    def goes_on(self) -> bool:
        """Whether work was left for the next turn."""
        return self._turn.left <= 0

    def reconcile(self, customer_ids: Iterable[str], now: datetime, out: Outcome) -> None:
        """
        Bring some customers of this group up to the catalog, and emit them. Repeating it changes nothing.

        An account may have read a part of it before, so it does not matter whether there is anything new.
        """
        use_exact()
        self.intake.read_catalog()
        for customer_id in customer_ids:
            account = self.accounts.get(customer_id)
            if account is not None:
                self.routes.forget_account(account)
            self.behind[customer_id] = None
        self._bring_all_up(now, out)

    def resume(self, now: datetime, out: Outcome) -> None:
        """Start, or start again: bring every customer up to the catalog and the instant, and emit all its rows."""
        use_exact()
        self.intake.read_catalog()
        self.routes.forget_all()
        for account in self.accounts.values():
            self._mark_for_emission(account, account.state.periods)
        self.behind = dict.fromkeys(sorted(self.catalog.customer_ids_by_group[self.number].union(self.accounts)))
        self._bring_all_up(now, out)
        self._emit_rest(now, out)

    def _mark_for_emission(self, account: Account, periods: list[UsagePeriod]) -> None:
        """Mark periods to be emitted as a whole: the first ones now, the rest in later turns."""
        for period in periods[:EMITTED_PERIODS_MAX]:
            period.dirty = period.reprice_all = True
        if len(periods) > EMITTED_PERIODS_MAX:
            self._unemitted[account.state.customer_id] = periods[EMITTED_PERIODS_MAX:]

    def _emit_rest(self, now: datetime, out: Outcome) -> None:
        """Emit what has not been emitted since the start, as far as the turn allows."""
        for customer_id in [*self._unemitted]:
            while customer_id in self._unemitted and self._turn.left > 0 and customer_id not in self.aside:
                account = self.accounts[customer_id]
                self._mark_for_emission(account, self._unemitted.pop(customer_id))
                self._turn.step(account)
                self._settle(account, now, out)

    def _bring_all_up(self, now: datetime, out: Outcome) -> None:
        """Bring customers up to the catalog and the instant, as many as the turn allows."""
        while self.behind and self._turn.left > 0:
            self.bring_up(next(iter(self.behind)), now, out)

    def bring_up(self, customer_id: str, now: datetime, out: Outcome) -> None:
        """Bring an account up to the catalog and the instant. One that was set aside goes on, with its events."""
        del self.behind[customer_id]
        account = self.accounts.get(customer_id)
        if account is None:
            account = self.open_account(customer_id)

        def bring_up() -> None:
            self._turn.step(account)
            self._timeline.catch_up(account, now, out)
            self._timeline.settle(account, now, out)

        self._aside.discard(customer_id)
        if self.guard(account, out, bring_up):
            for held in self._aside.release(customer_id):
                self.fold(held.line, held.received_at, now, out, meter=held.meter, is_back=held.is_back)

    def check_foreseen(self, failure: Exception) -> None:
        """Raise what is not an event's or a customer's doing: a store is away, or the rules ask for every error."""
        if failure is self._outside.failure or self.intake.lane_check_events == 1:
            raise failure

    def guard(self, account: Account, out: Outcome | None, work: Callable[[], None]) -> bool:
        """
        Do something that changes an account, as a whole or not at all: no customer's data ends the rating of others.

        Where it raises, the account is as it was before, and set aside.

        Returns:
            Whether it was done.
        """
        self.lanes.empty(account)
        before = copied(account.state)
        said = out.mark() if out is not None else None
        try:
            work()
        except Exception as failure:
            self.check_foreseen(failure)
            if out is not None and said is not None:
                out.cut(said)
            self._set_aside(account, before, failure)
            return False
        return True

    def _set_aside(self, account: Account, before: AccountState, failure: Exception) -> None:
        """Keep an account as it was, and its events to come, until the catalog says something else of it."""
        customer_id = account.state.customer_id
        self.routes.forget_account(account)
        self._reopening.forget(customer_id)
        self.calendar.forget(account.state)
        self.calendar.forget(before)
        account.clear_dirty()
        self.accounts[customer_id] = Account(before)
        self.accounts[customer_id].hold_again(self.calendar.epoch)
        if customer_id in self._unemitted:
            self._unemitted[customer_id] = [*before.periods]
        self._aside.add(customer_id, failure)

    def hold(self, arrival: Arrival, out: Outcome) -> None:
        """Let an event of a customer that was set aside wait."""
        customer_id = self.catalog.owner_of_usage(arrival.event.subject, arrival.at, arrival.received_at)
        assert customer_id is not None
        self._aside.hold(customer_id, Waiting(arrival.line, arrival.received_at, arrival.only, arrival.is_back), out)

    def hold_for_snapshot(self, arrival: Arrival) -> None:
        """Let an event wait until a snapshot has held its billing period, which has come back from the ledger."""
        self._waiting.append(Waiting(arrival.line, arrival.received_at, arrival.only, arrival.is_back))
        self._waiting_since = self.calendar.epoch

    def _let_pass(self, until: datetime, out: Outcome) -> None:
        """Let the instants up to one have their effect, one by one, on all accounts that they move."""
        for account, due in self.calendar.take_due(until) if self._turn.left > 0 else ():
            account.set_due(due)
            self.guard(account, out, partial(self._timeline.make_up, account, until, out))
            if self._turn.left <= 0:
                return

    def close_ended(self, now: datetime, out: Outcome) -> None:
        """Close every period that is over at `now`, without waiting out its grace."""
        use_exact()
        for account in [*self.accounts.values()]:
            ended = [m for m in account.state.periods if not m.closed and self.calendar.is_over(account, m, now)]
            for period in ended:
                self.calendar.close(account, period)
            if ended:
                self._settle(account, now, out)

    # -- output ---------------------------------------------------------------------------------

    def beat(self, now: datetime, out: Outcome) -> None:
        """Price, settle and emit everything that changed since the last beat, by usage or by time."""
        use_exact()
        self._bring_all_up(now, out)
        if self.aside and self._aside_version != self.catalog.global_version:
            # What all plans share has changed: perhaps it was that.
            self.reconcile([*self.aside], now, out)
        self._aside_version = self.catalog.global_version
        self._let_pass(now, out)
        self._emit_rest(now, out)
        self.price_dirty(now, out)

    def price_dirty(self, now: datetime, out: Outcome) -> None:
        """Price, settle and emit what events changed since the last beat."""
        use_exact()
        if self._waiting and self._waiting_since < self.calendar.epoch:
            waiting, self._waiting = self._waiting, []
            for event in waiting:
                self.fold(event.line, event.received_at, now, out, meter=event.meter, is_back=event.is_back)
        if not self._settling or self._turn.left == math.inf:
            # What is touched while a beat goes on over several turns has its turn on the next.
            self._settling += self.dirty
            self.dirty.clear()
        while self._settling and self._turn.left > 0:
            account = self._settling.popleft()
            if account.dirty:
                self._turn.step(account)
                self._settle(account, now, out)
        calendar = self.calendar
        self._reopening.go_on(
            calendar.load_windows,
            self.rules.window_seconds,
            calendar.epoch,
            now,
            lambda one: self._settle(one, now, out),
        )
        out.received += self.received
        self.received.clear()

    def _settle(self, account: Account, now: datetime, out: Outcome) -> None:
        """Settle an account as a whole or not at all."""
        self.guard(account, out, partial(self._timeline.settle, account, now, out))

    def settle_now(self, account: Account, periods: Sequence[UsagePeriod], now: datetime, out: Outcome) -> None:
        """Price and settle an account there and then, some periods last: their usage may change access."""
        self.guard(account, out, partial(self._timeline.settle, account, now, out, periods))

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to do on the next beat."""
        unemitted = self._unemitted.keys() - self.aside.keys()
        return bool(self.dirty or self._settling or self.behind or self._waiting or self._reopening or unemitted)

    def snapshot(self) -> bytes:
        """
        All state as MessagePack.

        An account is packed again where more has changed since the last snapshot than what its lanes have gathered.
        """
        self.calendar.epoch += 1
        packed: list[msgspec.Raw] = []
        gathered: list[Gathered] = []
        for account in self.accounts.values():
            if account.packed is None:
                self.lanes.empty(account)
                account.note_packed(pack_account(account))
                self.lanes.place(account)
            else:
                gathered += self.lanes.gathered(account)
            assert account.packed is not None
            packed.append(msgspec.Raw(account.packed))
        return pack_group(
            GroupState(
                accounts=packed,
                seen=self.seen.snapshot(),
                read_through=self.calendar.read_through,
                gathered=gathered,
                waiting=[*self._waiting, *self._aside.held()],
            )
        )
