"""
Notices that the ledger is in another history than the one that was told to the world, and begins a new generation.

Redis remembers the ledger as it has seen it last. A ledger that knows less than that was restored, or is another one:
its revisions are smaller than those that gateways have seen. So its generation is raised before anything is told, and
every balance replaces what is visible. The order is what makes it safe to be cut short anywhere:

(1) The generation is raised in the ledger. Whoever starts after that finds the ledger's greater, and tells by it.
(2) The dataflow tells all that it holds, once it has read the log up to where that ended at the start.
(3) As soon as it has committed, it is known to fit the ledger: customers whom that does not know were told by earlier
    histories only, and do not exist: they are blocked, and taken out of the topic.
(4) Redis remembers the new generation. Until then each start does (2) to (4) again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from threading import Event
from typing import Any

import psycopg
import redis

from config.kafka import KafkaSettings
from sinks.beside import working_beside
from sinks.catching_up import CatchingUp
from sinks.kafka.access import forget_access
from sinks.kafka.client import KafkaUnavailable, TopicMissing
from sinks.kafka.deliver import DeliveryFailed
from sinks.postgres.connecting import connect
from sinks.postgres.generations import LedgerState, raise_generation, read_state
from sinks.postgres.statements import statement
from sinks.redis.balances import SignalCopy
from sinks.redis.history import RedisHistory, Remembered

LOCK = 0x68697374
"""The advisory lock that queues processes of a cluster that start at once."""
LOOK_SECONDS = 1.0
"""So often Redis is told how far the ledger is: what a restore loses beyond that is noticed."""
NAMED = 5

_log = logging.getLogger("tollway.history")


def why_another(
    ledger: LedgerState, seen: Remembered | None, control_head: int, *, accepts_gaps: bool = False
) -> str | None:
    """
    Why the ledger has to begin a new generation; None where it need not.

    Args:
        ledger: As it is now. It has to be read after the other two, which follow it.
        seen: What Redis remembers of it.
        control_head: The newest entry of the control log that Redis has seen.
        accepts_gaps: Whether the flow may go on without usage that is gone from the log. Redis may show some of it, as
            told in an epoch that was never committed.
    """
    if not ledger.generation:
        return "the ledger's first"
    if seen is None:
        # Redis may have been lost together with the ledger, and gates in other processes remember more than both.
        return "Redis remembered nothing of the ledger"
    if seen.generation < ledger.generation:
        return None
    if (seen.generation, seen.history) != (ledger.generation, ledger.history):
        return f"Redis had seen generation {seen.generation}, and the ledger had only come to {ledger.generation}"
    if seen.commits > ledger.commits:
        return f"Redis had seen {seen.commits} commits, and the ledger had only {ledger.commits}"
    if control_head > ledger.control_head:
        return f"Redis had seen entry {control_head} of the control log, which ended at {ledger.control_head}"
    return "the dataflow may go on without usage that is gone from the log" if accepts_gaps else None


class LedgerHistory:
    """
    The history of the ledger that a dataflow runs on.

    Args:
        dsn: The ledger.
        redis_url: Where balances are.
        kafka: Where access is told too.
    """

    def __init__(self, dsn: str, redis_url: str, kafka: KafkaSettings | None) -> None:
        self._dsn = dsn
        self._redis_url = redis_url
        self._topics = kafka if kafka is not None and kafka.topic_access else None
        self._generation = 0
        self._known_through = self._swept = False
        self._commits = 0
        self._connection: psycopg.Connection[Any] | None = None
        self.catching_up = CatchingUp()
        """Whether what was visible stays for now."""

    def generation(self) -> int:
        """The ledger's generation, once the dataflow has begun."""
        assert self._generation, "the generation is known once the dataflow holds the ledger"
        return self._generation

    def begin(self, *, accepts_gaps: bool = False) -> None:
        """
        Read the ledger's generation, and raise it where the ledger is in another history than Redis has seen.

        Only a dataflow that holds the ledger may do so.

        Args:
            accepts_gaps: Whether the flow may go on without usage that is gone from the log.

        Raises:
            psycopg.Error, redis.RedisError: A store is away.
        """
        with (
            connect(self._dsn, application_name="tollway-history") as connection,
            closing(RedisHistory(self._redis_url)) as record,
        ):
            connection.execute(statement("queue_for_history"), (LOCK,))
            seen, head = record.remembered(), record.control_head()
            ledger = read_state(connection)
            why = why_another(ledger, seen, head, accepts_gaps=accepts_gaps)
            if why is not None:
                above = seen.generation if seen is not None else 0
                generation = raise_generation(connection, why, above)
                _log.log(
                    logging.WARNING if ledger.generation else logging.DEBUG,
                    "generation %d begins: %s; all balances are told anew, whatever was visible",
                    generation,
                    why,
                )
                ledger = read_state(connection)
        self._known_through = seen is not None and (seen.generation, seen.history) == (
            ledger.generation,
            ledger.history,
        )
        self._generation, self._commits = ledger.generation, ledger.commits
        if seen is not None and not self._known_through:
            self.catching_up.hold()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While the dataflow runs, and once it ended well, let Redis remember how far the ledger is."""
        try:
            with working_beside("history", self._follow):
                yield
            # It ended well, so it fits the ledger, also where it had nothing to commit.
            self._look(fits=True)
        finally:
            self._disconnect()

    def _follow(self, ended: Event) -> None:
        while not ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self, *, fits: bool = False) -> None:
        try:
            self.catch_up(fits=fits)
        except (psycopg.Error, redis.RedisError, KafkaUnavailable, TopicMissing, DeliveryFailed) as failure:
            # What is not remembered is looked at again, by the next start at the latest.
            _log.warning("Redis could not be told how far the ledger is: %s", type(failure).__name__)
            self._disconnect()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._dsn, autocommit=True, application_name="tollway-history")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def catch_up(self, *, fits: bool = False) -> None:
        """Do steps 3 and 4 once the dataflow has committed, or is known to fit the ledger; then count commits."""
        connection = self._connected()
        ledger = read_state(connection)
        moved = ledger.commits != self._commits
        if not moved and (self._known_through or not fits):
            return
        with closing(RedisHistory(self._redis_url)) as record:
            if not self._known_through and not self._swept:
                self._shut_out(connection, record, ledger)
                self._swept = True
            if not self.catching_up.is_over():
                return
            record.remember(ledger.generation, ledger.history, ledger.commits)
        self._known_through, self._commits = True, ledger.commits

    def _shut_out(self, connection: psycopg.Connection[Any], record: RedisHistory, ledger: LedgerState) -> None:
        record.lower_control_head(lambda: read_state(connection).control_head)
        (has_customers,) = connection.execute(statement("has_customers")).fetchall()[0]
        if not has_customers:
            # A new ledger, or an address mistaken: nobody is shut out for that.
            return

        def unknown(ids: Collection[str]) -> set[str]:
            return _without(connection, "id", ids)

        def nobodys(keys: Collection[str]) -> set[str]:
            return _without(connection, "key", keys)

        shut_out = record.shut(ledger.generation, unknown)
        if self._topics is not None:
            shut_out += forget_access(self._topics, nobodys)
        shut_out = sorted(set(shut_out))
        if shut_out:
            with closing(SignalCopy(self._redis_url, self._dsn)) as copy:
                copy.catch_up()
            more = f" and {len(shut_out) - NAMED} more" if len(shut_out) > NAMED else ""
            _log.warning(
                "%d customers whom the ledger does not know are blocked from now on: %s%s",
                len(shut_out),
                ", ".join(shut_out[:NAMED]),
                more,
            )


def _without(connection: psycopg.Connection[Any], column: str, values: Collection[str]) -> set[str]:
    """Of these values, those that no customer has in a column."""
    if not values:
        return set()
    found = connection.execute(statement("known_customers", column=column), (list(values),)).fetchall()
    return set(values).difference(value for (value,) in found)
