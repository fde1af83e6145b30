"""
A gate's feed from Redis: all balances once and then every minute, and each customer that a signal names at once.

A signal only says whom to look at: what counts is read from the balance, where access and revision belong together.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

import redis

from tollway.gate.access import Access, AccessCopy

SIGNALS: Final = "tollway:signals"
UNKNOWN_CUSTOMER: Final = "unknown_customer"
BALANCES: Final = "tollway:{*}:balance"
FIELDS: Final = ("access", "reason", "blocked_features", "live", "revision", "as_of", "generation")
BLOCK_MS: Final = 250
"""So long Redis lets a read of the stream wait; a customer that was asked for in vain is looked up after that."""
READ_AGAIN_SECONDS: Final = 60.0
"""Balances move without a signal: this is how often all are read again."""
RETRY_SECONDS: Final = 0.5
CHUNK: Final = 1000

_log = logging.getLogger("tollway.gate")


class RedisFeed:
    """Follows one Redis or Valkey. One that is away is tried again until the feed is closed."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, protocol=3, decode_responses=True, socket_timeout=5.0)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gate-redis", daemon=True)

    def start(self, copy: AccessCopy) -> None:
        """Keep the copy up from now on."""
        self._copy = copy
        self._thread.start()

    def close(self) -> None:
        """End the thread and the connection."""
        self._closed.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except redis.RedisError as failure:
                _log.warning("the gate can't read Redis: %s", type(failure).__name__)
                self._closed.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        # What is signalled while the balances are read is read again after.
        newest: Any = self._client.xrevrange(SIGNALS, count=1)
        last = newest[0][0] if newest else "0-0"
        self._read_all()
        read_again_at = time.monotonic() + READ_AGAIN_SECONDS
        while not self._closed.is_set():
            found: Any = self._client.xread({SIGNALS: last}, block=BLOCK_MS, count=CHUNK)
            at = time.monotonic()
            entries = [entry for stream in (found or {}).values() for part in stream for entry in part]
            self._read(list(dict.fromkeys(fields["customer"] for _, fields in entries)))
            if entries:
                last = entries[-1][0]
            self._copy.complete(at)
            self._read(self._copy.take_wondered())
            if at >= read_again_at:
                self._read_all()
                read_again_at = time.monotonic() + READ_AGAIN_SECONDS

    def _read_all(self) -> None:
        at = time.monotonic()
        cursor = 0
        while not self._closed.is_set():
            scanned: Any = self._client.scan(cursor, match=BALANCES, count=CHUNK)
            cursor, keys = scanned
            self._read([key[len("tollway:{") : -len("}:balance")] for key in keys])
            if cursor == 0:
                self._copy.complete(at)
                return

    def _read(self, customers: list[str]) -> None:
        for start in range(0, len(customers), CHUNK):
            chunk = customers[start : start + CHUNK]
            pipeline = self._client.pipeline(transaction=False)
            for customer in chunk:
                pipeline.hmget(f"tollway:{{{customer}}}:balance", FIELDS)
            for customer, values in zip(chunk, pipeline.execute(), strict=True):
                if values[1] == UNKNOWN_CUSTOMER:
                    # Known before the ledger was restored to a time when there was no such customer.
                    self._copy.forget(customer)
                elif values[0] is not None:
                    self._copy.learn(customer, _access(*values))


def _access(access: str, reason: str, blocked: str, live: str, revision: str, as_of: str, generation: str) -> Access:
    features = frozenset(feature for feature in (blocked or "").split(",") if feature)
    allowed, numbers = access == "allowed", (int(revision or 0), int(generation or 0))
    return Access(allowed, reason or "", features, live or "", numbers[0], as_of or "", numbers[1])
