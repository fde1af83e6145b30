"""
A key group: all state of its customers, and the way of an event through it.

decode → attribute → RATE → SETTLE, in one place and one order. Pure: the instant is given, the catalog is
given, and whatever there is to say comes back as an `Outcome`. Each event is folded at once; dirty meters are
priced, settled and told on the beat, or at once where access could change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from traceback import extract_tb
from typing import ParamSpec, TypeVar

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace
from xxhash import xxh32_intdigest

from rating.access import balance_row
from rating.account import Account, AccountState
from rating.calendar import NOTHING, TICK, Calendar, is_in_arrears
from rating.carried import add_to_period, carry_over, unbind_earlier
from rating.catalog import Catalog, key_group
from rating.charge import Piece, is_given, total
from rating.dedup import LoadSegments, SeenEvents, SeenState, mark_of, part_of
from rating.events import CloudEvent, EventDecoder, refuse_instant
from rating.lanes import Gathered, Lane, Lanes
from rating.meters import PLAIN_INTEGER_LIMIT, Aggregation, quantity
from rating.money import ZERO, use_exact
from rating.outcome import ParkCode, Parked, RejectCode, Rejected, waits_because
from rating.placing import metered_fields
from rating.routes import ADDITIVE, Measured, Part, Route, measure, route_to
from rating.rows import MismatchRow, Outcome, UsedSubject
from rating.rules import Rules
from rating.settle import repay_uncovered, settle
from rating.tallies import add, new_tally, tally_value
from rating.telling import charge_rows
from rating.undo import Undo, copied
from rating.usage import MeterState, close_windows, price_meter, slice_at
from rating.windows import LoadWindows, windows_that_left

SNAPSHOT_VERSION = 1
WAITED = "?"
"""Stands before the key of a meter whose usage of an event waited when the event was rated."""
LANE_CHECK_EVENTS = 100_000
"""After so many events a fold by a lane is checked against the slow way."""


LOADS_MAX = 20
"""So many customers at most have windows brought back in one beat: each is a query."""
ASKED_MAX = 5
"""In so many epochs at most the ledger is asked for windows that do not add up: what is open is then paid for alone."""


class Waiting(Struct, array_like=True, frozen=True, gc=False):
    """An event that is counted once a snapshot has held its period."""

    line: bytes
    received_at: datetime
    meter: str


Params = ParamSpec("Params")
Result = TypeVar("Result")

STEP_WORK = 10
"""What a step of an account takes apart from its meters, in what one meter takes: some microseconds."""
HELD_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of events that wait in a key group for customers that were set aside."""


class AccountFailed(Exception):
    """The engine failed at a customer's data; the customer is set aside."""


class GroupState(Struct, array_like=True):
    """What a snapshot of a key group keeps."""

    version: int
    accounts: list[msgspec.Raw]
    """Each an `AccountState`."""
    seen: SeenState = field(default_factory=SeenState)
    read_through: datetime | None = None
    """The latest instant at which an event that was read had been received."""
    gathered: list[Gathered] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    """Events whose billing period has come back from the ledger, until a snapshot has held it."""


def _left_out(value: object) -> None:
    """What is worked out again after a resume."""
    assert isinstance(value, Piece), f"a snapshot can't keep a {type(value).__name__}"


