"""
What a topic has already: where its partitions ended when an epoch did, and what was sent since.

A sink keeps the ends with its state, so after a crash it can read what was sent in the epoch that was undone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing

from confluent_kafka import KafkaError, Message, TopicPartition

from config.kafka import KafkaSettings
from sinks.kafka.client import admin, consumer, partitions_of, unavailable, watermarks

READ_BACK_SECONDS = 60.0

Ends = list[tuple[int, int]]
"""For partitions of a topic, the offset that the next message will have."""


class SentTo:
    """Takes down where in a topic messages arrived."""

    def __init__(self, ends: Ends) -> None:
        self._ends = dict(ends)

    def arrived(self, message: Message) -> None:
        """A message has a place in the topic."""
        partition, offset = message.partition(), message.offset()
        assert partition is not None, "what arrived has a place"
        assert offset is not None, "what arrived has a place"
        self._ends[partition] = max(self._ends.get(partition, 0), offset + 1)

    @property
    def ends(self) -> Ends:
        """What is sent from now on comes at these offsets or later ones."""
        return sorted(self._ends.items())


def ends_of(kafka: KafkaSettings, topic: str) -> Ends:
    """Where all partitions of a topic end now. Raises `KafkaUnavailable`."""
    with closing(consumer(kafka)) as reader:
        return [(number, watermarks(reader, topic, number)[1]) for number in range(partitions_of(admin(kafka), topic))]


def read_back(kafka: KafkaSettings, topic: str, ends: Mapping[int, int]) -> Iterator[Message]:
    """
    All messages of a topic from given offsets up to where it ends now; those of a partition in their order.

    Args:
        kafka: Where the brokers are.
        topic: The topic.
        ends: The offsets; the first one where a partition is not named.

    Raises:
        KafkaUnavailable: The brokers do not answer.
    """
    with closing(consumer(kafka)) as reader:
        left = []
        for number in range(partitions_of(admin(kafka), topic)):
            first, end = watermarks(reader, topic, number)
            start = ends.get(number, first)
            # A topic that was made anew is shorter than what is remembered of it.
            start = max(start, first) if start <= end else first
            if start < end:
                left.append(TopicPartition(topic, number, start))
        reader.assign(left)
        open_partitions = {at.partition for at in left}
        deadline = time.monotonic() + READ_BACK_SECONDS
        while open_partitions:
            for message in reader.consume(1000, timeout=0.5):
                error = message.error()
                if error is None:
                    yield message
                    deadline = time.monotonic() + READ_BACK_SECONDS
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition() or 0)
                elif not error.retriable():
                    raise unavailable(error)
            if time.monotonic() > deadline:
                raise unavailable(KafkaError(KafkaError._TIMED_OUT))
