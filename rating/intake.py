"""
The way of an event: decode → de-duplicate → attribute → count.

    decode          bytes become a `CloudEvent`; a broken one is rejected alone                        rating.events
    de-duplicate    an identity that was rated before changes no money                                 rating.dedup
    attribute       subject and time → customer, subscription, rate cards; type → meters, features     rating.routes
    count           its quantity is added to a slice of each usage period, and marks it dirty          rating.account

`Intake.take` goes through the events of a batch, `Intake._rate` is the way of one. Most events take a *lane* instead
(`rating.lanes`), which comes to the same: `take` spells it out, since nothing else is as hot.

Counting is an addition. What usage costs, who pays, and whether the customer may go on follows in `rating.settle`: on
the beat, or at once where what was counted uses up the headroom. Each event ends as exactly one of rated, duplicate,
parked or rejected, and one that makes the engine fail changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace
from xxhash import xxh32_intdigest

from rating.account import Account
from rating.calendar import Calendar
from rating.carried import add_to_period
from rating.catalog import Catalog, key_group
from rating.dedup import SeenEvents, mark_of, part_of
from rating.events import WHITE_SPACE, CloudEvent, EventDecoder, refuse_instant
from rating.lanes import Lane, Lanes
from rating.meters import PLAIN_INTEGER_LIMIT, Aggregation, quantity
from rating.money import ZERO
from rating.outcome import MismatchRow, Outcome, UsedSubject
from rating.placing import metered_fields
from rating.prints import EPOCH, HALF, HALF_BITS, PRIME, SPREAD, content_of, content_of_all, number_of
from rating.refusals import ParkCode, Parked, RejectCode, Rejected, waits_because
from rating.routes import ADDITIVE, KnownRoutes, Measured, Part, Route, measure, route_to
from rating.tallies import add, new_tally, tally_value
from rating.time_rules import TimeRules
from rating.undo import Undo
from rating.usage import UsagePeriod

LANE_CHECK_EVENTS = 100_000
"""Check a fold by a lane against the slow way once in this many events."""
WAITED_PREFIX = "?"
"""
Stands before the key of a meter whose usage of an event waited when the event was rated; without one: the whole event
waited. Its id is its own since then: the first received has it.
"""
CAME_BACK = "!"
"""Stands for a whole event that had waited and was then rated: nothing of its id waits any more."""


class Arrival(Struct, frozen=True, gc=False):
    """An event that no lane took, with all that came along."""

    event: CloudEvent
    at: datetime
    """Time of use."""
    line: bytes
    received_at: datetime
    now: datetime
    only: str
    """The key of the one meter whose usage is to be counted, since the rest was; empty: all of it."""
    is_back: bool = False
    """Whether it was read before, and waited."""


class AccountFailed(Exception):
    """The engine failed at a customer's data; the customer is set aside."""


class Keeper(Protocol):
    """Keeps the accounts of a key group: what the intake needs of it."""

    accounts: dict[str, Account]
    behind: dict[str, None]
    """Customers that are not up to the catalog yet."""
    aside: dict[str, str]
    """Customers at whose data the engine failed."""

    def open_account(self, customer_id: str) -> Account:
        """A new account."""

    def account(self, customer_id: str, now: datetime) -> Account:
        """The account of a customer, opened and brought up to the catalog where needed."""

    def bring_up(self, customer_id: str, now: datetime, out: Outcome) -> None:
        """Bring a customer that is behind up to the catalog and the instant."""

    def guard(self, account: Account, out: Outcome | None, work: Callable[[], None]) -> bool:
        """Change an account as a whole, or leave it as it was and set it aside. Returns whether it was changed."""

    def hold(self, arrival: Arrival, out: Outcome) -> None:
        """Let an event wait while its customer is set aside."""

    def hold_for_snapshot(self, arrival: Arrival) -> None:
        """Let an event wait until a snapshot has held its billing period."""

    def touch(self, account: Account) -> None:
        """Mark an account for the next beat."""

    def settle_now(self, account: Account, periods: Sequence[UsagePeriod], now: datetime, out: Outcome) -> None:
        """Price and settle an account there and then, some periods last: their usage may change access."""

    def check_foreseen(self, failure: Exception) -> None:
        """Raise a failure again that no event caused."""