_snapshot_encoder = msgspec.msgpack.Encoder(decimal_format="string", enc_hook=_left_out)
_account_decoder = msgspec.msgpack.Decoder(AccountState)
_group_decoder = msgspec.msgpack.Decoder(GroupState)


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
        rules: Rules,
        snapshot: bytes | None = None,
        load_segments: LoadSegments = lambda _group, _numbers: (),
        refresh: Callable[[], bool] = lambda: False,
        load_windows: LoadWindows | None = None,
    ) -> None:
        use_exact()
        self.number = number
        self.catalog = catalog
        self.rules = rules
        self._outside: Exception | None = None
        """What a call out of the core raised last."""
        self.refresh = self._watched(refresh)
        load_segments = self._watched(load_segments)
        if load_windows is not None:
            load_windows = self._watched(load_windows)
        self._left = math.inf
        """How much work may still be done in this turn."""
        self._behind: dict[str, None] = {}
        """Customers that are to be brought up to the catalog and the instant, in order."""
        self.aside: dict[str, str] = {}
        """Customers at whose data the engine failed, with how: kept as they are until their catalog changes."""
        self._aside_version = catalog.global_version
        self._held: dict[str, list[Waiting]] = {}
        """Their events, which wait."""
        self._held_bytes = 0
        state = _group_decoder.decode(snapshot) if snapshot is not None else GroupState(SNAPSHOT_VERSION, [])
        assert state.version == SNAPSHOT_VERSION, f"snapshot version {state.version}, expected {SNAPSHOT_VERSION}"
        self.seen = SeenEvents(number, state.seen, rules.dedup_horizon, load_segments)
        self.accounts: dict[str, Account] = {}
        self.dirty: list[Account] = []
        self.lanes = Lanes(rules.with_lanes)
        self.calendar = Calendar(catalog, rules, self.accounts, self.lanes, state.read_through, load_windows)
        self._waiting = state.waiting
        self._waiting_since = -1
        """The epoch in which the last of them came."""
        self._reopening: dict[str, Account] = {}
        """Accounts that want windows back, or hold some until a snapshot was made."""
        self._missed_in = -1
        """The last epoch in which the ledger did not have all yet that it was asked for: it has after its end."""
        self.received: list[tuple[datetime, int]] = []
        self._routes: dict[tuple[str, str], Route] = {}
        """By subject and event type."""
        self._routed: dict[str, set[tuple[str, str]]] = {}
        """By customer, the routes that lead to it."""
        self._moves_seen = len(catalog.moved_subjects)
        self._lane_check_events = rules.lane_check_events or LANE_CHECK_EVENTS
        self._unchecked = 0
        """Events since a fold by a lane was last checked."""
        self._parts_remembered = 0
        """How many parts of events that wait are remembered since ids were last sealed."""
        self._routes_version = -1
        self._decoder = EventDecoder(())
        self._decoder_version = -1
        for packed in state.accounts:
            account = Account(_account_decoder.decode(packed))
            self.accounts[account.state.customer_id] = account
            account.packed = bytes(packed)
            if any(meter.reopened for meter in account.state.meters):
                account.reopened_in = -1
                self._reopening[account.state.customer_id] = account
        for gathered in state.gathered:
            customer_id, meter_place, part_place = gathered.place
            account = self.accounts[customer_id]
            meter = account.state.meters[meter_place]
            account.take(meter, meter.slices[part_place], gathered.quantity, gathered.events)
        self._numbered = max((account.state.number for account in self.accounts.values()), default=0)
        """How many customers have got a number."""
        for account in self.accounts.values():
            if not account.state.number:
                self._give_number(account)

    def _watched(self, call: Callable[Params, Result]) -> Callable[Params, Result]:
        """A call out of the core: what it raises says nothing of an event or a customer."""

        def watched(*args: Params.args, **named: Params.kwargs) -> Result:
            try:
                return call(*args, **named)
            except Exception as failure:
                self._outside = failure
                raise

        return watched

    # -- input: usage ---------------------------------------------------------------------------

    def fold(
        self, blob: bytes, received_at: datetime, now: datetime, out: Outcome, framed: bool = False, meter: str = ""
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
        """
        use_exact()
        self._read_catalog_version()
        due = self.calendar.next_due()
        if due is not None and due <= received_at:
            self._let_pass(min(received_at, now), out)
        # The clock of events is that of their receiving: what passed since has its effect after them.
        now = min(received_at, now)
        if self.lanes.closes_at <= received_at or received_at < self.lanes.opens_at:
            self._forget_routes()
        read_through = self.calendar.read_through
        if read_through is None or read_through < received_at:
            self.calendar.read_through = received_at
        decoder = self._decoder
        try:
            events, lines = decoder.decode_with_lines(blob, framed)
        except Exception as failure:
            lines = [line for line in blob.split(b"\n") if line.strip()]
            events = [self._decode_alone(line, failure) for line in lines]
        rated = 0
        source = identified = ""
        prints = self.seen.of_source(source)
        newest = self.seen.newest_event or received_at
        too_far = received_at + self.rules.max_ahead
        # Usage ahead of its arrival counts by what was known then: lanes know what became known since.
        lanes_reach = too_far if received_at >= self.catalog.changed_at_by_group[self.number] else received_at
        # What is driven again for one meter is not what its lane would count.
        lanes = {} if meter else self.lanes.by_type
        self._unchecked += len(events)
        checks_lanes = self._unchecked >= self._lane_check_events
        entries = zip(events, lines, map(xxh32_intdigest, lines), strict=True)
        while True:
            if self._decoder is not decoder:
                # The catalog grew: from here on the fields that its new meters look at are decoded too.
                decoder = self._decoder
                events[:] = decoder.decode_lines(blob)
            try:
                for event, line, fingerprint in entries:
                    if type(event) is Rejected:
                        self._reject(event, out)
                        continue
                    if event.source != source:
                        source = event.source
                        identified = part_of(source, meter)
                        prints = self.seen.of_source(identified)
                    event_id = event.id
                    at = event.time or received_at
                    is_known = event_id in prints
                    if (is_known or meter) and self._is_repeated(event, at, line, received_at, out, meter):
                        continue
                    try:
                        lane = lanes[event.type][event.subject]
                    except KeyError:
                        lane = None
                    if lane is not None and lane.start <= at < lane.end and at <= lanes_reach:
                        value = lane.read(event.data)
                        if value.__class__ is not int or not 0 <= value < PLAIN_INTEGER_LIMIT:
                            value = quantity(value, lane.aggregation)
                        is_number = value.__class__ is int or value.__class__ is Decimal
                        if is_number and (
                            not checks_lanes or self._agrees(lane, event, at, value, received_at, now, out)
                        ):
                            if is_known:
                                self.seen.add_beside(identified, event_id, lane.mark + fingerprint)
                            else:
                                prints[event_id] = lane.mark + fingerprint
                            if at > newest:
                                newest = at
                            rated += 1
                            events_before = lane.events
                            lane.events = events_before + 1
                            if not events_before:
                                self._touch(lane.account)
                            lane.quantity_left = left = lane.quantity_left - value
                            if left <= 0:
                                self._settle_lane(lane, now, out)
                            continue
                    refused = refuse_instant(at, line)
                    if refused is not None:
                        self._reject(refused, out)
                        continue
                    if at > too_far:
                        message = (
                            f"event time is more than {self.rules.max_ahead.total_seconds():.0f} s ahead of its arrival"
                        )
                        self._reject(Rejected(RejectCode.TIME_IN_FUTURE, message, "$.time", line), out)
                        continue
                    account = self._rate(event, at, line, received_at, now, out, meter)
                    if account is not None:
                        its_print = mark_of(account.state.number) + fingerprint
                        if is_known:
                            self.seen.add_beside(identified, event_id, its_print)
                        else:
                            prints[event_id] = its_print
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
                self._hold(event, at, line, received_at, out, meter)
            except Exception as failure:
                # Whatever an event does, it changed nothing, and all others go on.
                self._reject(self._failed(failure, line), out)
        self.seen.newest_event = newest
        if rated:
            out.ended["rated", ""] += rated
            self.received.append((received_at, rated))
        full = self.seen.seal(rated + self._parts_remembered, received_at)
        self._parts_remembered = 0
        if full is not None:
            out.seen.append(full)

    def _decode_alone(self, line: bytes, failure: Exception) -> CloudEvent | Rejected:
        """One event of a batch that could not be decoded as a whole."""
        self._check_foreseen(failure)
        try:
            return self._decoder.decode(line)
        except Exception as failure:
            return self._failed(failure, line)

    def _failed(self, failure: Exception, line: bytes) -> Rejected:
        """An event that made the engine fail: what it did is known from the kind of failure alone."""
        self._check_foreseen(failure)
        message = (
            f"the engine failed at this event ({type(failure).__name__}): report it, and send the event again then"
        )
        return Rejected(RejectCode.FAILED, message, "$", line)

    def _check_foreseen(self, failure: Exception) -> None:
        """Raise what is not an event's or a customer's doing: a store is away, or the rules ask for every error."""
        if failure is self._outside or self._lane_check_events == 1:
            raise failure

    def _is_repeated(
        self, event: CloudEvent, at: datetime, line: bytes, received_at: datetime, out: Outcome, only: str
    ) -> bool:
        """
        Whether an event, or the usage of `only` one meter of it, was rated before; it then ends as a duplicate.

        Its id may as well be that of another customer's event.
        """
        identified = part_of(event.source, only)
        known = self.seen.of_source(identified).get(event.id)
        customer_id = self.catalog.owner_of_usage(event.subject, at, received_at)
        if customer_id is None or (known is None and not only):
            return False
        account = self.accounts.get(customer_id)
        number = 0 if account is None else account.state.number
        rated_as = None if known is None else self.seen.fingerprint(identified, event.id, known, number)
        if rated_as is None:
            if only and self._has_counted(event, number, only):
                out.ended["duplicate", ""] += 1
                return True
            return False
        out.ended["duplicate", ""] += 1
        if rated_as != xxh32_intdigest(line):
            out.mismatches.append(MismatchRow(event.source, event.id, line))
        return True

    def _has_counted(self, event: CloudEvent, number: int, meter: str) -> bool:
        """
        Whether an event was rated with its usage of a meter, which then did not wait.

        A log that is read again has the price from the beginning: what had waited is counted with the rest of its
        event, and what was driven again for it comes once more.
        """
        waited = part_of(event.source, WAITED + meter)
        whole, part = (self.seen.of_source(source).get(event.id) for source in (event.source, waited))
        if whole is None or self.seen.fingerprint(event.source, event.id, whole, number) is None:
            return False
        return part is None or self.seen.fingerprint(waited, event.id, part, number) is None

    def _remember_waiting(self, event: CloudEvent, account: Account, meter: str) -> None:
        """Remember that usage of a meter waits, though the rest of its event was rated."""
        waited, mark = part_of(event.source, WAITED + meter), mark_of(account.state.number)
        prints = self.seen.of_source(waited)
        known = prints.get(event.id)
        if known is None:
            prints[event.id] = mark
            self._parts_remembered += 1
        elif self.seen.fingerprint(waited, event.id, known, account.state.number) is None:
            self.seen.add_beside(waited, event.id, mark)
            self._parts_remembered += 1

    def _rate(
        self,
        event: CloudEvent,
        at: datetime,
        line: bytes,
        received_at: datetime,
        now: datetime,
        out: Outcome,
        only: str,
    ) -> Account | None:
        """
        Count an event that no lane takes towards its meters, or towards one `only`.

        Returns:
            Whose it is; None: it was not rated, and has ended.
        """
        if self._behind:
            behind = self.catalog.owner_of_usage(event.subject, at, received_at)
            if behind in self._behind:
                self._bring_up(behind, now, out)
        if self.aside and self.catalog.owner_of_usage(event.subject, at, received_at) in self.aside:
            self._hold(event, at, line, received_at, out, only)
            return None
        route = self._routes.get((event.subject, event.type))
        knew_all = at <= received_at or received_at >= self.catalog.changed_at_by_group[self.number]
        if route is None or not route.start <= at < route.end or received_at < route.owned_from or not knew_all:
            decoder = self._decoder
            found = self._route(event.subject, event.type, at, received_at, now)
            if self._decoder is not decoder:
                again = self._decoder.decode(line)
                if isinstance(again, Rejected):
                    self._reject(again, out)
                    return None
                event = again
            if isinstance(found, ParkCode):
                self._park(found, event, at, line, received_at, out, only)
                return None
            route = found
            if self._is_repeated(event, at, line, received_at, out, only):
                # By the catalog as it was read just now.
                return None
            out.subjects.append(UsedSubject(route.account.state.customer_id, event.subject))
        measured = measure(route.meters, event, received_at, line, only)
        if not measured.counted:
            self._end_uncounted(measured, event, at, line, received_at, out, only)
            return None
        account = route.account
        if account.coming and any(
            account.coming.get(meter.key) == self.calendar.epoch for meter, _, _ in measured.counted
        ):
            self._waiting.append(Waiting(line, received_at, only))
            self._waiting_since = self.calendar.epoch
            return None
        self.lanes.empty(account)
        account.packed = None
        headroom = account.headroom
        undo = Undo(account, self.lanes)
        try:
            for meter, aggregation, value in measured.counted:
                undo.note(meter, value)
                used = value if aggregation in ADDITIVE else _tallied(account, meter, aggregation, value, at, event.id)
                assert isinstance(used, Decimal)
                part = account.use(meter, used, at, self.rules.window_seconds)
                self.lanes.take_off(account, meter, used)
                undo.used(part, used)
                if headroom is not None:
                    piece = meter.piece
                    if piece is not None and (piece.until is None or meter.reached <= piece.until) and used >= 0:
                        headroom -= used * piece.unit_price
                    else:
                        headroom = ZERO
        except Exception:
            undo.all()
            raise
        account.state.events += 1
        account.headroom = headroom
        self._touch(account)
        if route.only_taker is not None and not part.is_late and knew_all:
            metered = route.meters[0]
            self.lanes.open(
                Lane(
                    event.subject,
                    event.type,
                    account,
                    meter,
                    part,
                    (route.start, route.end),
                    metered.value,
                    metered.aggregation,
                    mark_of(account.state.number),
                ),
                route.owned_from,
            )
        if headroom is not None and headroom <= 0:
            last = [meter for meter, _, _ in measured.counted]
            self._guard(account, out, lambda: self._settle(account, now, out, last))
        out.rejected += measured.refused
        for waits in measured.waiting:
            self._park_part(waits, event, at, line, received_at, out)
            if not only:
                self._remember_waiting(event, account, waits.meter)
        return account

    def _end_uncounted(
        self,
        measured: Measured,
        event: CloudEvent,
        at: datetime,
        line: bytes,
        received_at: datetime,
        out: Outcome,
        only: str,
    ) -> None:
        """Reject or park an event that adds to no meter, as a whole."""
        end = measured.end(only)
        assert end is not None
        if isinstance(end, Rejected):
            self._reject(msgspec.structs.replace(end, meter=only), out)
        elif only and measured.waiting:
            out.ended["parked", end] += 1
            self._park_part(measured.waiting[0], event, at, line, received_at, out)
        else:
            self._park(end, event, at, line, received_at, out, only)

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
        always = self._lane_check_events == 1
        if not always and self._unchecked < self._lane_check_events:
            return True
        self._unchecked = 0
        route = self._find_route(event.subject, event.type, at, received_at, now)
        if isinstance(route, Route) and route.start <= at < route.end:
            counted = measure(route.meters, event, received_at, b"").counted
            covering = next((part for part in reversed(lane.meter.slices) if part.start <= at < part.end), None)
            if len(counted) == 1 and counted[0][0] is lane.meter and counted[0][2] == value and covering is lane.part:
                return True
        assert not always, f"a lane of `{event.type}` took an event that does not belong to it"
        out.wrong_lanes += 1
        self.lanes.close(lane.account)
        return False

    def _settle_lane(self, lane: Lane, now: datetime, out: Outcome) -> None:
        """What has gathered in a lane may change access."""
        self._guard(lane.account, out, lambda: self._settle(lane.account, now, out, (lane.meter,)))

    def _touch(self, account: Account) -> None:
        """The account has usage to price on the beat."""
        if not account.dirty:
            account.dirty = True
            self.dirty.append(account)

    def _reject(self, rejected: Rejected, out: Outcome) -> None:
        out.rejected.append(rejected)
        out.ended["rejected", rejected.code] += 1

    def _park(
        self,
        code: ParkCode,
        event: CloudEvent,
        at: datetime,
        line: bytes,
        received_at: datetime,
        out: Outcome,
        only: str = "",
    ) -> None:
        """Let an event wait, or the usage of `only` one meter of it."""
        customer_id = self.catalog.owner_of_usage(event.subject, at, received_at)
        if only and code is not ParkCode.PERIOD_CLOSED:
            code = ParkCode.UNPRICED
        message = waits_because(code, event.subject, event.type, only)
        out.parked.append(
            Parked(
                code,
                message,
                event.source,
                event.id,
                event.subject,
                customer_id,
                at,
                line,
                received_at,
                only,
                type=event.type,
            )
        )
        out.ended["parked", code] += 1

    def _park_part(
        self, waits: Part, event: CloudEvent, at: datetime, line: bytes, received_at: datetime, out: Outcome
    ) -> None:
        """Let an event's usage of one meter wait. The event itself ends as what the rest of it does."""
        customer_id = self.catalog.owner_of_usage(event.subject, at, received_at)
        message = waits_because(waits.code, event.subject, event.type, waits.meter)
        out.parked.append(
            Parked(
                waits.code,
                message,
                event.source,
                event.id,
                event.subject,
                customer_id,
                at,
                line,
                received_at,
                waits.meter,
                waits.dimensions,
                event.type,
                waits.quantity,
            )
        )

    def _read_catalog_version(self) -> None:
        if self._decoder_version != self.catalog.global_version:
            self._decoder_version = self.catalog.global_version
            self._decoder = EventDecoder(metered_fields(self.catalog))
        if self._routes_version != self.catalog.global_version:
            self._routes_version = self.catalog.global_version
            self._forget_routes()
        if self._moves_seen != len(self.catalog.moved_subjects):
            moved = set(self.catalog.moved_subjects[self._moves_seen :])
            self._moves_seen = len(self.catalog.moved_subjects)
            self._forget_subjects(moved)

    # -- attribute ------------------------------------------------------------------------------

    def _route(
        self, subject: str, event_type: str, at: datetime, received_at: datetime, now: datetime
    ) -> Route | ParkCode:
        found = self._find_route(subject, event_type, at, received_at, now)
        if isinstance(found, ParkCode) and self.refresh():
            self._read_catalog_version()
            self._forget_changed()
            found = self._find_route(subject, event_type, at, received_at, now)
        knew_all = at <= received_at or received_at >= self.catalog.changed_at_by_group[self.number]
        if not isinstance(found, ParkCode) and not found.has_left and knew_all:
            self._routes[subject, event_type] = found
            self._routed.setdefault(found.account.state.customer_id, set()).add((subject, event_type))
        return found

    def _find_route(
        self, subject: str, event_type: str, at: datetime, received_at: datetime, now: datetime
    ) -> Route | ParkCode:
        catalog = self.catalog
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
        account = self.accounts.get(customer_id) or self._open_account(customer_id)
        found: list[Route | ParkCode] = []

        def look() -> None:
            self.account(customer_id, now)
            found.append(route_to(account, subscription, features, at, now, self.calendar))

        if not self._guard(account, None, look):
            raise AccountFailed(customer_id)
        route = found[0]
        if isinstance(route, ParkCode) or not catalog.has_moved(subject):
            return route
        owned_from, owned_to = catalog.owned_span(subject, min(at, received_at))
        return replace(route, start=max(route.start, owned_from), end=min(route.end, owned_to), owned_from=owned_from)

    # -- input: the catalog, and time -----------------------------------------------------------

    def account(self, customer_id: str, now: datetime) -> Account:
        """The account of a customer, opened if need be."""
        account = self.accounts.get(customer_id)
        if account is None:
            account = self._open_account(customer_id)
        if account.customer is None:
            self._refresh(account, now)
        return account

    def _open_account(self, customer_id: str) -> Account:
        account = self.accounts[customer_id] = Account(AccountState(customer_id))
        self._give_number(account)
        return account

    def _give_number(self, account: Account) -> None:
        """Let an account have a number that no other of the group ever had."""
        self._numbered += 1
        account.state.number = self._numbered
        account.packed = None

    def begin_turn(self, work: float) -> None:
        """
        Bound the work of what follows: what is left goes on in the turns after it, so that nobody holds up others.

        Args:
            work: In steps of an account, each of as much as it has meters and some more. Without end: all is done.
        """
        self._left = work

    @property
    def goes_on(self) -> bool:
        """Whether work was left for the next turn."""
        return self._left <= 0

    def _step(self, account: Account) -> None:
        self._left -= STEP_WORK + len(account.state.meters)

    def reconcile(self, customer_ids: Iterable[str], now: datetime, out: Outcome) -> None:
        """
        Take over what the catalog says of some customers of this group, and tell it. Repeating it changes nothing.

        An account may have read a part of it before, so it does not matter whether there is anything new.
        """
        use_exact()
        self._read_catalog_version()
        for customer_id in customer_ids:
            account = self.accounts.get(customer_id)
            if account is not None:
                self._forget_routes_to(account)
            self._behind[customer_id] = None
        self._bring_all_up(now, out)

    def resume(self, now: datetime, out: Outcome) -> None:
        """Start, or start again: bring every customer up to the catalog and the instant, and tell all that is held."""
        use_exact()
        self._read_catalog_version()
        self._forget_routes()
        for account in self.accounts.values():
            for meter in account.state.meters:
                meter.dirty = meter.rechain = True
        self._behind = dict.fromkeys(sorted(self.catalog.customer_ids_by_group[self.number].union(self.accounts)))
        self._bring_all_up(now, out)

    def _bring_all_up(self, now: datetime, out: Outcome) -> None:
        """Bring customers up to the catalog and the instant, as many as there is time for."""
        while self._behind and self._left > 0:
            self._bring_up(next(iter(self._behind)), now, out)

    def _bring_up(self, customer_id: str, now: datetime, out: Outcome) -> None:
        """Bring an account up to the catalog and the instant; one that was set aside goes on, and so do its events."""
        del self._behind[customer_id]
        account = self.accounts.get(customer_id)
        if account is None:
            account = self._open_account(customer_id)

        def bring_up() -> None:
            self._step(account)
            self._catch_up(account, now, out)
            self._settle(account, now, out)

        self.aside.pop(customer_id, None)
        if self._guard(account, out, bring_up):
            for held in self._held.pop(customer_id, ()):
                self._held_bytes -= len(held.line)
                self.fold(held.line, held.received_at, now, out, meter=held.meter)

    def _guard(self, account: Account, out: Outcome | None, work: Callable[[], None]) -> bool:
        """
        Do something that changes an account, as a whole or not at all: no customer's data ends the rating of others.

        Where it raises, the account is as it was before, and set aside.

        Returns:
            Whether it was done.
        """
        self.lanes.empty(account)
        before = copied(account.state)
        told = out.mark() if out is not None else None
        try:
            work()
        except Exception as failure:
            self._check_foreseen(failure)
            if out is not None and told is not None:
                out.cut(told)
            self._set_aside(account, before, failure)
            return False
        return True

    def _set_aside(self, account: Account, before: AccountState, failure: Exception) -> None:
        """Keep an account as it was, and its events to come, until the catalog says something else of it."""
        customer_id = account.state.customer_id
        self._forget_routes_to(account)
        self._reopening.pop(customer_id, None)
        self.calendar.forget(account.state)
        self.calendar.forget(before)
        account.dirty = False
        self.accounts[customer_id] = Account(before)
        where = "; ".join(f"{frame.name}:{frame.lineno}" for frame in extract_tb(failure.__traceback__)[-3:])
        self.aside[customer_id] = f"{type(failure).__name__} in {where}"

    def _hold(
        self, event: CloudEvent, at: datetime, line: bytes, received_at: datetime, out: Outcome, only: str
    ) -> None:
        """Let an event of a customer that was set aside wait; beyond `HELD_BYTES_MAX` of them it is a dead letter."""
        if self._held_bytes + len(line) > HELD_BYTES_MAX:
            message = "the customer is set aside, since the engine failed at its data: send the event again then"
            self._reject(Rejected(RejectCode.FAILED, message, "$", line), out)
            return
        customer_id = self.catalog.owner_of_usage(event.subject, at, received_at)
        assert customer_id is not None
        self._held_bytes += len(line)
        self._held.setdefault(customer_id, []).append(Waiting(line, received_at, only))

    def _let_pass(self, until: datetime, out: Outcome) -> None:
        """Let the instants up to one have their effect, one by one, on all accounts that they move."""
        for account, due in self.calendar.take_due(until) if self._left > 0 else ():
            account.next_due = due
            self._guard(account, out, partial(self._make_up, account, until, out))
            if self._left <= 0:
                return

    def _make_up(self, account: Account, until: datetime, out: Outcome) -> None:
        """
        Let the instants that passed while nobody looked have their effect, one by one, as if somebody had.

        What was received before an instant is settled before it.
        """
        while account.next_due is not None and account.next_due <= until and self._left > 0:
            self._step(account)
            due = account.next_due
            if account.dirty:
                self._settle_at(account, due - TICK, out)
            self._refresh(account, due)
            self._settle_at(account, due, out)
        if account.next_due is not None and account.next_due <= until:
            self.calendar.again(account)

    def _catch_up(self, account: Account, now: datetime, out: Outcome) -> None:
        """
        Let all instants up to now have their effect one by one, with the catalog as it is.

        An account that is new lives through all of them: its grants come and go, and the fees of its periods come due.
        """
        reached = account.state.advanced_to
        if reached is None:
            instant = self.catalog.first_instant(account.state.customer_id)
            while instant is not None and instant < now:
                if self._left <= 0 and account.next_due is not None:
                    # Others have their turn first: it goes on with what is due.
                    return
                self._step(account)
                self._refresh(account, instant)
                self._settle_at(account, instant, out)
                instant = self.calendar.next_charge(account)
        elif reached < now:
            self._refresh(account, reached)
            self._make_up(account, now, out)
            if account.next_due is not None and account.next_due <= now:
                return
        self._refresh(account, now)

    def _forget_routes(self) -> None:
        """Forget where all events go: what concerns everybody changed."""
        self._routes.clear()
        self._routed.clear()
        self.lanes.close_all()

    def _forget_routes_to(self, account: Account) -> None:
        """Forget which events go to an account: what the catalog says of it changed. All others go on as they do."""
        self.lanes.close(account)
        for key in self._routed.pop(account.state.customer_id, ()):
            self._routes.pop(key, None)

    def _forget_changed(self) -> None:
        """The same for every account of which the catalog says more than it has read."""
        for customer_id in [*self._routed]:
            account = self.accounts[customer_id]
            if account.state.records < self.catalog.records_of[customer_id]:
                self._forget_routes_to(account)

    def _forget_subjects(self, moved: set[str]) -> None:
        """Forget where events of subjects go that changed hands: that concerns two customers."""
        self.lanes.close_subjects(moved)
        for key in [key for key in self._routes if key[0] in moved]:
            del self._routes[key]

    def _refresh(self, account: Account, now: datetime) -> None:
        """Read the catalog, and let time have its effect on the account up to `now`."""
        self.lanes.close(account)
        if self.calendar.advance(account, now):
            self._forget_routes_to(account)

    def close_ended(self, now: datetime, out: Outcome) -> None:
        """Close every period that is over at `now`, without waiting out its grace."""
        use_exact()
        for account in [*self.accounts.values()]:
            ended = [m for m in account.state.meters if not m.closed and self.calendar.is_over(account, m, now)]
            for meter in ended:
                self.calendar.close(account, meter)
            if ended:
                self._guard(account, out, partial(self._settle, account, now, out))

    # -- output ---------------------------------------------------------------------------------

    def beat(self, now: datetime, out: Outcome) -> None:
        """Price, settle and tell everything that changed since the last beat, and what time alone changed."""
        use_exact()
        self._bring_all_up(now, out)
        if self.aside and self._aside_version != self.catalog.global_version:
            # What all plans share has changed: perhaps it was that.
            self.reconcile([*self.aside], now, out)
        self._aside_version = self.catalog.global_version
        self._let_pass(now, out)
        self.price_dirty(now, out)

    def price_dirty(self, now: datetime, out: Outcome) -> None:
        """Price, settle and tell what events changed since the last beat."""
        use_exact()
        if self._waiting and self._waiting_since < self.calendar.epoch:
            waiting, self._waiting = self._waiting, []
            for event in waiting:
                self.fold(event.line, event.received_at, now, out, meter=event.meter)
        dirty, self.dirty = self.dirty, []
        for place, account in enumerate(dirty):
            if self._left <= 0:
                self.dirty += dirty[place:]
                break
            if account.dirty:
                self._step(account)
                self._guard(account, out, partial(self._settle, account, now, out))
        if self._reopening:
            self._reopen(now, out)
        out.received += self.received
        self.received.clear()

    def _settle(self, account: Account, now: datetime, out: Outcome, last: Sequence[MeterState] = ()) -> None:
        """
        Price and settle the dirty meters of an account, and tell what it came to, after the instants that passed.

        What an event used that may have exhausted a grant is settled `last`: all before it fitted in the headroom,
        where order does not matter, so credits burn in the order in which the usage was rated.
        """
        if account.next_due is not None and account.next_due <= now:
            self._settle_at(account, account.next_due - TICK, out, last)
            self._make_up(account, now, out)
            last = ()
            if account.next_due is not None and account.next_due <= now:
                # Others have their turn first.
                self._touch(account)
                return
        self._settle_at(account, now, out, last)

    def _settle_at(self, account: Account, now: datetime, out: Outcome, last: Sequence[MeterState] = ()) -> None:
        """Settle an account on which time has had its effect."""
        self.lanes.empty(account)
        account.dirty = False
        account.packed = None
        state = account.state
        now = max(now, state.advanced_to or now)
        if account.continued:
            carry_over(account, self.calendar.pricing)
        dirty = [meter for meter in state.meters if meter.dirty]
        if last:
            dirty = [meter for meter in dirty if not any(meter is found for found in last)]
            dirty += [meter for meter in last if meter.dirty]
        reopened = [] if account.reopened_in is None else self._take_reopened(account)
        told: list[tuple[MeterState, bool]] = []
        for meter in dirty:
            # What a period is used before it begins counts from then on. What a move has put off is given back.
            is_due = meter.booked_from <= now
            if not is_due and not meter.amount:
                continue
            meter.dirty = False
            opens = self._price(account, meter, is_due)
            if opens is None:
                continue
            if opens:
                # What is owed for having the plan comes before what was used since.
                settle(account, meter, meter.slices[:1], now)
            told.append((meter, meter.rechain))
            meter.rechain = False
        for meter, whole in told:
            settle(account, meter, meter.slices if whole else meter.slices[-1:], now)
        if account.wallet.has_refunds or reopened or (state.overage and account.wallet.live_grants):
            whole_ones = [*repay_uncovered(account, now), *reopened]
            told = [found for found in told if not any(found[0] is meter for meter in whole_ones)]
            told += {id(meter): (meter, True) for meter in whole_ones}.values()
        for meter, whole in told:
            out.charges += charge_rows(account, meter, whole or meter.rechain)
            if meter.closed:
                account.told_in[meter.key] = self.calendar.epoch
            if close_windows(meter, self.rules.late_windows):
                self.lanes.close(account)
        for meter in reopened:
            if account.wanted:
                # Others are still to come back, and no grant has paid yet: it comes back once more, with them.
                account.wanted.append(meter)
            else:
                account.looked(meter, now)
        if account.wanted:
            self._reopening[state.customer_id] = account
        for meter in account.continued:
            unbind_earlier(account, meter)
        balance = balance_row(account, now)
        if balance is None:
            return
        self.lanes.split_headroom(account)
        out.balances.append(balance)
        shown = (balance.access, balance.level, balance.blocked_features)
        if shown != account.shown:
            out.urgent = out.urgent or account.shown is not None or balance.access == "blocked"
            account.shown = shown

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to do on the next beat."""
        return bool(self.dirty or self._behind or self._waiting or self._reopening)

    def _reopen(self, now: datetime, out: Outcome) -> None:
        """Bring back windows that grants may pay for, and let them pay once a snapshot holds those."""
        loads = LOADS_MAX if self._missed_in < self.calendar.epoch else 0
        for customer_id, account in [*self._reopening.items()]:
            if account.reopened_in is not None:
                if account.reopened_in < self.calendar.epoch:
                    self._guard(account, out, partial(self._settle, account, now, out))
            elif loads:
                loads -= 1
                if not self._load_wanted(account, now):
                    self._missed_in = self.calendar.epoch
                if account.reopened_in is None and not account.wanted:
                    # Nothing comes back: what is open is not kept waiting for it.
                    account.wallet.has_refunds = True
                    account.state.transitions += 1
                    account.packed = None
                    self._guard(account, out, partial(self._settle, account, now, out))
            if account.reopened_in is None and not account.wanted:
                self._reopening.pop(customer_id, None)

    def _load_wanted(self, account: Account, now: datetime) -> bool:
        """Bring back the windows that an account wants. Returns whether the ledger had them all."""
        wanted = []
        for meter in account.wanted:
            if self.calendar.load_windows is None or account.meters.get(meter.key) is not meter:
                account.looked(meter, now)
                continue
            rows = self.calendar.load_windows(account.state.customer_id, meter.key)
            found = windows_that_left(meter, rows, self.rules.window_seconds)
            if found is None and account.asked < ASKED_MAX:
                wanted.append(meter)
                continue
            if found is None:
                account.looked(meter, now)
                continue
            account.packed = None
            account.reopened_in = self.calendar.epoch
            meter.reopened = found
        account.wanted = wanted
        account.asked = account.asked + 1 if wanted else 0
        return not wanted

    def _take_reopened(self, account: Account) -> list[MeterState]:
        """Open the windows that came back, if a snapshot holds them: what left the state is all there for once."""
        if account.reopened_in is None or account.reopened_in >= self.calendar.epoch:
            return []
        account.reopened_in = None
        reopened = [meter for meter in account.state.meters if meter.reopened]
        for meter in reopened:
            meter.slices = [*meter.reopened, *meter.slices]
            meter.reopened = []
            meter.owed_from = meter.owed_through = None
        account.state.transitions += bool(reopened)
        return reopened

    def _price(self, account: Account, meter: MeterState, is_due: bool) -> bool | None:
        """
        Bring a meter's amounts up to its usage.

        What it costs without any usage has a slice at the period's start, what is due at its end (a fee in arrears, a
        minimum) one at its end: so who pays for it is decided by when it is due, whatever usage came when.

        Returns:
            Whether the slice at the start is new; None where there is nothing to tell.
        """
        pricing = self.calendar.pricing(account, meter)
        if meter.closed:
            meter.commitment = meter.minimum(pricing)
        fee = ZERO
        given = pricing.discounts.percentage is not None and meter.counted_from is None and is_given(pricing)
        given_at_end = False
        if meter.booked_from > meter.period_start and is_in_arrears(pricing):
            given_at_end = given
            fee, pricing = total(pricing, ZERO) if is_due else ZERO, NOTHING
        slices = meter.slices
        opens = False
        # A piece is known once the price was looked at, or where usage begins on one that owes nothing without any.
        if (meter.piece is None or given) and meter.closed_through is None:
            has_start = bool(slices) and slices[0].start <= meter.period_start
            opens = not has_start and (meter.cost(pricing, ZERO) != ZERO or (given and not given_at_end))
        if opens:
            slice_at(meter, meter.period_start, account.wallet.boundaries, self.rules.window_seconds)
        if meter.commitment or fee or (given_at_end and is_due):
            slice_at(meter, meter.period_end - TICK, account.wallet.boundaries, self.rules.window_seconds)
        elif not slices:
            # Opened for usage that did not come.
            return None
        price_meter(meter, pricing, fee)
        return opens

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
                account.packed = _snapshot_encoder.encode(account.state)
                self.lanes.place(account)
            else:
                gathered += self.lanes.gathered(account)
            packed.append(msgspec.Raw(account.packed))
        waiting = [*self._waiting, *(held for events in self._held.values() for held in events)]
        state = GroupState(
            SNAPSHOT_VERSION, packed, self.seen.snapshot(), self.calendar.read_through, gathered, waiting
        )
        return _snapshot_encoder.encode(state)


def _tallied(
    account: Account, meter: MeterState, aggregation: Aggregation, value: Decimal | str, at: datetime, event_id: str
) -> Decimal:
    """Add an event to what a meter's aggregation remembers. Returns by how much the aggregate changed."""
    if meter.tally is None:
        meter.tally = new_tally(aggregation)
    if meter.counted_from is not None:
        return add_to_period(account, meter, meter.tally, value, at, event_id)
    add(meter.tally, value, at, event_id)
    return tally_value(meter.tally) - meter.usage
