"""
What time and the catalog do to an account: its billing periods open, move, close and leave.

A usage period opens with its first usage, or at its start where something is due without any. It closes
once the grace after its period has passed: the minimum applies, and later usage is parked. A while later it leaves the
state; what it came to is in the ledger.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta

from rating.account import Account, AccountState
from rating.carried import earlier_parts
from rating.catalog import NEVER, Catalog, Placement, SettlementMode, Subscription
from rating.charge import costs_unused, first_segment, prorated
from rating.lanes import Lanes
from rating.payments import repay_uncovered
from rating.periods import Period
from rating.prices import Flat, Free, PaymentTerm, Pricing
from rating.time_rules import TimeRules
from rating.usage import PeriodKey, UsagePeriod
from rating.windows import LoadWindows, bring_back, comes_back, tally_of

TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
STANDING_PERIODS_MAX = 500
"""Open at most this many billing periods of a customer before others have their turn."""
NOTHING = Pricing(Free(), "")
"""
Prices a period that never was, since its subscription had ended before it began, and one that no version in force has
the rate card for: what it was charged is given back.
"""


class Calendar:
    """
    The billing periods of some accounts, and when time alone will move one of them next.

    Args:
        catalog: The process's catalog; it grows while the calendar is in use.
        rules: The deployment's rules.
        accounts: By customer, those that it looks after; the caller adds to them.
        lanes: Theirs.
        read_through: The latest instant at which an event that was read had been received.
        load_windows: Gives back what the ledger has of a period that left the state.
    """

    def __init__(
        self,
        catalog: Catalog,
        rules: TimeRules,
        accounts: dict[str, Account],
        lanes: Lanes,
        read_through: datetime | None,
        load_windows: LoadWindows | None = None,
    ) -> None:
        self.catalog = catalog
        self.rules = rules
        self.accounts = accounts
        self.lanes = lanes
        self.read_through = read_through
        self.load_windows = load_windows
        self.epoch = 0
        """How many snapshots were made."""
        self._pricings: dict[PeriodKey, Pricing] = {}
        self._due: list[tuple[datetime, str]] = []

    # -- usage periods -----------------------------------------------------------------------------------

    def usage_period(self, account: Account, placement: Placement, now: datetime) -> UsagePeriod | None:
        """
        The usage period of a placement, opened if need be.

        Args:
            account: The customer's.
            placement: Where usage belongs.
            now: When the usage was received: in time, a period that left the state comes back from the ledger.

        Returns:
            None when the period has left the state for good.
        """
        subscription, card, span = placement.subscription, placement.card, placement.period
        key = (subscription.id, card.key, span.start)
        period = account.periods.get(key)
        if period is not None:
            return period
        held = self.catalog.subscriptions[account.state.customer_id][subscription.id]
        if held is not subscription:
            # Usage was placed by what was known when it arrived; what its period is and costs is by what is known now.
            now_known = self.catalog.placement(held, card.key, span.start)
            if now_known is not None and now_known.period.start == span.start:
                placement, subscription, card, span = now_known, held, now_known.card, now_known.period
            else:
                span = Period(span.start, span.start)
        closes_at = self._closes_at(subscription, placement.ends)
        opened_through = account.state.standing_through.get(subscription.id, subscription.active_from)
        gone_at = closes_at + self.rules.keep_closed
        left = span.start < opened_through and self.read_through is not None and gone_at <= self.read_through
        if left and (now >= closes_at or not self._comes_back(placement)):
            return None
        pricing = self._pricings[key] = _prorated(placement) if span.start < span.end else NOTHING
        period = UsagePeriod(
            subscription_id=subscription.id,
            card_key=card.key,
            feature_key=card.feature_key,
            period_start=span.start,
            period_end=span.end,
            full_start=placement.full_period.start,
            full_end=placement.full_period.end,
            closes_at=closes_at,
            repays=subscription.settlement_mode is SettlementMode.CREDIT_ONLY,
            booked_from=_due_at(pricing, span.start, span.end),
            segment=None if placement.goes_on else first_segment(pricing),
            counted_from=placement.counted.start if placement.goes_on else None,
        )
        if left:
            self._bring_back(account, period)
        account.add(period)
        self.lanes.stop(account, earlier_parts(account, period))
        advanced_to = account.state.advanced_to
        assert advanced_to is not None
        if closes_at <= max(now, advanced_to) and not period.closed:
            self.close(account, period)
        due = self._next_stop(period, advanced_to)
        if account.next_due is None or due < account.next_due:
            account.set_due(due)
            heapq.heappush(self._due, (due, account.state.customer_id))
        return period

    def pricing(self, account: Account, period: UsagePeriod) -> Pricing:
        """What prices a period: its rate card's pricing, with a fee and a minimum prorated where the plan says so."""
        known = self._pricings.get(period.key)
        if known is not None:
            return known
        placement = None
        if period.period_start < period.period_end:
            subscription = self.catalog.subscriptions[account.state.customer_id][period.subscription_id]
            placement = self.catalog.placement(subscription, period.card_key, period.period_start)
        pricing = self._pricings[period.key] = NOTHING if placement is None else _prorated(placement)
        return pricing

    def _comes_back(self, placement: Placement) -> bool:
        """
        Whether a period that left the state can be made from the ledger what it was.

        One that a move has cut does not come back: usage of one part is what the next one begins at.
        """
        if self.load_windows is None or placement.goes_on or placement.period.end < placement.ends:
            return False
        feature = self.catalog.features.get(placement.card.feature_key or "")
        metered = self.catalog.meters.get(feature.meter_key or "") if feature is not None else None
        return metered is not None and comes_back(metered.aggregation)

    def _bring_back(self, account: Account, period: UsagePeriod) -> None:
        """Make a period what it was when it left the state. Its rows change only after a snapshot."""
        assert self.load_windows is not None
        feature = self.catalog.features[period.feature_key or ""]
        bring_back(period, self.load_windows(account.state.customer_id, period.key), self.rules.window_seconds)
        period.tally = tally_of(self.catalog.meters[feature.meter_key or ""].aggregation, period)
        period.booked = period.period_start < period.booked_from
        account.note_return(period, self.epoch)

    def forget(self, state: AccountState) -> None:
        """Forget what prices the periods of a customer: it is worked out again."""
        for period in state.periods:
            self._pricings.pop(period.key, None)

    def close(self, account: Account, period: UsagePeriod) -> None:
        """The period is over, and so is its grace: the minimum applies."""
        period.closed = True
        account.note_transitions()
        period.dirty = True

    def is_over(self, account: Account, period: UsagePeriod, now: datetime) -> bool:
        """Whether a billing period is over with all its parts, its grace apart."""
        subscription = self.catalog.subscriptions[account.state.customer_id][period.subscription_id]
        placement = self.catalog.placement(subscription, period.card_key, period.period_start)
        return max(period.period_end, period.period_end if placement is None else placement.ends) <= now

    def _closes_at(self, subscription: Subscription, period_end: datetime) -> datetime:
        return closes_at(subscription, period_end, self.rules.grace)

    # -- time -------------------------------------------------------------------------------------

    def next_due(self) -> datetime | None:
        """The next instant at which time alone moves an account."""
        while self._due and self.accounts[self._due[0][1]].next_due != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def take_due(self, now: datetime) -> Iterator[tuple[Account, datetime]]:
        """The accounts that time has moved, and since when; each is to be advanced before the next is taken."""
        while (due := self.next_due()) is not None and due <= now:
            account = self.accounts[heapq.heappop(self._due)[1]]
            account.set_due(None)
            yield account, due

    def again(self, account: Account) -> None:
        """An account has more to do at the instant at which it is due."""
        assert account.next_due is not None
        heapq.heappush(self._due, (account.next_due, account.state.customer_id))

    def advance(self, account: Account, now: datetime) -> bool:
        """
        Read the catalog, and let time have its effect on the account up to `now`. Its lanes are closed.

        Returns:
            Whether periods left the state.
        """
        assert not self.lanes.of(account)
        state = account.state
        reached = state.advanced_to or now
        now = max(now, reached)
        account.advance_to(now)
        account.read_catalog(self.catalog, now)
        moved = self._take_over_moves(account, now)
        self._follow_subscriptions(account, {subscription.id for subscription, _ in moved})
        for subscription, at in moved:
            if at is not None:
                self._open_standing_at(account, subscription, at, now)
        goes_on = self._open_standing_periods(account, now)
        for period in state.periods:
            if not period.closed and period.closes_at <= now:
                self.close(account, period)
            if reached < period.period_start <= now and period.events:
                # It was used before it began.
                account.note_transitions()
            if period.period_start < period.booked_from <= now and not period.booked:
                period.booked = period.dirty = True
                account.note_transitions()
        left = self._drop_closed(account, now)
        for period in repay_uncovered(account, now) if state.uncovered else []:
            period.dirty = period.reprice_all = True
        self._schedule(account, goes_on)
        return left

    def _take_over_moves(self, account: Account, now: datetime) -> list[tuple[Subscription, datetime | None]]:
        """
        The moves to other versions that are new, each with its instant if what costs something in any case is to open
        there: time has had its effect on the subscription beyond it.
        """
        state = account.state
        moved: list[tuple[Subscription, datetime | None]] = []
        for subscription in self.catalog.subscriptions.get(state.customer_id, {}).values():
            known = state.moves.get(subscription.id, 0)
            for move in subscription.moves[known:]:
                account.note_moves(subscription.id, len(subscription.moves))
                through = state.standing_through.get(subscription.id)
                passed = through is not None and move.at < through
                if passed:
                    # What is due without usage has other periods from here on: of all before, one that is open changes.
                    through = state.standing_through[subscription.id]
                    from_here = max(move.at, min(move.recorded_at, now))
                    account.note_standing(subscription.id, min(through, from_here))
                moved.append((subscription, move.at if passed and move.at <= now else None))
            through = state.standing_through.get(subscription.id)
            if moved and moved[-1][0] is subscription and through is not None:
                # What was counted from an instant that was taken back goes on from the part before it.
                taken_back = (subscription.moves[place].at for place in subscription.moves_taken_back)
                moved += [(subscription, at) for at in sorted(taken_back) if at < through and at <= now]
        return moved

    def _follow_subscriptions(self, account: Account, moved: set[str]) -> None:
        """
        A subscription that was ended or changed moves the ends of its periods, a move their prices.

        A period that it ended before never was: it ends where it starts, and is priced at nothing, so that all it was
        charged is given back. A period that has closed only becomes shorter.
        """
        subscriptions = self.catalog.subscriptions.get(account.state.customer_id, {})
        for period in account.state.periods:
            subscription = subscriptions.get(period.subscription_id)
            if subscription is None:
                continue
            has_moved = subscription.id in moved
            if not has_moved and period.period_end == min(period.full_end, subscription.active_to or period.full_end):
                continue
            placement = self.catalog.placement(subscription, period.card_key, period.period_start)
            end = period.period_end if placement is None else max(placement.period.end, period.period_start)
            if period.closed and (has_moved or end > period.period_end):
                continue
            if end != period.period_end:
                period.period_end = end
                self._reprice(period)
                period.reprice_all = bool(period.slices)
                self._make_due(account, period)
            if placement is not None:
                period.closes_at = self._closes_at(subscription, max(end, placement.ends))
                self._go_on_from(account, period, placement)
            before = self._pricings.pop(period.key, None)
            if has_moved and before != self.pricing(account, period):
                self._reprice(period)
                period.reprice_all = bool(period.slices)
                self._make_due(account, period)

    def _make_due(self, account: Account, period: UsagePeriod) -> None:
        """What the period costs is due at another instant, as its price or its end has changed."""
        period.booked_from = _due_at(self.pricing(account, period), period.period_start, period.period_end)
        period.booked = period.booked and period.period_start < period.booked_from

    def _go_on_from(self, account: Account, period: UsagePeriod, placement: Placement) -> None:
        """A move that was taken back has put a part of the billing period before this one, which goes on from it."""
        counted_from = placement.counted.start
        if (
            placement.period.start != period.period_start
            or not placement.goes_on
            or period.counted_from == counted_from
        ):
            return
        account.continue_period(period, counted_from)
        self._reprice(period)
        period.reprice_all = bool(period.slices)

    def _reprice(self, period: UsagePeriod) -> None:
        """What the period costs has changed, though not its usage."""
        period.segment = None
        period.dirty = True
        self._pricings.pop(period.key, None)

    def _open_standing_periods(self, account: Account, now: datetime) -> bool:
        """
        Open the periods that cost something without any usage: flat fees, first-tier flats, minimums.

        Returns:
            Whether there are more than are opened at once: the account is due again at the same instant.
        """
        state = account.state
        left = STANDING_PERIODS_MAX
        for subscription in self.catalog.subscriptions.get(state.customer_id, {}).values():
            at = state.standing_through.get(subscription.id, subscription.active_from)
            while at <= now and (subscription.active_to is None or at < subscription.active_to):
                if not left:
                    return True
                left -= 1
                ends = self._open_standing_at(account, subscription, at, now)
                quiet_to = self._quiet_to(subscription, at)
                if at < quiet_to:
                    # Nothing is due in any of the periods up to then: it goes on with the one that is not over.
                    ends = [quiet_to]
                    if now < quiet_to:
                        ends += [placement.period.end for placement in self.catalog.placements_at(subscription, now)]
                if not ends:
                    # A phase in which nothing has a price.
                    found = self.catalog.phase_at(subscription, at)
                    if found is not None and found[3] is not None:
                        ends.append(found[3])
                following = subscription.version_span(at).end
                if following != NEVER:
                    ends.append(following)
                if not ends:
                    break
                at = min(ends)
                account.note_standing(subscription.id, at)
        return False

    def _quiet_to(self, subscription: Subscription, at: datetime) -> datetime:
        """From an instant up to when a subscription's plan costs nothing without usage; the instant where it does."""
        if any(move.at <= at for move in subscription.moves):
            return at
        found = self.catalog.phase_at(subscription, at)
        if found is None or any(costs_unused(card.pricing) for card in found[1].rate_cards):
            return at
        return min(found[3] or NEVER, subscription.version_span(at).end, subscription.active_to or NEVER)

    def _open_standing_at(
        self, account: Account, subscription: Subscription, at: datetime, now: datetime
    ) -> list[datetime]:
        """Open what costs something without usage at an instant. Returns the ends of all periods that it falls in."""
        ends = self.catalog.period_ends(subscription, at) if subscription.moves else []
        standing = False
        for placement in self.catalog.placements_at(subscription, at):
            ends.append(placement.period.end)
            pricing = placement.card.pricing
            if placement.goes_on or costs_unused(pricing):
                standing = True
                period = self.usage_period(account, placement, now)
                if period is not None and not period.slices:
                    period.dirty = True
        # Counted by what time did, not by what it found: usage may have opened the period before.
        account.note_transitions(standing)
        return ends

    def _drop_closed(self, account: Account, now: datetime) -> bool:
        """
        Periods that closed a while ago leave the state; a period with overage waits for the grant that repays it.

        They stay until the log was read as far, so that a log may be read again long after it was written.
        """
        gone = [
            period
            for period in account.state.periods
            if period.closed
            and not period.dirty
            and not period.reopened
            and account.emitted_in.get(period.key, -1) < self.epoch
            and not (period.repays and period.uncovered)
            and period.closes_at + self.rules.keep_closed <= min(now, self.read_through or period.period_start)
        ]
        for period in gone:
            account.remove(period)
            self._pricings.pop(period.key, None)
        return bool(gone)

    def _schedule(self, account: Account, goes_on: bool) -> None:
        """Remember the next instant at which time alone will move the account; it may have passed already."""
        state = account.state
        now = state.advanced_to
        assert now is not None
        instants = [boundary for boundary in account.wallet.boundaries if boundary > now][:1]
        if account.granted_next is not None:
            instants.append(account.granted_next)
        for subscription in self.catalog.subscriptions.get(state.customer_id, {}).values():
            through = state.standing_through.get(subscription.id, subscription.active_from)
            instants += [i for i in (subscription.active_from, subscription.active_to, through) if i and i > now]
        instants += [self._next_stop(period, now) for period in state.periods]
        due = now if goes_on else min(instants, default=None)
        if due is not None and due != account.next_due:
            heapq.heappush(self._due, (due, state.customer_id))
        account.set_due(due)

    def next_charge(self, account: Account) -> datetime | None:
        """The next instant at which a charge falls due without usage, or another grant may pay; None: there is none."""
        state = account.state
        now = state.advanced_to
        assert now is not None
        instants = [boundary for boundary in account.wallet.boundaries if boundary > now][:1]
        if account.granted_next is not None:
            instants.append(account.granted_next)
        for subscription in self.catalog.subscriptions.get(state.customer_id, {}).values():
            through = state.standing_through.get(subscription.id, subscription.active_from)
            if through > now:
                instants.append(self._quiet_to(subscription, through))
        instants += [stop for period in state.periods for stop in (period.booked_from, period.closes_at)]
        return min((instant for instant in instants if instant > now), default=None)

    def _next_stop(self, period: UsagePeriod, now: datetime) -> datetime:
        """The next instant at which time alone will move a period."""
        if period.booked_from > now:
            return period.booked_from
        if period.closes_at > now:
            return period.closes_at
        gone_at = period.closes_at + self.rules.keep_closed
        return gone_at if gone_at > now else gone_at + ((now - gone_at) // DAY + 1) * DAY


def is_in_arrears(pricing: Pricing) -> bool:
    """Whether it is a fee that is due when its period ends."""
    return isinstance(pricing.price, Flat) and pricing.price.payment_term is PaymentTerm.IN_ARREARS


def closes_at(subscription: Subscription, period_end: datetime, grace: timedelta) -> datetime:
    """From when on usage of a billing period is received too late."""
    return max(period_end, subscription.recorded_at) + grace


def _due_at(pricing: Pricing, start: datetime, end: datetime) -> datetime:
    """When what a period costs without any usage is due, its minimum apart."""
    return end if is_in_arrears(pricing) else start


def _prorated(placement: Placement) -> Pricing:
    """The pricing of a rate card; a fee and a minimum are prorated where the plan says so."""
    pricing, full = placement.card.pricing, placement.full_period
    # A minimum is that of all parts of a period together.
    period = placement.period if isinstance(pricing.price, Flat) else placement.counted
    if placement.plan.prorate and not placement.card.once:
        return prorated(pricing, (period.start, period.end), (full.start, full.end))
    return pricing
