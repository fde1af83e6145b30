"""
The ledger of record in PostgreSQL: absolute rows by COPY and guarded upsert.

All rows of one hand-over to a table are staged by COPY and merged by one statement, in one short
transaction, so they may be seen before their epoch ends. Each row is tagged with the commit it belongs to.
After a crash, rows of a commit that never was are taken back, and the key groups tell all that they hold as
of their snapshot: the ledger goes on from exactly there, however differently the events since are cut.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from rating.outcome import ChargeRow, Outcome, WindowPart
from rating.usage import PeriodKey
from sinks.metrics import duplicate_mismatches_total, epoch_seconds, ledger_rows_total, sink_seconds
from sinks.postgres.connecting import connect
from sinks.postgres.copy_text import OPTIONS, array_text, bytes_text, copy_text, json_text
from sinks.postgres.statements import statement
from sinks.writer import CoalescingWriter

TABLES: dict[str, str] = {
    "charges": "upsert_charges",
    "balances": "upsert_balances",
    "seen_ids": "upsert_seen_ids",
    "used_subjects": "insert_used_subjects",
    "parked_events": "upsert_parked_events",
    "dead_letters": "insert_dead_letters",
    "sink_commits": "upsert_sink_commits",
}
"""Each table with the statement that merges what was staged for it, in the order of writing."""

TAKEN_BACK = ("charges", "balances")
"""Tables whose uncommitted rows go on resume. The others' rows are true whenever they were written."""

STAGED_COLUMNS = {
    "parked_events": "(source, id, reason, message, subject, customer_id, event_time, control_version, raw,"
    " received_at, meter, dimensions, quantity, event_type, read_version, content)",
    "dead_letters": "(digest, reason, meter, message, path, raw)",
    "seen_ids": "(key_group, segment, ids, oldest_needed)",
}

LEDGER_STEP = "ledger"
"""The step of the flow that writes it; its state in the recovery store is the last commit of each sink partition."""

LEDGER_OUTDATED_HINT = (
    "hint: after a backup of the ledger was put back, move the folder `recovery` of each home away, and let `tollway"
    " recovery rebuild` make it anew; or put back the recovery store of the same backup"
)

DUPLICATE_MISMATCH = "duplicate_mismatch"
MISMATCH_MESSAGE = "an event with the same source and id, but other content, was rated before"

DIMENSION_LENGTH_MAX = 256
"""Characters of a dimension's text that are kept beside an event that waits; its bytes have all of it."""

HOLD = 0x746F6C6C
"""The first half of the advisory lock that a dataflow holds; the second is its process's place in the cluster."""
HOLD_SECONDS = 5.0
"""So long a dataflow that is just ending is waited for."""


class RecoveryStoreMissing(Exception):
    """
    The ledger holds commits that the recovery store knows nothing of.

    Remedy: point `TOLLWAY_HOME` at the folder whose recovery store belongs to the ledger; if that is lost, make it
    anew with `tollway recovery rebuild`.
    """


class LedgerOutdated(Exception):
    """
    The recovery store knows of commits that the ledger does not hold: usage in them would be missing for good.

    Remedy: move the recovery store away and make it anew with `tollway recovery rebuild`, or put back that of the same
    backup as the ledger.
    """


class LedgerInUse(Exception):
    """
    Another dataflow writes to this ledger.

    Remedy: stop it first, or point `TOLLWAY_POSTGRES_DSN` at another database.
    """


@contextmanager
def sole_writer(dsn: str, process_id: int) -> Iterator[None]:
    """
    Hold the ledger for one process of one dataflow; PostgreSQL lets it go with the connection, however that ends.

    Two dataflows on one ledger would each take back what the other wrote.

    Raises:
        LedgerInUse: Another process with the same place holds it, for longer than one takes to end.
    """
    with connect(dsn, autocommit=True, application_name="tollway-writer") as connection:
        deadline = time.monotonic() + HOLD_SECONDS
        while True:
            row = connection.execute(statement("try_to_hold_ledger"), (HOLD, process_id)).fetchone()
            if row is not None and row[0]:
                break
            if time.monotonic() > deadline:
                raise LedgerInUse(
                    "another dataflow writes to this ledger\n"
                    "hint: stop it first, or set TOLLWAY_POSTGRES_DSN to another database"
                )
            time.sleep(0.1)
        yield


