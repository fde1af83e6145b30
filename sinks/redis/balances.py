"""
Balances in Redis: one hash per customer, replaced by a server-side function that compares generation and revision.

`tollway:{customer}:balance` holds what a gateway asks: `access` answers it by one HGET. A change of access
goes out at once; other rows are coalesced. Signals are raised by the function, where the visible state is
replaced, and copied to the ledger from their stream.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import redis
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from rating.money import plain
from rating.outcome import BalanceRow, Outcome
from sinks.catching_up import CatchingUp
from sinks.metrics import count_signals, event_to_balance_seconds, ingest_to_signal_seconds, sink_seconds
from sinks.postgres import connecting
from sinks.postgres.statements import statement
from sinks.redis.keys import SIGNALS, balance_key
from sinks.writer import CoalescingWriter

FUNCTIONS = Path(__file__).parent / "balances.lua"
SIGNALS_KEPT = 1_000_000
CHUNK_ROWS = 500

_pack = msgspec.msgpack.Encoder().encode
_keep = msgspec.msgpack.Encoder(decimal_format="string").encode
_kept = msgspec.msgpack.Decoder(BalanceRow).decode
_json = msgspec.json.Encoder().encode


def connect(url: str) -> redis.Redis:
    """A client that gives bytes, with the function library loaded. Raises `redis.RedisError` if it can't be reached."""
    client = redis.Redis.from_url(url, protocol=3)
    client.function_load(FUNCTIONS.read_text(), replace=True)
    return client


def packed(row: BalanceRow) -> tuple[object, ...]:
    """A row as the server-side function takes it."""
    live = plain(row.live)
    blocked = ",".join(row.blocked_features)
    as_of = row.as_of.isoformat()
    fields: tuple[str, ...] = (
        "customer_id", row.customer_id, "currency", row.currency, "settled", plain(row.settled), "live", live,
        "pending", plain(row.pending), "overage", plain(row.overage), "access", row.access, "reason", row.reason,
        "level", str(row.level), "threshold", row.threshold, "blocked_features", blocked, "as_of", as_of,
    )  # fmt: skip
    if row.usage:
        fields += ("usage", _json(row.usage).decode())
    return (
        row.revision,
        str(row.access),
        row.reason,
        row.level,
        row.threshold,
        blocked,
        live,
        row.customer_id,
        row.customer_key,
        as_of,
        fields,
        bool(row.usage),
    )


class Balances:
    """
    Puts balance rows, a few hundred to a call; each call is atomic per customer.

    Args:
        url: The server.
        generation: The ledger's: rows of it replace those of earlier ones, whatever their revision.
    """

    def __init__(self, url: str, generation: int) -> None:
        self._client = connect(url)
        self._generation = str(generation)

    def put(self, rows: list[BalanceRow]) -> list[bytes]:
        """
        Replace what is visible by these rows, newest revision first served.

        Returns:
            The kinds of the signals that this raised.

        Raises:
            redis.RedisError: Redis did not take them.
        """
        raised: list[bytes] = []
        with sink_seconds.labels("redis").time():
            for start in range(0, len(rows), CHUNK_ROWS):
                chunk = rows[start : start + CHUNK_ROWS]
                keys = [SIGNALS, *(balance_key(row.customer_key) for row in chunk)]
                kinds: Any = self._client.fcall(
                    "tollway_put_balances",
                    len(keys),
                    *keys,
                    _pack([packed(row) for row in chunk]),
                    str(SIGNALS_KEPT),
                    datetime.now(UTC).isoformat(),
                    self._generation,
                )
                raised += kinds
        count_signals(raised)
        return raised

    def close(self) -> None:
        """End the connection."""
        self._client.close()


class SignalCopy:
    """Copies the signal stream to the ledger, by entry id, so that copying again changes nothing."""

    def __init__(self, url: str, dsn: str) -> None:
        self._client = redis.Redis.from_url(url, protocol=3, decode_responses=True)
        self._connection = connecting.connect(dsn, autocommit=True, application_name="tollway-signals")
        last = self._connection.execute(statement("newest_signal")).fetchone()
        self._last = last[0] if last is not None else "-"

    def catch_up(self) -> None:
        """Copy what is new. Raises `redis.RedisError` or `psycopg.Error`."""
        while True:
            start = self._last if self._last == "-" else f"({self._last}"
            entries: Any = self._client.xrange(SIGNALS, start, "+", count=1000)
            if not entries:
                return
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.executemany(
                    statement("insert_signal"),
                    [
                        (
                            entry_id,
                            signal["customer_id"],
                            signal["customer"],
                            signal["sequence"],
                            signal["kind"],
                            signal["feature"],
                            signal["reason"],
                            signal["live"],
                            signal["revision"],
                            datetime.fromtimestamp(int(entry_id.split("-")[0]) / 1000, UTC),
                            signal.get("generation", 0),
                        )
                        for entry_id, signal in entries
                    ],
                )
            self._last = entries[-1][0]

    def close(self) -> None:
        """End the connections."""
        self._client.close()
        self._connection.close()


