"""
Drives waiting events again, once the catalog can place them.

A thread of its own does what takes long: it reads the control log, finds the rows that a change may concern, and puts
events back into the log. Only what needs the catalog is asked in the flow, by `drive`, for `ASK_SECONDS` at most each
time that the control source is asked. So a turn is bounded in rows, in bytes and in the time that it takes of the flow,
whatever waits; what is left over is for the next.

- An event goes back as it was: with its bytes untouched, and beside them when it was first received and, where the rest
  of it was rated, the one meter whose usage waits.
- Nothing goes back that `rating.placing` can't place: it is what the keyed step asks too, filters included.
- A row that still waits tells what it waits for now, and whose it is now.
- Nothing goes back while the log's server is short of memory.
- An event goes back first, and its row leaves after: a crash between the two appends it twice, and the second is a
  duplicate.
"""

from __future__ import annotations

import logging
import time
from itertools import accumulate
from threading import Condition, Thread

import psycopg
import redis

from dataflows.catalog_view import CatalogView
from dataflows.messages import microseconds
from dataflows.waits import Look, Looks, WaitKind, concerned
from rating.catalog import decode_record
from rating.events import EventDecoder
from rating.placing import EventStanding, metered_fields, place, place_unread
from rating.refusals import ParkCode, Rejected, waits_because
from rating.time_rules import TimeRules
from sinks.event_log import Again, EventLog
from sinks.metrics import duplicate_mismatches_total, redrive_failures_total, redrive_seconds, redriven_events_total
from sinks.postgres.parked import Identity, ParkedRows, WaitingRow, WaitsOn

ROWS_MAX = 1000
"""Rows that are looked at in one turn."""
BYTES_MAX = 4 << 20
"""Bytes of events that are read, and put back, at a time; an event that is larger goes alone."""
ASK_SECONDS = 0.005
"""So long the flow is held up by one `drive` at most, but for the one event that it is at."""
LOOKS_MAX = 200
"""Waits that are looked for at a time."""
ENTRIES_MAX = 1000
"""Entries of the control log that are read at a time."""
IDLE_SECONDS = 0.5
"""So often rows are looked for that came too late for the look at what concerns them."""
REST_FACTOR = 1.0
"""So many times as long as a turn took the thread rests after it."""
FULL_SECONDS = 5.0
"""So long nothing is driven where the log's server is short of memory."""
RETRY_SECONDS = 1.0

_log = logging.getLogger("tollway.redrive")


class Question:
    """Rows about which the flow is asked, and how far it has come."""

    def __init__(self, rows: list[WaitingRow], raws: dict[Identity, bytes] | None, version: int) -> None:
        self.rows = rows
        self.raws = raws
        """Their bytes; None: they are only asked for where nothing else can tell."""
        self.version = version
        """The entry of the control log that has to be seen."""
        self.answers: list[tuple[WaitingRow, WaitsOn | None]] = []
        """
        For each row what it waits on; None: it waits no more or, as long as its bytes are not known, these decide.
        """
        self.is_answered = False