class Ledger:
    """A connection that merges rows; keys are (table, key of the row), so the newest row of each key is written."""

    def __init__(self, dsn: str) -> None:
        self._connection = connect(dsn, application_name="tollway-ledger")
        for table in TABLES:
            self._connection.execute(statement("stage_table", table=table))
        self._connection.commit()

    def write(self, rows: dict[Hashable, tuple[Any, ...]]) -> None:
        """Merge rows in one transaction. Raises `psycopg.Error` where PostgreSQL does not take them."""
        by_table: dict[str, list[tuple[Any, ...]]] = {}
        for key, row in rows.items():
            by_table.setdefault(key[0], []).append(row)  # type: ignore[index]
        with (
            sink_seconds.labels("postgres").time(),
            self._connection.transaction(),
            self._connection.cursor() as cursor,
        ):
            for table, merge in TABLES.items():
                staged = by_table.get(table)
                if staged is None:
                    continue
                columns = STAGED_COLUMNS.get(table, "")
                with cursor.copy(statement("copy_to_stage", table=table, columns=columns, options=OPTIONS)) as copy:
                    copy.write(copy_text(staged))
                cursor.execute(statement(merge))
                if cursor.description is not None:
                    duplicate_mismatches_total.inc(sum(count for (count,) in cursor))
                ledger_rows_total.labels(table).inc(len(staged))

    def take_back(self, part: int, sequence: int) -> None:
        """
        Delete what a partition wrote after its commit `sequence`.

        Raises:
            RecoveryStoreMissing: There are later commits too, so `sequence` is not where the ledger left off.
            LedgerOutdated: Nor is it, since the ledger ends before it.
        """
        with self._connection.transaction():
            refuse_unfit(self._connection, part, sequence)
            for table in TAKEN_BACK:
                self._connection.execute(statement("take_back_rows", table=table), (part, sequence))
            self._connection.execute(statement("restore_charges"), {"part": part, "sequence": sequence})

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def refuse_unfit(connection: psycopg.Connection[Any], part: int, sequence: int) -> None:
    """
    See to it that a partition's commit `sequence`, where the flow resumes, is where the ledger left off.

    Raises:
        RecoveryStoreMissing: There are later commits too.
        LedgerOutdated: The ledger ends before it.
    """
    refuse_ended_earlier(connection, part, sequence)
    newest = _newest_commit(connection, part, sequence)
    if newest > sequence + 1:
        raise RecoveryStoreMissing(
            f"the ledger holds commit {newest} of sink partition {part}, but the recovery store ends at {sequence}\n"
            "hint: set TOLLWAY_HOME to the folder whose recovery store belongs to this ledger; if that is"
            " lost, move what is left of it away: `tollway recovery rebuild` makes it anew"
        )


def refuse_ended_earlier(connection: psycopg.Connection[Any], part: int, sequence: int) -> None:
    """See to it that a partition's commit is in the ledger. Raises `LedgerOutdated` where that ends before it."""
    held = connection.execute(statement("commit_of_part"), (part,)).fetchone()
    newest = held[0] if held else 0
    if newest < sequence:
        raise LedgerOutdated(
            f"the ledger ends at commit {newest} of sink partition {part}, but the recovery store at"
            f" {sequence}: usage in between would be missing\n{LEDGER_OUTDATED_HINT}"
        )


def refuse_without_store(connection: psycopg.Connection[Any], part: int) -> None:
    """See to it that a flow without a recovery store finds none of its work. Raises `RecoveryStoreMissing` else."""
    newest = _newest_commit(connection, part, 0)
    if newest > 1:
        raise RecoveryStoreMissing(
            f"the ledger holds commit {newest} of sink partition {part}, and TOLLWAY_RECOVERY=off would begin"
            " without a recovery store\n"
            "hint: leave TOLLWAY_RECOVERY out, so that the dataflow goes on from the store in its home folder; off"
            " is for a ledger that was never written with it on"
        )


