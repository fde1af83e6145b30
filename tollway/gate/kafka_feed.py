"""
A gate's feed from Kafka: the compacted topic of access, from its beginning on.

That nothing comes may mean that nothing changes, or that no broker is there. So once a second the feed asks where
the partitions end: the copy is complete as of then if it has been read up to there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final
from uuid import uuid4

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from tollway.gate.access import Access, AccessCopy

POLL_SECONDS: Final = 0.05
ASK_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 5.0
PARTITIONS_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.5
MESSAGES: Final = 1000

_log = logging.getLogger("tollway.gate")
_log.addFilter(lambda record: "CONFWARN" not in record.getMessage())  # one configuration serves two clients


class _Row(msgspec.Struct):
    access: str
    revision: int
    reason: str = ""
    blocked_features: frozenset[str] = frozenset()
    live: str = ""
    as_of: str = ""
    generation: int = 0


_decode = msgspec.json.Decoder(_Row).decode


class KafkaFeed:
    """Reads all partitions of a topic, as a group of its own. Brokers that are away are tried again."""

    def __init__(self, config: Mapping[str, str], topic: str) -> None:
        self._config: dict[str, Any] = {"group.id": f"tollway-gate-{uuid4().hex}", **config} | {
            "enable.auto.commit": "false",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": "true",
        }
        self._topic = topic
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gate-kafka", daemon=True)

    def start(self, copy: AccessCopy) -> None:
        """Keep the copy up from now on."""
        self._copy = copy
        self._thread.start()

    def close(self) -> None:
        """End the thread and the consumer."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                # One that waits for messages answers nothing else meanwhile: what is asked goes another way.
                admin = AdminClient(self._config, logger=_log)
                with closing(Consumer(self._config, logger=_log)) as consumer:
                    self._follow(consumer, admin)
            except KafkaException as failure:
                error = failure.args[0]
                _log.log(
                    logging.INFO if error.retriable() else logging.WARNING,
                    "the gate can't read Kafka, and tries again: %s",
                    error.name(),
                )
                self._closed.wait(RETRY_SECONDS)

    def _follow(self, consumer: Consumer, admin: AdminClient) -> None:
        read: dict[int, int] = {}
        ask_at = look_at = 0.0
        while not self._closed.is_set():
            now = time.monotonic()
            if now >= look_at:
                self._assign_new(consumer, admin, read)
                look_at = now + PARTITIONS_SECONDS
            self._take(consumer.consume(MESSAGES, timeout=POLL_SECONDS), read)
            now = time.monotonic()
            if read and now >= ask_at and self._is_complete(admin, read):
                self._copy.complete(now)
                ask_at = now + ASK_SECONDS

    def _assign_new(self, consumer: Consumer, admin: AdminClient, read: dict[int, int]) -> None:
        found = admin.list_topics(self._topic, timeout=TIMEOUT_SECONDS).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        new = sorted(found.partitions.keys() - read.keys())
        if new:
            consumer.incremental_assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in new])
            read |= dict.fromkeys(new, 0)

    def _take(self, messages: list[Message], read: dict[int, int]) -> None:
        for message in messages:
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    read[partition or 0] = offset or 0
                elif not error.retriable():
                    raise KafkaException(error)
                continue
            assert partition is not None, "a message that was consumed has a place"
            assert offset is not None, "a message that was consumed has a place"
            self._learn((message.key() or b"").decode(errors="replace"), message.value())
            read[partition] = offset + 1

    def _learn(self, customer: str, value: bytes | None) -> None:
        if value is None:
            self._copy.forget(customer)
            return
        try:
            row = _decode(value)
        except msgspec.MsgspecError:
            _log.warning("%s holds a message that is no customer's access", self._topic)
            return
        allowed = row.access == "allowed"
        access = Access(allowed, row.reason, row.blocked_features, row.live, row.revision, row.as_of, row.generation)
        self._copy.learn(customer, access)

    def _is_complete(self, admin: AdminClient, read: dict[int, int]) -> bool:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(self._topic, partition): latest for partition in read}
        answers = admin.list_offsets(asked, request_timeout=TIMEOUT_SECONDS)
        return all(read[at.partition] >= answer.result().offset for at, answer in answers.items())
