"""Sending to topics, and reading them, with clients that are not Tollway's."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from config.kafka import KafkaSettings
from tests.waiting import PATIENCE_SECONDS
from tests.world import line

UNDER_WAY_MAX = 50_000
CLIENT = ("bootstrap.servers", "security.protocol", "sasl.mechanism", "sasl.username", "sasl.password")


def client_of(kafka: KafkaSettings) -> dict[str, str]:
    """How any client reaches the brokers."""
    return {name: kafka.client[name] for name in CLIENT if name in kafka.client}


def produce(kafka: KafkaSettings, stream: Iterable[dict[str, Any]], **config: str) -> None:
    """Send events in structured mode, keyed by subject. Each is acknowledged when this returns."""
    send(kafka, ((event["subject"].encode(), line(event), None) for event in stream), **config)


def send(
    kafka: KafkaSettings,
    messages: Iterable[tuple[bytes | None, bytes | None, list[tuple[str, bytes]] | None]],
    topic: str | None = None,
    **config: str,
) -> None:
    """Send messages: key, value and headers."""
    failed: list[KafkaError] = []
    # As a sender that retries: what the broker took twice is a duplicate for Tollway to find.
    producer = Producer(client_of(kafka) | {"linger.ms": "2"} | {k.replace("_", "."): v for k, v in config.items()})

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    for key, value, headers in messages:
        while len(producer) >= UNDER_WAY_MAX:
            producer.poll(0.01)
        producer.produce(topic or kafka.topic_events, value, key, headers=headers, on_delivery=delivered)  # type: ignore[arg-type]
        producer.poll(0)
    assert producer.flush(PATIENCE_SECONDS) == 0
    assert failed == []


def read_all(kafka: KafkaSettings, topic: str) -> list[Message]:
    """All messages of a topic up to its present end, partition by partition."""
    config: dict[str, Any] = {
        "group.id": "reader",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    }
    found: list[Message] = []
    with closing(Consumer(client_of(kafka) | config)) as consumer:
        partitions = consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        left = set(partitions)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left:
            assert time.monotonic() < deadline, f"{topic} was not read to its end"
            for message in consumer.consume(1000, timeout=0.2):
                error = message.error()
                if error is None:
                    found.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard(message.partition())
    return found


def values(kafka: KafkaSettings, topic: str) -> list[dict[str, Any]]:
    """All messages of a topic whose values are JSON objects."""
    return [msgspec.json.decode(message.value() or b"null") for message in read_all(kafka, topic)]


def lag(kafka: KafkaSettings, group: str | None = None) -> int:
    """How many messages of the topic of events a consumer group is behind, as tools that watch lag count."""
    config = client_of(kafka) | {"group.id": group or kafka.client["group.id"]}
    topic = kafka.topic_events
    with closing(Consumer(config)) as consumer:
        partitions = consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic].partitions
        wanted = [TopicPartition(topic, number) for number in partitions]
        committed = consumer.committed(wanted, timeout=PATIENCE_SECONDS)
        behind = 0
        for at in committed:
            first, end = consumer.get_watermark_offsets(at, timeout=PATIENCE_SECONDS)
            behind += end - (at.offset if at.offset >= 0 else first)
        return behind