class _BalancePartition(StatefulSinkPartition[Outcome, None]):
    def __init__(self, sink: BalanceSink) -> None:
        self._sink = sink

    def write_batch(self, values: list[Outcome]) -> None:
        for outcome in values:
            self._sink.write(outcome)

    def snapshot(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.release()


class BalanceSink(FixedPartitionedSink[Outcome, None]):
    """
    Writes balances to Redis, complete in `snapshot()`; signals are then in the ledger too.

    The partitions of one process share a writer and its connections.

    Args:
        url: The server.
        dsn: The ledger.
        partitions: How many there are, in all processes together.
        generation: The ledger's, which is known once the flow begins.
        catching_up: For how long rows are held back.
    """

    def __init__(
        self, url: str, dsn: str, partitions: int, generation: Callable[[], int], catching_up: CatchingUp
    ) -> None:
        self.url = url
        self.dsn = dsn
        self.partitions = partitions
        self._generation = generation
        self._catching_up = catching_up
        self._users = 0

    def list_parts(self) -> list[str]:
        return [f"{part:02}" for part in range(self.partitions)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _BalancePartition:
        if not self._users:
            self._balances = Balances(self.url, self._generation())
            self._urgent = Balances(self.url, self._generation())
            self.signals = SignalCopy(self.url, self.dsn)
            self._held = self._catching_up.keep(self._let_go)
            self.writer: CoalescingWriter[tuple[BalanceRow, list[tuple[datetime, int]]]] = CoalescingWriter(
                "balances", "redis", self._write
            )
        self._users += 1
        return _BalancePartition(self)

    def write(self, outcome: Outcome) -> None:
        """Put an outcome's balances: at once where access changes, else by the writer."""
        if not outcome.balances:
            return
        if not self._held.is_over and self._held.take({row.customer_id: _keep(row) for row in outcome.balances}):
            return
        if outcome.urgent:
            if self._urgent.put(outcome.balances):
                _observe_signal(outcome.received)
            _observe(outcome.received)
        else:
            waiting: dict[Hashable, Any] = {row.customer_id: (row, ()) for row in outcome.balances}
            last = outcome.balances[-1]
            waiting[last.customer_id] = (last, outcome.received)
            self.writer.put(waiting)

    def _let_go(self, rows: list[bytes]) -> None:
        with closing(Balances(self.url, self._generation())) as balances:
            for start in range(0, len(rows), CHUNK_ROWS):
                balances.put([_kept(row) for row in rows[start : start + CHUNK_ROWS]])
        # The flow may be at rest, and end no epoch that would copy what this has signalled.
        with closing(SignalCopy(self.url, self.dsn)) as signals:
            signals.catch_up()

    def flush(self) -> None:
        """Return when all that need not wait is in Redis, and signals are in the ledger."""
        self._held.check()
        self.writer.flush()
        self.signals.catch_up()

    def _write(self, rows: dict[Hashable, tuple[BalanceRow, list[tuple[datetime, int]]]]) -> None:
        self._balances.put([row for row, _ in rows.values()])
        for _, received in rows.values():
            _observe(received)

    def release(self) -> None:
        """A partition ended; with the last one the connections go."""
        self._users -= 1
        if not self._users:
            if not self._held.is_over:
                self._held.close()
            self.writer.close()
            self._balances.close()
            self._urgent.close()
            self.signals.close()


def _observe(received: list[tuple[datetime, int]]) -> None:
    now = datetime.now(UTC)
    for at, events in received:
        if events:
            event_to_balance_seconds.observe(max((now - at).total_seconds(), 0.0))


def _observe_signal(received: list[tuple[datetime, int]]) -> None:
    """A batch without a number of events is the one that changed access; else the last one may have, on the beat."""
    for at in [at for at, events in received if not events] or [at for at, _ in received[-1:]]:
        ingest_to_signal_seconds.observe(max((datetime.now(UTC) - at).total_seconds(), 0.0))