def _newest_commit(connection: psycopg.Connection[Any], part: int, sequence: int) -> int:
    """The newest commit of a partition's rows after one; 0: there is none."""
    found = (
        connection.execute(statement("newest_commit_of_rows", table=table), (part, sequence)).fetchone()
        for table in TAKEN_BACK
    )
    return max(row[0] or 0 if row else 0 for row in found)


def rewind(connection: psycopg.Connection[Any], sequences: dict[int, int]) -> int:
    """
    Take the ledger back to earlier commits, of which the recovery store is: what was written later is read again.

    Args:
        connection: To the ledger, within a transaction.
        sequences: The commit of each sink partition to go back to; one that is not named goes back to the beginning.

    Returns:
        How many rows were deleted.
    """
    deleted = 0
    known = connection.execute(statement("parts_with_commits")).fetchall()
    for part in sorted({part for (part,) in known} | sequences.keys()):
        sequence = sequences.get(part, 0)
        for table in TAKEN_BACK:
            deleted += connection.execute(statement("take_back_rows", table=table), (part, sequence)).rowcount
        connection.execute(statement("restore_charges"), {"part": part, "sequence": sequence})
        connection.execute(statement("set_commit_of_part"), (sequence, part))
    return deleted


def rows_of(outcome: Outcome, *commit: int) -> dict[Hashable, tuple[Any, ...]]:
    """The rows of an outcome by table and key, tagged with the commit: sink partition and sequence."""
    rows: dict[Hashable, tuple[Any, ...]] = {}
    for charge in outcome.charges:
        rows["charges", charge[:5]] = (
            *charge[:18],
            json_text(charge.paid),
            charge.closed,
            charge.revision,
            *commit,
            parts_text(charge.parts) if charge.parts else None,
            charge.was_left,
        )
    for balance in outcome.balances:
        rows["balances", balance.customer_id] = (
            *balance[:17],
            array_text(balance.blocked_features),
            balance.revision,
            balance.as_of,
            *commit,
        )
    for seen in outcome.seen:
        rows["seen_ids", seen.key_group, seen.segment] = (
            seen.key_group,
            seen.segment,
            bytes_text(seen.ids),
            seen.oldest_needed,
        )
    for used in outcome.subjects:
        rows["used_subjects", used] = used
    for parked in outcome.parked:
        owner = (parked.customer, "" if parked.customer is not None else parked.subject)
        rows["parked_events", *owner, parked.source, parked.id, parked.meter, hashlib.sha256(parked.raw).digest()] = (
            parked.source,
            parked.id,
            parked.code,
            parked.message,
            parked.subject,
            parked.customer,
            parked.time,
            outcome.catalog_version,
            bytes_text(parked.raw),
            parked.received_at,
            parked.meter,
            json_text({name: _storable(text) for name, text in parked.dimensions.items()}),
            parked.quantity,
            parked.type,
            outcome.catalog_version,
            bytes_text(parked.content) if parked.content else None,
        )
    for rejected in outcome.rejected:
        digest = hashlib.sha256(rejected.raw).digest()
        rows["dead_letters", digest, rejected.code, rejected.meter] = (
            bytes_text(digest),
            rejected.code,
            rejected.meter,
            rejected.message,
            rejected.path,
            bytes_text(rejected.raw),
        )
    for mismatch in outcome.mismatches:
        digest = hashlib.sha256(mismatch.raw).digest()
        rows["dead_letters", digest, DUPLICATE_MISMATCH] = (
            bytes_text(digest),
            DUPLICATE_MISMATCH,
            "",
            MISMATCH_MESSAGE,
            "$",
            bytes_text(mismatch.raw),
        )
    return rows


def _storable(text: str) -> str:
    """A dimension's text as a row can hold it: without NUL, and not longer than anybody looks at."""
    kept = text if len(text) <= DIMENSION_LENGTH_MAX else text[: DIMENSION_LENGTH_MAX - 1] + "…"
    return kept.replace("\0", "\N{REPLACEMENT CHARACTER}")


