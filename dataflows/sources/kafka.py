"""
Kafka as a source: one partition of the flow for each partition of the topic; an offset is Kafka's own.

Offsets live in the recovery store, where they belong to the same epoch as the state. They are mirrored to the
consumer group one epoch later, when they are known to be durable, so that tools that watch lag see what is
in the ledger. An offset that is gone, a topic that was replaced and partitions that were added are each an
exception of their own: nothing is skipped. A broker that is away is waited for.

An event was received when its message says so, not when it was read, so that a replay finds the same.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import redis
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from config.kafka import BEGIN_AT, KafkaSettings
from dataflows.messages import RawBatch
from dataflows.sources.kafka_events import segments_of
from sinks.kafka.client import (
    KafkaUnavailable,
    TopicMissing,
    admin,
    consumer,
    partitions_of,
    refresh_seconds,
    unavailable,
    watermarks,
)
from sinks.kafka.topics import compacted, topic_id
from sinks.metrics import SourceLag
from sinks.redis.keys import CONTROL_HEAD

IDLE = timedelta(milliseconds=5)
MESSAGES_MAX = 20_000
MESSAGES_FIRST = 1000
LOOK_AGAIN_SECONDS = 0.5
LAG_SOURCE = "kafka"
"""The source in metrics."""

UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC)
GONE = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET)

_log = logging.getLogger("tollway.kafka")

Resume = tuple[int, str]
"""What the recovery store keeps of a partition: the next offset, and the id of the topic that it belongs to."""


class TopicOffsetGone(Exception):
    """
    Messages from the offset on that was to be read next are not in the topic any more.

    Remedy: keep messages for longer than the flow may stand still, and rebuild from what is still there.
    """


class TopicUnfit(Exception):
    """
    The topic can't be read without losing usage: it is compacted, or it was deleted and made anew.

    Remedy: a topic that keeps every message, and the one that was read before.
    """


class PartitionsAdded(Exception):
    """
    The topic has more partitions than the flow reads, so the flow ended, cleanly: all it read is durable.

    Remedy: start it again, in every process, and it reads all of them.
    """


def _made_anew(topic: str) -> TopicUnfit:
    return TopicUnfit(
        f"Kafka topic `{topic}` is not the one that was read before, but was made anew: offsets mean other messages\n"
        "hint: set TOLLWAY_KAFKA_TOPIC_EVENTS to the topic that was read, or to one with a new name"
    )


class KafkaPartition(StatefulSourcePartition[RawBatch, Resume]):
    """Reads one partition from an offset on."""

    def __init__(self, source: KafkaSource, number: int, resume: Resume | None) -> None:
        self._source = source
        self._topic = source.topic
        self._number = number
        self._consumer = consumer(source.kafka, self._told)
        self._durable = self._snapshotted = None if resume is None else resume[0]
        self._mirrored: int | None = None
        self._position = self._begin(resume)
        self._count = MESSAGES_FIRST
        self._at_end = self._idle = self._jumped = False
        self._look_again_at = 0.0
        self._lag = SourceLag(LAG_SOURCE, f"{number:03}", None)
        self._mirror()

    def _begin(self, resume: Resume | None) -> int:
        """Begin where the recovery store says, which has to be there still; else with the first message."""
        first, end = watermarks(self._consumer, self._topic, self._number)
        offset = first
        if resume is not None:
            offset, topic = resume
            if topic != self._source.topic_id:
                raise _made_anew(self._topic)
        if not first <= offset <= end:
            accepted = self._source.kafka.begin_at.get(self._number, -1)
            if not first <= accepted <= end:
                raise self._gone(offset, first, end)
            _log.error("%s, partition %d: %d is gone, goes on at %d", self._topic, self._number, offset, accepted)
            offset = accepted
        self._consumer.assign([TopicPartition(self._topic, self._number, offset)])
        return offset

    def _gone(self, offset: int, first: int, end: int) -> TopicOffsetGone:
        place = f"Kafka topic `{self._topic}`, partition {self._number}: offset {offset} is wanted"
        if offset > end:
            return TopicOffsetGone(
                f"{place}, but the partition ends at {end}: the brokers lost messages that were read\n"
                "hint: restore the topic, or see “An offset is gone” in docs/kafka.md;"
                f" {BEGIN_AT}={self._number}:{end} goes on with what comes next"
            )
        return TopicOffsetGone(
            f"{place}, but the earliest is {first}: {first - offset} offsets are gone and were never read\n"
            "hint: raise the topic's retention.ms, and see “An offset is gone” in docs/kafka.md;"
            f" {BEGIN_AT}={self._number}:{first} goes on without them"
        )

    def next_batch(self) -> list[RawBatch]:
        source = self._source
        if source.stopping.is_set():
            raise StopIteration
        if source.trouble is not None:
            raise source.trouble
        if self._look_again_at and time.monotonic() >= self._look_again_at:
            self._look_again_at = 0.0
            self._consumer.assign([TopicPartition(self._topic, self._number, self._position)])
        messages = self._consumer.consume(self._count, timeout=0)
        if any(map(Message.error, messages)):
            messages = self._without_errors(messages)
        elif messages:
            self._at_end = False
        self._idle = not messages
        if not messages:
            if self._at_end:
                self._lag.read_all()
                if source.drain:
                    raise StopIteration
            return []
        self._move(messages)
        segments = segments_of(messages)
        self._lag.read(segments[-1].received_us / 1_000_000)
        size = sum([len(segment.blob) for segment in segments])
        self._count = max(1, min(MESSAGES_MAX, source.batch_bytes * len(messages) // max(size, 1)))
        return [RawBatch(source.control_head(), segments)]

    @property
    def at_end(self) -> bool:
        """Whether there was nothing more to read the last time."""
        return self._at_end

    def _move(self, messages: list[Message]) -> None:
        last = messages[-1].offset()
        assert last is not None, "a message that was consumed has an offset"
        if last - self._position >= len(messages) and not self._jumped:
            self._jumped = True
            _log.warning(
                "%s, partition %d: offsets jump between %d and %d, as transactional producers make them;"
                " where there are none, records were deleted or compacted before they were rated",
                self._topic,
                self._number,
                self._position,
                last,
            )
        self._position = max(last + 1, self._position)

    def _without_errors(self, found: list[Message]) -> list[Message]:
        """The messages only. What is no passing trouble is raised."""
        messages = []
        for message in found:
            error = message.error()
            self._at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
            if error is None:
                messages.append(message)
            elif self._at_end:
                # The end may lie beyond the last message: markers of transactions have offsets too.
                self._position = max(message.offset() or 0, self._position)
            elif error.code() in GONE:
                raise self._gone(self._position, *watermarks(self._consumer, self._topic, self._number))
            elif error.code() in UNKNOWN:
                # A broker that just came up may not know what it has. Whether the topic is gone, `_watch` finds out.
                _log.warning("%s, partition %d is not there for the moment", self._topic, self._number)
                self._look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
            elif error.fatal() or not error.retriable():
                raise unavailable(error)
            else:
                _log.warning("%s, partition %d: %s", self._topic, self._number, error.name())
        return messages

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + IDLE if self._idle else None

    def snapshot(self) -> Resume:
        # That there is another epoch means that the last one is durable.
        self._durable, self._snapshotted = self._snapshotted, self._position
        self._mirror()
        self._tell_lag()
        return self._position, self._source.topic_id

    def _mirror(self) -> None:
        """Tell the consumer group how far the ledger is, for tools that watch lag, again until it has taken it."""
        if self._durable is not None and self._durable != self._mirrored:
            self._consumer.commit(offsets=[TopicPartition(self._topic, self._number, self._durable)], asynchronous=True)

    def _tell_lag(self) -> None:
        # Of what was fetched, so no broker is asked.
        known = self._consumer.get_watermark_offsets(TopicPartition(self._topic, self._number), cached=True)
        if known is not None and known[1] >= 0:
            self._lag.messages(max(known[1] - self._position, 0))

    def _told(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        if error is not None:
            self._source.not_mirrored(error)
        else:
            self._mirrored = offsets[0].offset

    def close(self) -> None:
        self._source.ended[self._number] = self._position
        self._lag.close()
        self._consumer.close()


class KafkaSource(FixedPartitionedSource[RawBatch, Resume]):
    """
    All partitions of the topic of usage events.

    Args:
        kafka: Where the brokers are, and the topic.
        redis_url: Of the Redis that has the head of the control log, so that what was set up before an event holds.
        batch_bytes: About how much to read at a time.
        stopping: Set to end the flow: from outside, or here, when there are new partitions.
        drain: End at the end of each partition instead of waiting for more.
    """

    def __init__(
        self, kafka: KafkaSettings, redis_url: str, batch_bytes: int, stopping: Event, drain: bool = False
    ) -> None:
        self.kafka = kafka
        self.topic = kafka.topic_events
        self.batch_bytes = batch_bytes
        self.stopping = stopping
        self.drain = drain
        self.ended: dict[int, int] = {}
        """Where partitions were left that ended."""
        self._redis = redis.Redis.from_url(redis_url)
        self._admin = admin(kafka)
        self._refused_commit = False
        self.trouble: Exception | None = None
        """What was found wrong with the topic while it was read."""
        self._added: tuple[int, int] | None = None
        self._closed = Event()
        self._watching: Thread | None = None

    @property
    def step_id(self) -> str:
        """Public, since recovery knows it. Another topic is another step: it has offsets of its own."""
        return "kafka-" + self.topic.replace(".", "_")

    @property
    def beginning(self) -> Resume:
        """What a partition resumes from that has to be read from its very first message; once parts are listed."""
        return 0, self.topic_id

    def list_parts(self) -> list[str]:
        count = partitions_of(self._admin, self.topic)
        if compacted(self._admin, self.topic):
            raise TopicUnfit(
                f"Kafka topic `{self.topic}` is compacted: usage that is not the newest of its key may be gone\n"
                "hint: set its cleanup.policy to delete"
            )
        self.topic_id = topic_id(self._admin, self.topic)
        if self._watching is None:
            self._watching = Thread(target=self._watch, args=(count,), name="kafka-partitions", daemon=True)
            self._watching.start()
        return [f"{self.topic}-{number:03}" for number in range(count)]

    def build_part(self, step_id: str, for_part: str, resume_state: Resume | None) -> KafkaPartition:
        return KafkaPartition(self, int(for_part.rpartition("-")[2]), resume_state)

    def control_head(self) -> int:
        """The entry of the control log that events read by now may rely on. Raises `redis.RedisError`."""
        head: Any = self._redis.get(CONTROL_HEAD)
        return int(head or 0)

    def not_mirrored(self, error: KafkaError) -> None:
        """Say once that offsets can't be mirrored. The flow does without."""
        if not self._refused_commit:
            self._refused_commit = True
            _log.warning("offsets are not mirrored to the consumer group: %s", error.name())

    def _watch(self, known: int) -> None:
        """Look whether the topic is what it was. A broker that does not answer is asked again, and so is a lone no."""
        missing = 0
        while not self._closed.wait(refresh_seconds(self.kafka)):
            try:
                count = partitions_of(self._admin, self.topic)
                if topic_id(self._admin, self.topic) != self.topic_id:
                    self.trouble = _made_anew(self.topic)
                    return
                missing = 0
            except TopicMissing as failure:
                missing += 1
                if missing > 1:
                    self.trouble = failure
                    return
                continue
            except KafkaUnavailable as failure:
                _log.debug("partitions of %s: %s", self.topic, failure)
                continue
            if count > known:
                self._added = (known, count)
                self.stopping.set()
                return

    def finish(self) -> None:
        """
        The flow ended well, so all that was read is durable: mirror that.

        Raises:
            PartitionsAdded: That is why it ended.
        """
        self._mirror_ends()
        if self._added is not None:
            known, count = self._added
            raise PartitionsAdded(
                f"Kafka topic `{self.topic}` has {count} partitions now, {known} of which were read\n"
                "hint: start the dataflow again: it then reads all of them"
            )

    def _mirror_ends(self) -> None:
        if not self.ended:
            return
        client = consumer(self.kafka)
        try:
            offsets = [TopicPartition(self.topic, number, offset) for number, offset in self.ended.items()]
            client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as failure:
            _log.warning("offsets are not mirrored to the consumer group: %s", failure.args[0].name())
        finally:
            client.close()

    def close(self) -> None:
        """End what watches the topic."""
        self._closed.set()
        if self._watching is not None:
            self._watching.join()
        self._redis.close()
