"""
The topics that Tollway reads and writes, and how they are made.

Money rests on three of these settings: usage events are never compacted, since each counts; they are stamped by
the broker as it takes them, so that an event's time of receiving is nobody's claim; and access is compacted,
so that a reader finds each customer's newest row however long ago it was written.
"""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]
from msgspec import Struct

from config.kafka import KafkaSettings
from sinks.kafka.client import METADATA_SECONDS, Admin, unavailable

DAY_MS: Final = 86_400_000
PARTITIONS: Final = 12


class Topic(Struct, frozen=True):
    """A topic as it is made."""

    name: str
    purpose: str
    partitions: int
    config: dict[str, str]


class Found(Struct, frozen=True):
    """What became of a topic: `made`, `there` or `differs`, and how an existing one differs."""

    topic: str
    purpose: str
    state: str
    partitions: int
    differences: dict[str, tuple[str, str]]
    """By setting: what is advised, and what was found."""


def wanted(kafka: KafkaSettings, partitions: int = PARTITIONS) -> list[Topic]:
    """The topics that these settings use. Outputs have as many partitions as usage."""
    events = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime", "retention.ms": str(7 * DAY_MS)}
    kept = {"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS)}
    newest = {"cleanup.policy": "compact", "delete.retention.ms": str(DAY_MS), "min.cleanable.dirty.ratio": "0.1"}
    found = [
        Topic(kafka.topic_events, "usage events, in", partitions, events),
        Topic(kafka.topic_signals, "changes of access, thresholds", partitions, kept),
        Topic(kafka.topic_access, "each customer's access", partitions, newest),
        Topic(kafka.topic_charges, "charges", partitions, kept),
        Topic(kafka.topic_dead_letters, "events that were refused", partitions, kept),
    ]
    return [topic for topic in found if topic.name]


def look(client: Admin, topics: list[Topic]) -> list[Found | None]:
    """How each topic is; None where it is not there. Raises `KafkaUnavailable`."""
    there = client.metadata()
    return [
        _found(client, topic, len(there[topic.name].partitions)) if topic.name in there else None for topic in topics
    ]


def make(client: Admin, topics: list[Topic], replication: int) -> list[Found]:
    """
    Make the topics that are not there. Those that are, are left as they are.

    Args:
        client: Of the brokers.
        topics: What is wanted.
        replication: How many copies of each partition there are to be; -1: as the brokers have it.

    Raises:
        KafkaUnavailable: The brokers do not answer, or do not allow it.
    """
    found = look(client, topics)
    missing = [topic for topic, seen in zip(topics, found, strict=True) if seen is None]
    made = {}
    if missing:
        new = [NewTopic(topic.name, topic.partitions, replication, config=topic.config) for topic in missing]
        made = client.create_topics(new, operation_timeout=METADATA_SECONDS)
    for future in made.values():
        try:
            future.result()
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise unavailable(failure.args[0]) from failure
    return [
        seen or Found(topic.name, topic.purpose, "made", topic.partitions, {})
        for topic, seen in zip(topics, found, strict=True)
    ]


def compacted(client: Admin, topic: str) -> bool:
    """Whether a topic drops all but the newest message of a key. False where that may not be asked."""
    try:
        return "compact" in _config(client, topic)["cleanup.policy"]
    except KafkaException:
        return False


def topic_id(client: Admin, topic: str) -> str:
    """The id of a topic, another for each time it is made. Raises `KafkaUnavailable`."""
    try:
        described: Any = client.describe_topics(TopicCollection([topic]), request_timeout=METADATA_SECONDS)[topic]
        return str(described.result().topic_id)
    except KafkaException as failure:
        raise unavailable(failure.args[0]) from failure


def _found(client: Admin, topic: Topic, partitions: int) -> Found:
    try:
        config = _config(client, topic.name)
    except KafkaException:
        config = {}
    differences = {
        name: (advised, config[name]) for name, advised in topic.config.items() if config.get(name, advised) != advised
    }
    return Found(topic.name, topic.purpose, "differs" if differences else "there", partitions, differences)


def _config(client: Admin, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    (future,) = client.describe_configs([resource], request_timeout=METADATA_SECONDS).values()
    return {name: str(entry.value) for name, entry in future.result().items()}