class _LedgerPartition(StatefulSinkPartition[Outcome, int]):
    """Its state is the number of its last commit; an epoch in which nothing was written is none."""

    def __init__(self, sink: LedgerSink, part: int, sequence: int) -> None:
        self._sink = sink
        self._part = part
        self._sequence = sequence
        self._wrote = False

    def write_batch(self, values: list[Outcome]) -> None:
        commit = (self._part, self._sequence + 1)
        for outcome in values:
            rows = rows_of(outcome, *commit)
            rows["sink_commits", self._part] = commit
            self._sink.writer.put(rows)
            self._wrote = True

    def snapshot(self) -> int:
        self._sink.writer.flush()
        self._sink.epoch_ended(self._part)
        if self._wrote:
            self._sequence += 1
            self._wrote = False
        return self._sequence

    def close(self) -> None:
        self._sink.release()


class LedgerSink(FixedPartitionedSink[Outcome, int]):
    """
    Writes outcomes to the ledger, durable in `snapshot()`.

    The partitions of one process share a writer and its connection.
    """

    def __init__(self, dsn: str, partitions: int) -> None:
        self.dsn = dsn
        self.partitions = partitions
        self._users = 0

    def list_parts(self) -> list[str]:
        return [f"{part:02}" for part in range(self.partitions)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _LedgerPartition:
        part, sequence = int(for_part), resume_state or 0
        ledger = Ledger(self.dsn)
        ledger.take_back(part, sequence)
        if self._users:
            ledger.close()
        else:
            self._ledger = ledger
            self._first_part, self._epoch_began = part, time.monotonic()
            self.writer: CoalescingWriter[tuple[Any, ...]] = CoalescingWriter("ledger", "postgres", ledger.write)
        self._users += 1
        return _LedgerPartition(self, part, sequence)

    def epoch_ended(self, part: int) -> None:
        """A partition is flushed: with the first of this process, take the time since it last was."""
        if part == self._first_part:
            now = time.monotonic()
            epoch_seconds.observe(now - self._epoch_began)
            self._epoch_began = now

    def release(self) -> None:
        """A partition ended; with the last one the connection goes."""
        self._users -= 1
        if not self._users:
            self.writer.close()
            self._ledger.close()


_parts = msgspec.json.Encoder(decimal_format="string")
_parts_decoder = msgspec.json.Decoder(tuple[WindowPart, ...])
_paid_decoder = msgspec.json.Decoder(dict[str, Decimal])


def parts_text(parts: tuple[WindowPart, ...]) -> str:
    """The parts of a window for a column of jsonb."""
    return _parts.encode(parts).decode()


class WindowLoader:
    """
    Reads windows that left the state, on a connection of its own.

    Raises `psycopg.Error` where PostgreSQL is away: the process then ends and resumes from its last epoch.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def __call__(self, customer_id: str, key: PeriodKey) -> list[ChargeRow]:
        """What the ledger has of a rate card's billing period."""
        if self._connection is None:
            self._connection = connect(self._dsn, autocommit=True, application_name="tollway-windows")
        names = ("customer_id", "subscription_id", "card_key", "period_start")
        found = self._connection.execute(statement("read_windows"), dict(zip(names, (customer_id, *key), strict=True)))
        return [_charge_row(row) for row in found]

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()


def _charge_row(row: tuple[Any, ...]) -> ChargeRow:
    values: list[Any] = [value.astimezone(UTC) if isinstance(value, datetime) else value for value in row]
    paid, parts = _paid_decoder.decode(values[18]), values[21]
    closed, revision, was_left = values[19], values[20], values[22]
    found = _parts_decoder.decode(parts) if parts else ()
    return ChargeRow._make([*values[:18], paid, closed, revision, found, was_left])


def load_seen_ids(dsn: str, key_group: int, segments: list[int]) -> list[bytes]:
    """Sealed segments of event ids, in the order asked for. Raises `LedgerOutdated` where one is missing."""
    if not segments:
        return []
    with connect(dsn, autocommit=True) as connection:
        # A commit that was taken back may have forgotten some of them.
        connection.execute(statement("remember_seen_ids"), (key_group, segments))
        found = connection.execute(statement("seen_ids_of_segments"), (key_group, segments)).fetchall()
    if len(found) != len(segments):
        raise LedgerOutdated(
            f"the recovery store knows {len(segments)} segments of event ids of key group {key_group}, and the ledger"
            f" has {len(found)} of them: it is older, or another one\n{LEDGER_OUTDATED_HINT}"
        )
    return [row[0] for row in found]
