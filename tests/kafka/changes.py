"""Changing topics under a flow, as operators and retention do."""

from __future__ import annotations

from contextlib import closing

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from config.kafka import KafkaSettings
from sinks.kafka.client import admin, consumer
from tests.waiting import PATIENCE_SECONDS


def delete_topic(kafka: KafkaSettings, topic: str) -> None:
    """Delete a topic."""
    client = admin(kafka)
    client.delete_topics([topic])[topic].result(PATIENCE_SECONDS)


def add_partitions(kafka: KafkaSettings, topic: str, count: int) -> None:
    """Let a topic have more partitions."""
    client = admin(kafka)
    client.create_partitions([NewPartitions(topic, count)])[topic].result(PATIENCE_SECONDS)


def let_go(kafka: KafkaSettings, topic: str, partition: int, before: int) -> None:
    """Drop what lies before an offset, as retention does."""
    client = admin(kafka)
    at = TopicPartition(topic, partition, before)
    client.delete_records([at])[at].result(PATIENCE_SECONDS)


def end_of(kafka: KafkaSettings, topic: str, partition: int) -> int:
    """The offset that the next message of a partition will have."""
    with closing(consumer(kafka)) as client:
        _, end = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=PATIENCE_SECONDS)
        return end