class Intake:
    """
    Where events of one key group come in.

    Args:
        number: The key group's.
        catalog: The process's catalog.
        rules: The deployment's rules.
        keeper: Keeps the accounts.
        calendar: Opens the usage periods that are not open yet.
        seen: The ids of events that were rated.
        routes: Those that are known, and the lanes on them.
        refresh: Lets the catalog catch up with the control log; called before an event is parked.
    """

    def __init__(
        self,
        number: int,
        catalog: Catalog,
        rules: TimeRules,
        keeper: Keeper,
        calendar: Calendar,
        seen: SeenEvents,
        routes: KnownRoutes,
        refresh: Callable[[], bool],
    ) -> None:
        self.number = number
        self.catalog = catalog
        self.rules = rules
        self.keeper = keeper
        self.calendar = calendar
        self.seen = seen
        self.routes = routes
        self.lanes: Lanes = routes.lanes
        self.refresh = refresh
        self.lane_check_events = rules.lane_check_events or LANE_CHECK_EVENTS
        self._unchecked = 0
        """Events since a fold by a lane was last checked."""
        self._parts_remembered = 0
        """How many parts of events that wait are remembered since ids were last sealed."""
        self._moves_seen = len(catalog.moved_subjects)
        self._catalog_version = -1
        self._decoder = EventDecoder(())

    def read_catalog(self) -> None:
        """Follow the catalog: what all customers share, and subjects that changed hands."""
        catalog = self.catalog
        if self._catalog_version != catalog.global_version:
            self._catalog_version = catalog.global_version
            self._decoder = EventDecoder(metered_fields(catalog))
            self.routes.forget_all()
        if self._moves_seen != len(catalog.moved_subjects):
            moved = set(catalog.moved_subjects[self._moves_seen :])
            self._moves_seen = len(catalog.moved_subjects)
            self.routes.forget_subjects(moved)

    def take(
        self, blob: bytes, received_at: datetime, now: datetime, out: Outcome, framed: bool, only: str, is_back: bool
    ) -> int:
        """
        Take a raw batch of events in.

        Args:
            blob: CloudEvents as JSON, one per line.
            received_at: When the log first took the batch; the time of events that carry none.
            now: The present instant, not after `received_at`: the clock of events is that of their receiving.
            out: Gains what there is to say at once.
            framed: Whether it is known that `is_framed`.
            only: The key of the one meter whose usage is to be counted, since the rest was; empty: all of it.
            is_back: Whether its events were read before, and waited.

        Returns:
            How many events were rated.
        """
        if self.lanes.closes_at <= received_at or received_at < self.lanes.opens_at:
            self.routes.forget_all()
        decoder = self._decoder
        try:
            events, lines = decoder.decode_with_lines(blob, framed)
        except Exception as failure:
            lines = [line for line in blob.split(b"\n") if line.strip(WHITE_SPACE)]
            events = [self._decode_alone(line, failure) for line in lines]
        rated = 0
        source = identified = ""
        prints = self.seen.of_source(source)
        newest = self.seen.newest_event or received_at
        too_far = received_at + self.rules.max_ahead
        # Usage ahead of its arrival counts by what was known then: lanes know what became known since.
        lanes_reach = too_far if received_at >= self.catalog.changed_at_by_group[self.number] else received_at
        # What is driven again for one meter is not what its lane would count, and what waited has its id already.
        lanes = {} if only or is_back else self.lanes.by_type
        self._unchecked += len(events)
        checks_lanes = self._unchecked >= self.lane_check_events
        epoch, spread, half, bits, prime = EPOCH, SPREAD, HALF, HALF_BITS, PRIME
        touch, settle_now = self.keeper.touch, self.keeper.settle_now
        entries = zip(events, lines, map(xxh32_intdigest, lines), strict=True)
        while True:
            if self._decoder is not decoder:
                # The catalog grew: from here on the fields that its new meters look at are decoded too.
                decoder = self._decoder
                events[:] = decoder.decode_lines(blob)
            try:
                for event, line, fingerprint in entries:
                    if type(event) is Rejected:
                        out.reject(event)
                        continue
                    if event.source != source:
                        source = event.source
                        identified = part_of(source, only)
                        prints = self.seen.of_source(identified)
                    event_id = event.id
                    time = event.time
                    at = time or received_at
                    is_known = event_id in prints
                    if (is_known or only) and self._is_repeated(event, at, line, received_at, out, only, is_back):
                        continue
                    try:
                        lane = lanes[event.type][event.subject]
                    except KeyError:
                        lane = None
                    if lane is not None and lane.start <= at < lane.end and at <= lanes_reach:
                        number = value = lane.read(event.data)
                        if value.__class__ is not int or not 0 <= value < PLAIN_INTEGER_LIMIT:
                            value = quantity(value, lane.aggregation)
                            number = number_of(value) if value.__class__ is Decimal else None
                        if number is not None and (
                            not checks_lanes or self._agrees(lane, event, at, value, received_at, now, out)
                        ):
                            # The same as `content_of`, without a call.
                            content = (2 * number + 1) * lane.factor % prime
                            if time is not None:
                                since = time - epoch
                                content ^= since.seconds * spread + since.days ^ since.microseconds
                            its_print = lane.mark + ((content & half) << bits) + (fingerprint & half)
                            if is_known:
                                self.seen.add_beside(identified, event_id, its_print)
                            else:
                                prints[event_id] = its_print
                            if at > newest:
                                newest = at
                            rated += 1
                            events_before = lane.events
                            lane.events = events_before + 1
                            if not events_before:
                                touch(lane.account)
                            lane.quantity_left = left = lane.quantity_left - value
                            if left <= 0:
                                settle_now(lane.account, (lane.period,), now, out)
                            continue
                    refused = refuse_instant(at, line) or (self._too_far(line) if at > too_far else None)
                    if refused is not None:
                        out.reject(refused)
                        continue
                    counted = self._rate(Arrival(event, at, line, received_at, now, only, is_back), out)
                    if counted is not None:
                        # What waited has its print already.
                        self.seen.add(identified, event_id, counted + (fingerprint & half))
                        if at > newest:
                            newest = at
                        rated += 1
                    if self._decoder is not decoder:
                        # The catalog grew: from here on the fields that its new meters look at are decoded too.
                        decoder = self._decoder
                        events[:] = decoder.decode_lines(blob)
                break
            except AccountFailed:
                assert not isinstance(event, Rejected)
                self.keeper.hold(Arrival(event, at, line, received_at, now, only, is_back), out)
            except Exception as failure:
                # Whatever an event does, it changed nothing, and all others go on.
                out.reject(self._failed(failure, line))
        self.seen.newest_event = newest
        if rated:
            out.ended["rated", ""] += rated
        full = self.seen.seal(rated + self._parts_remembered, received_at)
        self._parts_remembered = 0
        if full is not None:
            out.seen.append(full)
        return rated

    # -- the way of one event, where no lane takes it ------------------------------------------------

    def _rate(self, arrival: Arrival, out: Outcome) -> int | None:
        """
        Count an event that no lane takes towards its meters, or towards `only` one.

        Returns:
            Whose it is and its content, as its print has them; None: it was not rated, and has ended.
        """
        keeper, event, only = self.keeper, arrival.event, arrival.only
        at, received_at, now = arrival.at, arrival.received_at, arrival.now
        if keeper.behind:
            customer_id = self.catalog.owner_of_usage(event.subject, at, received_at)
            if customer_id in keeper.behind:
                keeper.bring_up(customer_id, now, out)
        if keeper.aside and self.catalog.owner_of_usage(event.subject, at, received_at) in keeper.aside:
            keeper.hold(arrival, out)
            return None
        route = self.routes.get(event.subject, event.type)
        knew_all = self._knew_all(at, received_at)
        if route is None or not route.start <= at < route.end or received_at < route.owned_from or not knew_all:
            decoder = self._decoder
            found = self._route(event.subject, event.type, at, received_at, now)
            if self._decoder is not decoder:
                again = self._decoder.decode(arrival.line)
                if isinstance(again, Rejected):
                    out.reject(again)
                    return None
                event = again
                arrival = replace(arrival, event=event)
            if self._is_repeated(event, at, arrival.line, received_at, out, only, arrival.is_back):
                # By the catalog as it was read just now.
                return None
            if isinstance(found, ParkCode):
                self._park(found, arrival, out)
                return None
            route = found
            out.subjects.append(UsedSubject(route.account.state.customer_id, event.subject))
        measured = measure(route.meters, event, received_at, arrival.line, only)
        end = measured.end(only)
        if end is not None:
            self._end_uncounted(end, measured, arrival, out)
            return None
        account = route.account
        if account.coming and any(
            account.coming.get(period.key) == self.calendar.epoch for period, _, _ in measured.counted
        ):
            keeper.hold_for_snapshot(arrival)
            return None
        if measured.counted:
            self._count(account, route, measured, arrival, knew_all)
        if measured.counted and account.headroom is not None and account.headroom <= 0:
            keeper.settle_now(account, [period for period, _, _ in measured.counted], now, out)
        out.rejected += measured.refused
        self._remember_rest(arrival, measured, account, out)
        return mark_of(account.state.number) + (_content(event, measured) << HALF_BITS)

    def _too_far(self, line: bytes) -> Rejected:
        """An event whose time is too far ahead of its arrival."""
        ahead = self.rules.max_ahead.total_seconds()
        message = f"event time is more than {ahead:.0f} s ahead of its arrival"
        return Rejected(RejectCode.TIME_IN_FUTURE, message, "$.time", line)

    # -- decode --------------------------------------------------------------------------------------

    def _decode_alone(self, line: bytes, failure: Exception) -> CloudEvent | Rejected:
        """One event of a batch that could not be decoded as a whole."""
        self.keeper.check_foreseen(failure)
        try:
            return self._decoder.decode(line)
        except Exception as failure:
            return self._failed(failure, line)

    def _failed(self, failure: Exception, line: bytes) -> Rejected:
        """An event that made the engine fail: what it did is known from the kind of failure alone."""
        self.keeper.check_foreseen(failure)
        message = (
            f"the engine failed at this event ({type(failure).__name__}): report it, and send the event again then"
        )
        return Rejected(RejectCode.FAILED, message, "$", line)

    # -- de-duplicate --------------------------------------------------------------------------------

    def _is_repeated(
        self,
        event: CloudEvent,
        at: datetime,
        line: bytes,
        received_at: datetime,
        out: Outcome,
        only: str,
        is_back: bool,
    ) -> bool:
        """
        Whether an event, or the usage of `only` one meter of it, was rated before, or waits; it then ends as a
        duplicate.

        Its id may as well be that of another customer's event. What waits has its id to itself until it comes back, so
        that of two contents the first received one is rated, however late the log is read.
        """
        identified = part_of(event.source, only)
        known = self.seen.of_source(identified).get(event.id)
        customer_id = self.catalog.owner_of_usage(event.subject, at, received_at)
        if customer_id is None or (known is None and not only):
            return False
        account = self.keeper.accounts.get(customer_id)
        number = 0 if account is None else account.state.number
        rated_as = None if known is None else self.seen.fingerprint(identified, event.id, known, number)
        if rated_as is None:
            if only and self._has_counted(event, number, only):
                out.ended["duplicate", ""] += 1
                return True
            return False
        if is_back and not only and self._waits(event, number):
            return False
        out.ended["duplicate", ""] += 1
        if not self._says_the_same(rated_as, event, at, line, received_at, only, number):
            out.mismatches.append(MismatchRow(event.source, event.id, line))
        return True

    def _says_the_same(
        self,
        rated_as: int,
        event: CloudEvent,
        at: datetime,
        line: bytes,
        received_at: datetime,
        only: str,
        number: int,
    ) -> bool:
        """Whether a copy of an event says what that said, by their bytes, or by what it adds or, if it waited, says."""
        if not (rated_as ^ xxh32_intdigest(line)) & HALF:
            return True
        if not only and self.seen.print_of(part_of(event.source, WAITED_PREFIX), event.id, number) is not None:
            return rated_as >> HALF_BITS == _half_of(content_of_all(event.time, line))
        route = self._find_route(event.subject, event.type, at, received_at, received_at)
        if isinstance(route, ParkCode):
            return False
        return rated_as >> HALF_BITS == _content(event, measure(route.meters, event, received_at, line, only))

    def _has_counted(self, event: CloudEvent, number: int, meter: str) -> bool:
        """
        Whether an event was rated with its usage of a meter, which then did not wait.

        A log that is read again has the price from the beginning: what had waited is counted with the rest of its
        event, and what was driven again for it comes once more.
        """
        seen, waited = self.seen, part_of(event.source, WAITED_PREFIX + meter)
        has_whole = seen.print_of(event.source, event.id, number) is not None
        return has_whole and not self._waits(event, number) and seen.print_of(waited, event.id, number) is None

    def _waits(self, event: CloudEvent, number: int) -> bool:
        """Whether the event that has an id waits as a whole."""
        waited, came_back = part_of(event.source, WAITED_PREFIX), part_of(event.source, CAME_BACK)
        return (
            self.seen.print_of(waited, event.id, number) is not None
            and self.seen.print_of(came_back, event.id, number) is None
        )

    def _remember_rest(self, arrival: Arrival, measured: Measured, account: Account, out: Outcome) -> None:
        """Let what of a rated event waits do so, and remember that; and that the event came back, if it waited."""
        event = arrival.event
        for waits in measured.waiting:
            self._park_part(waits, arrival, out)
            if not arrival.only:
                self._remember_part(event, account, WAITED_PREFIX + waits.meter)
        if arrival.is_back and not arrival.only and self._waits(event, account.state.number):
            self._remember_part(event, account, CAME_BACK)

    def _remember_part(self, event: CloudEvent, account: Account, part: str) -> None:
        """Remember of an event that a part of it waits, or that it came back."""
        self._parts_remembered += self.seen.add(part_of(event.source, part), event.id, mark_of(account.state.number))

    def _remember_waiting(self, parked: Parked, arrival: Arrival) -> None:
        """Remember that a whole event waits, if it is known whose it is: its id is its own from now on."""
        customer_id, event = parked.customer, arrival.event
        if customer_id is None or key_group(customer_id) != self.number:
            return
        account = self.keeper.accounts.get(customer_id) or self.keeper.open_account(customer_id)
        its_print = (_half_of(parked.content) << HALF_BITS) + (xxh32_intdigest(arrival.line) & HALF)
        its_print += mark_of(account.state.number)
        if self.seen.add(event.source, event.id, its_print):
            self._parts_remembered += 1
            self._remember_part(event, account, WAITED_PREFIX)

    # -- attribute -----------------------------------------------------------------------------------

    def _route(
        self, subject: str, event_type: str, at: datetime, received_at: datetime, now: datetime
    ) -> Route | ParkCode:
        found = self._find_route(subject, event_type, at, received_at, now)
        if isinstance(found, ParkCode) and self.refresh():
            self.read_catalog()
            self._forget_changed()
            found = self._find_route(subject, event_type, at, received_at, now)
        if not isinstance(found, ParkCode) and not found.has_left and self._knew_all(at, received_at):
            self.routes.keep(subject, event_type, found)
        return found

    def _find_route(
        self, subject: str, event_type: str, at: datetime, received_at: datetime, now: datetime
    ) -> Route | ParkCode:
        catalog, keeper = self.catalog, self.keeper
        customer_id = catalog.owner_of_usage(subject, at, received_at)
        if customer_id is None or key_group(customer_id) != self.number:
            # Routed by its subject, before the catalog knew the customer: it is driven again, to the right group.
            return ParkCode.UNKNOWN_SUBJECT
        subscription = catalog.subscription_of_usage(customer_id, at, received_at)
        if subscription is None:
            return ParkCode.NO_SUBSCRIPTION
        features = catalog.features_of(event_type)
        if not features:
            return ParkCode.NO_FEATURE
        account = keeper.accounts.get(customer_id) or keeper.open_account(customer_id)
        found: list[Route | ParkCode] = []

        def look() -> None:
            keeper.account(customer_id, now)
            found.append(route_to(account, subscription, features, at, now, self.calendar))

        if not keeper.guard(account, None, look):
            raise AccountFailed(customer_id)
        route = found[0]
        if isinstance(route, ParkCode) or not catalog.has_moved(subject):
            return route
        owned_from, owned_to = catalog.owned_span(subject, min(at, received_at))
        return replace(route, start=max(route.start, owned_from), end=min(route.end, owned_to), owned_from=owned_from)

    def _knew_all(self, at: datetime, received_at: datetime) -> bool:
        """Whether all that is known of an event's time now was known when it arrived."""
        return at <= received_at or received_at >= self.catalog.changed_at_by_group[self.number]

    def _forget_changed(self) -> None:
        """Forget the routes to every account of which the catalog says more than it has read."""
        for customer_id in self.routes.customer_ids():
            account = self.keeper.accounts[customer_id]
            if account.state.records < self.catalog.records_of[customer_id]:
                self.routes.forget_account(account)

    # -- count ---------------------------------------------------------------------------------------

    def _count(self, account: Account, route: Route, measured: Measured, arrival: Arrival, knew_all: bool) -> None:
        """Add an event to its meters, all or none. Where further ones can take a lane, open it."""
        event, at = arrival.event, arrival.at
        self.lanes.empty(account)
        account.note_change()
        headroom = account.headroom
        undo = Undo(account, self.lanes)
        try:
            for period, aggregation, value in measured.counted:
                undo.note(period, value)
                used = value if aggregation in ADDITIVE else _tallied(account, period, aggregation, value, at, event.id)
                assert isinstance(used, Decimal)
                part = account.use(period, used, at, self.rules.window_seconds)
                self.lanes.take_off(account, period, used)
                undo.used(part, used)
                if headroom is not None:
                    segment = period.segment
                    if segment is not None and (segment.until is None or period.reached <= segment.until) and used >= 0:
                        headroom -= used * segment.unit_price
                    else:
                        headroom = ZERO
        except Exception:
            undo.all()
            raise
        account.end_event(headroom)
        self.keeper.touch(account)
        if route.only_taker is not None and not part.is_late and knew_all:
            metered = route.meters[0]
            lane = Lane(
                event.subject,
                event.type,
                account,
                period,
                part,
                (route.start, route.end),
                metered.value,
                metered.aggregation,
                mark_of(account.state.number),
            )
            self.lanes.open(lane, route.owned_from)

    def _agrees(
        self,
        lane: Lane,
        event: CloudEvent,
        at: datetime,
        value: int | Decimal,
        received_at: datetime,
        now: datetime,
        out: Outcome,
    ) -> bool:
        """
        Check a fold by a lane against the slow way, which is the definition: now and then, or each where that is asked.

        A lane that is wrong is closed, and the event goes the slow way; where each is checked, it is an error.
        """
        always = self.lane_check_events == 1
        if not always and self._unchecked < self.lane_check_events:
            return True
        self._unchecked = 0
        route = self._find_route(event.subject, event.type, at, received_at, now)
        if isinstance(route, Route) and route.start <= at < route.end:
            counted = measure(route.meters, event, received_at, b"").counted
            covering = next((part for part in reversed(lane.period.slices) if part.start <= at < part.end), None)
            if len(counted) == 1 and counted[0][0] is lane.period and counted[0][2] == value and covering is lane.part:
                return True
        assert not always, f"a lane of `{event.type}` took an event that does not belong to it"
        out.wrong_lanes += 1
        self.lanes.close(lane.account)
        return False

    # -- reject, park --------------------------------------------------------------------------------

    def _end_uncounted(self, end: ParkCode | Rejected, measured: Measured, arrival: Arrival, out: Outcome) -> None:
        """Reject or park an event that adds to no meter, as a whole."""
        only = arrival.only
        if isinstance(end, Rejected):
            out.reject(replace(end, meter=only))
        elif only and measured.waiting:
            out.ended["parked", end] += 1
            self._park_part(measured.waiting[0], arrival, out)
        else:
            self._park(end, arrival, out)

    def _park(self, code: ParkCode, arrival: Arrival, out: Outcome) -> None:
        """Let an event wait, or the usage of `only` one meter of it."""
        if arrival.only and code is not ParkCode.PERIOD_CLOSED:
            code = ParkCode.UNPRICED
        parked = self._parked(code, arrival, arrival.only)
        out.parked.append(parked)
        out.ended["parked", code] += 1
        if not arrival.only:
            self._remember_waiting(parked, arrival)

    def _park_part(self, waits: Part, arrival: Arrival, out: Outcome) -> None:
        """Let an event's usage of one meter wait. The event itself ends as what the rest of it does."""
        parked = self._parked(waits.code, arrival, waits.meter)
        out.parked.append(replace(parked, dimensions=waits.dimensions, quantity=waits.quantity))

    def _parked(self, code: ParkCode, arrival: Arrival, meter: str) -> Parked:
        event = arrival.event
        return Parked(
            code,
            waits_because(code, event.subject, event.type, meter),
            event.source,
            event.id,
            event.subject,
            self.catalog.owner_of_usage(event.subject, arrival.at, arrival.received_at),
            arrival.at,
            arrival.line,
            arrival.received_at,
            meter,
            type=event.type,
            content=content_of_all(event.time, arrival.line),
        )


def _half_of(content: bytes) -> int:
    return int.from_bytes(content[: HALF_BITS // 8])


def _content(event: CloudEvent, measured: Measured) -> int:
    counted = ((period.card_key, value) for period, _, value in measured.counted)
    return content_of(event.time, event.type, event.subject, counted)


def _tallied(
    account: Account, period: UsagePeriod, aggregation: Aggregation, value: Decimal | str, at: datetime, event_id: str
) -> Decimal:
    """Add an event to what a period's aggregation remembers. Returns by how much the aggregate changed."""
    if period.tally is None:
        period.tally = new_tally(aggregation)
    if period.counted_from is not None:
        return add_to_period(account, period, period.tally, value, at, event_id)
    add(period.tally, value, at, event_id)
    return tally_value(period.tally) - period.usage