class Redrive:
    """
    Looks through events that wait, in the one process of a cluster that reads the control log.

    Args:
        dsn: The ledger.
        log: Where events are put back.
        view: The flow's catalog; looked at only by `drive`, which the flow calls.
        rules: The deployment's rules.
        memory_percent: How much of its memory the log's server may use for events to be driven.
    """

    def __init__(self, dsn: str, log: EventLog, view: CatalogView, rules: TimeRules, memory_percent: int) -> None:
        self._dsn = dsn
        self._log = log
        self._view = view
        self._rules = rules
        self._memory_percent = memory_percent
        self._changed = Condition()
        self._question: Question | None = None
        self._is_idle = False
        self._ending = False
        self._version = -1
        self._decoder = (-1, EventDecoder(()))
        self._thread = Thread(target=self._run, name="redrive", daemon=True)

    # -- in the flow ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def drive(self) -> None:
        """Answer what the thread asks about, for `ASK_SECONDS` at most, and let it know that the catalog moved."""
        question = self._question
        if question is None:
            if self._version != self._view.version:
                with self._changed:
                    self._version = self._view.version
                    self._is_idle = False
                    self._changed.notify_all()
            return
        if self._view.version < question.version:
            return
        started = time.monotonic()
        for row in question.rows[len(question.answers) :]:
            question.answers.append((row, self._ask(row, question.raws)))
            if time.monotonic() - started >= ASK_SECONDS:
                break
        redrive_seconds.observe(time.monotonic() - started)
        if len(question.answers) == len(question.rows):
            with self._changed:
                self._question = None
                question.is_answered = True
                self._changed.notify_all()

    def is_idle(self) -> bool:
        """Whether everything was looked at that the catalog as the flow sees it may concern."""
        with self._changed:
            return (self._is_idle and self._version == self._view.version) or not self._thread.is_alive()

    def close(self) -> None:
        """End; an event that is just being put back is put back."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._log.close()

    def _ask(self, row: WaitingRow, raws: dict[Identity, bytes] | None) -> WaitsOn | None:
        """What a row waits on. No event that can't be looked at holds up the others: it goes on waiting."""
        try:
            return self._standing(row, raws)
        except Exception:
            redrive_failures_total.inc()
            _log.exception("event %s of %s: it can't be told whether it can be rated", row.id, row.source)
            return WaitsOn(
                row, row.customer_id, row.reason, "it can't be told whether the event can be rated: see the log",
                self._view.version, row.event_type, row.received_at,
            )  # fmt: skip

    def _standing(self, row: WaitingRow, raws: dict[Identity, bytes] | None) -> WaitsOn | None:
        catalog = self._view.catalog
        event_type, received_at = row.event_type, row.received_at
        raw = None if raws is None else raws.get(row.identity)
        if raw is None:
            if not event_type:
                return None
            standing = place_unread(catalog, row.subject, event_type, row.event_time, received_at, row.meter)
        else:
            if self._decoder[0] != catalog.global_version:
                self._decoder = (catalog.global_version, EventDecoder(metered_fields(catalog)))
            event = self._decoder[1].decode(raw)
            if isinstance(event, Rejected):
                # It could be decoded when it came: what the meters look at now can't. It will be told so, and kept.
                return None
            event_type = event.type
            if not row.event_type and event.time is None:
                # A row of before does not say when the event was received, but its time does.
                received_at = row.event_time
            standing = place(catalog, self._rules, event, row.event_time, received_at, row.meter)
        if row.meter and row.reason == ParkCode.PERIOD_CLOSED:
            # Other features took the same usage of that meter: driven again, they would count it twice.
            standing = EventStanding(standing.customer_id, ParkCode.PERIOD_CLOSED)
        if standing.code is None:
            return None
        message = waits_because(standing.code, row.subject, event_type, row.meter)
        return WaitsOn(
            row, standing.customer_id, standing.code, message, self._view.version, event_type, received_at
        )  # fmt: skip

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending:
            try:
                rows = ParkedRows(self._dsn)
                try:
                    self._look_on(rows)
                finally:
                    rows.close()
            except _Ended:
                return
            except (psycopg.Error, redis.RedisError) as failure:
                redrive_failures_total.inc()
                _log.warning("waiting events can't be looked at now: %s", type(failure).__name__)
            except Exception:
                redrive_failures_total.inc()
                _log.exception("waiting events can't be looked at now")
            self._rest(RETRY_SECONDS)

    def _look_on(self, rows: ParkedRows) -> None:
        """Look for what changes concern, and for rows that came too late for that, until the end or a failure."""
        looks = Looks(rows.position())
        rows.announce(looks.noted_to)
        kept = looks.looked_to
        while not self._ending:
            started = time.monotonic()
            version = self._version
            more = self._note(rows, looks)
            found = looks.oldest(LOOKS_MAX)
            waiting = self._of(rows, found) if found else rows.unseen(ROWS_MAX)
            is_whole = len(waiting) < ROWS_MAX
            is_done = self._turn(rows, waiting, looks.noted_to) and is_whole
            if found and is_done:
                looks.done(found)
            if looks.looked_to > kept:
                kept = looks.looked_to
                rows.looked(kept)
            if found or more or not is_done:
                self._rest(REST_FACTOR * (time.monotonic() - started))
                continue
            with self._changed:
                self._is_idle = version == self._version
                if self._is_idle and not self._ending:
                    self._changed.wait(IDLE_SECONDS)

    def _note(self, rows: ParkedRows, looks: Looks) -> bool:
        """Read what is new in the control log. Returns whether there may be more."""
        entries = rows.entries(looks.noted_to, ENTRIES_MAX)
        for entry_id, body in entries:
            looks.note(entry_id, concerned(self._view.catalog, decode_record(body)))
        if entries:
            rows.announce(looks.noted_to)
        return len(entries) == ENTRIES_MAX

    def _of(self, rows: ParkedRows, looks: list[Look]) -> list[WaitingRow]:
        keys = [look.wait.key for look in looks]
        before = [look.before for look in looks]
        match looks[0].wait.kind:
            case WaitKind.CUSTOMER:
                return rows.of_customers(keys, before, ROWS_MAX)
            case WaitKind.SUBJECT:
                return rows.of_subjects(keys, before, ROWS_MAX)
            case WaitKind.METER:
                return rows.of_meters(keys, before, [look.wait.meter for look in looks], ROWS_MAX)

    def _turn(self, rows: ParkedRows, found: list[WaitingRow], version: int) -> bool:
        """
        Look at some rows, drive the events of those that wait no more, and keep what the others wait for.

        Returns:
            Whether all were; the others are found again.
        """
        if not found:
            return True
        answers = self._asked(Question(found, None, version))
        waiting = [waits for _, waits in answers if waits is not None]
        unread = [row for row, waits in answers if waits is None]
        # All that is read in a turn is bounded, so that others are looked at before what is left of these.
        sizes = accumulate(row.bytes for row in unread)
        read = [row for row, size in zip(unread, sizes, strict=True) if size <= BYTES_MAX] or unread[:1]
        ready: list[WaitingRow] = []
        if read:
            raws = rows.bytes_of(read)
            told = self._asked(Question([row for row in read if row.identity in raws], raws, version))
            waiting += [waits for _, waits in told if waits is not None]
            ready = [row for row, waits in told if waits is None]
        if waiting:
            duplicate_mismatches_total.inc(rows.wait_on(waiting))
        return self._put_back(rows, ready) and len(waiting) + len(ready) == len(found)

    def _asked(self, question: Question) -> list[tuple[WaitingRow, WaitsOn | None]]:
        """Have the flow look at some rows. Raises `_Ended` where it ends meanwhile."""
        if not question.rows:
            return []
        with self._changed:
            self._is_idle = False
            self._question = question
            while not question.is_answered:
                if self._ending:
                    raise _Ended
                self._changed.wait()
        return question.answers

    def _put_back(self, rows: ParkedRows, ready: list[WaitingRow]) -> bool:
        """Put events back into the log. Returns whether all are."""
        if not ready:
            return True
        if self._log.memory().is_full(self._memory_percent):
            _log.warning("waiting events can be rated, but wait on: the event log's server is short of memory")
            self._rest(FULL_SECONDS)
            return False
        first_receipts = {row.identity: row for row in sorted(ready, key=lambda row: row.received_at)}

        def append(locked: dict[Identity, bytes]) -> None:
            self._log.append_again(
                Again(locked[identity], microseconds(row.received_at), row.meter, row.read_version)
                for identity, row in first_receipts.items()
                if identity in locked
            )

        left = rows.leave(ready, append)
        redriven_events_total.inc(left)
        return left == len(ready)

    def _rest(self, seconds: float) -> None:
        with self._changed:
            if not self._ending:
                self._changed.wait(seconds)


class _Ended(Exception):
    """The flow ends, and answers no more."""
