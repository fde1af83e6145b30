"""
What Redis remembers of the ledger that it has seen, and how those are shut out of whom only an earlier history knew.

    tollway:history   a hash: `generation` and `history` of the ledger, all of which has been told to Redis, and how
                      many `commits` of the dataflow the ledger had then
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import redis
from msgspec import Struct

from sinks.metrics import count_signals
from sinks.redis.balances import SIGNALS_KEPT, connect
from sinks.redis.keys import BALANCES, CONTROL_HEAD, HISTORY, SIGNALS, balance_key, customer_key_of

FUNCTIONS: Final = Path(__file__).parent / "history.lua"
UNKNOWN_CUSTOMER: Final = "unknown_customer"
"""Why somebody is blocked whom the ledger does not know (any more)."""
CHUNK: Final = 1000

Unknown = Callable[[Collection[str]], set[str]]
"""Of customers by id, those whom the ledger does not know."""


class Remembered(Struct, frozen=True):
    """The ledger as Redis has seen it last."""

    generation: int
    history: str
    commits: int


class Visible(Struct, frozen=True):
    """Whose balance Redis shows, and of which generation."""

    customer_key: str
    customer_id: str
    generation: int


class RedisHistory:
    """The record, and who is shut_out by it. Raises `redis.RedisError` where Redis is away."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)
        self._client.function_load(FUNCTIONS.read_text(), replace=True)

    def remembered(self) -> Remembered | None:
        """As `remembered`."""
        return remembered(self._client)

    def control_head(self) -> int:
        """As `control_head`."""
        return control_head(self._client)

    def remember(self, generation: int, history: str, commits: int) -> None:
        """Take down how far the ledger is. Within one history that only grows."""
        self._client.fcall("tollway_put_history", 1, HISTORY, generation, history, commits)

    def lower_control_head(self, newest: Callable[[], int]) -> None:
        """
        Bring the head back to the newest entry that there is, where an earlier history left it beyond that.

        Args:
            newest: Reads the id of the newest entry.
        """
        if self._client.fcall("tollway_move_head", 1, CONTROL_HEAD, newest(), "lower"):
            # Whoever wrote an entry meanwhile found the head above it, and left it.
            self._client.fcall("tollway_move_head", 1, CONTROL_HEAD, newest(), "raise")

    def visible(self) -> Iterator[list[Visible]]:
        """Whose balances there are, some at a time; one that is written meanwhile may be left out."""
        yield from visible(self._client)

    def shut(self, generation: int, unknown: Unknown) -> list[str]:
        """
        Block whose balance is of an earlier generation, and whom the ledger does not know; that is signalled.

        Returns:
            The keys of these customers.
        """
        shut_out = []
        for chunk in self.visible():
            earlier = [seen for seen in chunk if seen.generation < generation]
            nobody = unknown([seen.customer_id for seen in earlier])
            for seen in earlier:
                if seen.customer_id not in nobody:
                    continue
                raised: Any = self._client.fcall(
                    "tollway_shut_balance", 2, SIGNALS, balance_key(seen.customer_key), seen.customer_id,
                    seen.customer_key, generation, SIGNALS_KEPT, datetime.now(UTC).isoformat(), UNKNOWN_CUSTOMER,
                )  # fmt: skip
                count_signals(raised)
                shut_out.append(seen.customer_key)
        return shut_out

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def remembered(client: redis.Redis) -> Remembered | None:
    """What a Redis has seen of the ledger; None where it remembers nothing: it is new, or lost, or was never told."""
    found: Any = client.hmget(HISTORY, "generation", "history", "commits")
    generation, history, commits = found
    return None if generation is None else Remembered(int(generation), history.decode(), int(commits))


def control_head(client: redis.Redis) -> int:
    """The newest entry of the control log that a change was answered for."""
    head: Any = client.get(CONTROL_HEAD)
    return int(head or 0)


def visible(client: redis.Redis) -> Iterator[list[Visible]]:
    """Whose balances a Redis has, read by a client that gives bytes, some at a time and without holding up others."""
    cursor = 0
    while True:
        scanned: Any = client.scan(cursor, match=BALANCES, count=CHUNK)
        cursor, keys = scanned
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, "customer_id", "generation")
        yield [
            Visible(customer_key_of(key), customer_id.decode(), int(generation or 0))
            for key, (customer_id, generation) in zip(keys, pipeline.execute(), strict=True)
            if customer_id is not None
        ]
        if cursor == 0:
            return
