"""
Clients of Kafka as the settings have them.

What librdkafka logs goes to the logger `tollway.kafka`. Nothing here shows the value of a setting: it may be a
password.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, TopicMetadata  # type: ignore[attr-defined]

from config.kafka import KafkaSettings, variable
from config.settings import SettingError

METADATA_SECONDS = 10.0
"""So long brokers may take to say which topics there are."""
OFFSETS_SECONDS = 60.0
"""A broker that comes back knows its topics before it leads their partitions again: so long it is waited for."""
MISSING_SECONDS = 1.0
"""A broker that just came up may not know its topics yet: so long it is asked again."""
RETRY_SECONDS = 0.1
ASK_SECONDS = 2.0
REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL)
"""Errors that waiting does not mend."""

AGAIN_SECONDS = 30.0
"""What librdkafka logs it logs many times a second while a broker is away: the same is let pass so often."""


class _Sparing(logging.Filter):
    """Lets through what was not logged just now, and nothing about settings: consumers are given producers' too."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "CONFWARN" in message:
            return False
        now = time.monotonic()
        self._logged = {known: at for known, at in self._logged.items() if now - at < AGAIN_SECONDS}
        what, _, _ = message.partition(" (after ")
        if what in self._logged:
            return False
        self._logged[what] = now
        return True


_log = logging.getLogger("tollway.kafka")
_log.addFilter(_Sparing())

Client = TypeVar("Client")
OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]

_COMMON = {"client.id": "tollway", "allow.auto.create.topics": "false"}
_CONSUMER = {
    "group.id": "tollway",
    "topic.metadata.refresh.interval.ms": "30000",
    "queued.max.messages.kbytes": "16384",
}
_CONSUMER_FIXED = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    "enable.partition.eof": "true",
}
_PRODUCER = {"linger.ms": "5", "partitioner": "murmur2_random"}
_PRODUCER_FIXED = {"enable.idempotence": "true", "acks": "all"}


class KafkaUnavailable(Exception):
    """No broker answered, or it did not let us in. The next start goes on from the last epoch."""


class TopicMissing(Exception):
    """A topic that is needed is not there: it was never made, or was deleted."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"there is no Kafka topic `{topic}`\nhint: `tollway kafka init` makes the topics, or set its name"
        )


class Admin(AdminClient):
    """A client for topics that gives up at once where the brokers will not let it in, however long it waits."""

    def __init__(self, config: dict[str, Any], logger: logging.Logger) -> None:
        self._refused: KafkaError | None = None
        super().__init__(config | {"error_cb": self._note}, logger=logger)

    def _note(self, error: KafkaError) -> None:
        if error.code() in REFUSED:
            self._refused = error

    def metadata(self, topic: str | None = None) -> dict[str, TopicMetadata]:
        """Topics by name: one, or all. Raises `KafkaUnavailable`."""
        deadline = time.monotonic() + METADATA_SECONDS
        while True:
            try:
                found = self.list_topics(topic, timeout=ASK_SECONDS) if topic else self.list_topics(timeout=ASK_SECONDS)
                return found.topics
            except KafkaException as failure:
                self.poll(0)
                if self._refused is not None or time.monotonic() > deadline:
                    raise unavailable(self._refused or failure.args[0]) from failure


def consumer(kafka: KafkaSettings, on_commit: OnCommit | None = None) -> Consumer:
    """A consumer that is assigned partitions by hand. Raises `SettingError` where librdkafka refuses a setting."""
    config: dict[str, Any] = _COMMON | _CONSUMER | kafka.client | _CONSUMER_FIXED
    return _made(Consumer, kafka, config if on_commit is None else config | {"on_commit": on_commit})


def producer(kafka: KafkaSettings) -> Producer:
    """An idempotent producer. Raises `SettingError` where librdkafka refuses a setting."""
    return _made(Producer, kafka, _COMMON | _PRODUCER | kafka.client | _PRODUCER_FIXED)


def admin(kafka: KafkaSettings) -> Admin:
    """A client for topics. Raises `SettingError` where librdkafka refuses a setting."""
    return _made(Admin, kafka, _COMMON | kafka.client)


def group_of(kafka: KafkaSettings) -> str:
    """The consumer group that offsets are mirrored to."""
    return kafka.client.get("group.id", _CONSUMER["group.id"])


def refresh_seconds(kafka: KafkaSettings) -> float:
    """How often new partitions are looked for."""
    name = "topic.metadata.refresh.interval.ms"
    return max(int(kafka.client.get(name, _CONSUMER[name])), 100) / 1000


def partitions_of(client: Admin, topic: str) -> int:
    """
    How many partitions a topic has.

    Raises:
        TopicMissing: There is no such topic.
        KafkaUnavailable: No broker says.
    """
    missing_at = time.monotonic() + MISSING_SECONDS
    deadline = time.monotonic() + METADATA_SECONDS
    while True:
        found = client.metadata(topic)[topic]
        if found.error is None:
            return len(found.partitions)
        now = time.monotonic()
        if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and now > missing_at:
            raise TopicMissing(topic)
        if now > deadline:
            raise unavailable(found.error)
        time.sleep(RETRY_SECONDS)


def watermarks(client: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """The first offset of a partition, and the one that its next message will have. Raises `KafkaUnavailable`."""
    deadline = time.monotonic() + OFFSETS_SECONDS
    while True:
        try:
            first, end = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=ASK_SECONDS)
        except KafkaException as failure:
            if time.monotonic() > deadline:
                raise unavailable(failure.args[0]) from failure
            time.sleep(RETRY_SECONDS)
        else:
            return first, end


def unavailable(error: KafkaError) -> KafkaUnavailable:
    """What to raise where a broker did not answer as it should; says nothing of addresses."""
    return KafkaUnavailable(
        f"Kafka does not answer ({error.name()})\n"
        "hint: see whether the brokers run, and whether TOLLWAY_KAFKA_… names them and lets us in"
    )


def _made(make: Callable[..., Client], kafka: KafkaSettings, config: dict[str, Any]) -> Client:
    try:
        return make(config, logger=_log)
    except (KafkaException, ValueError, TypeError) as failure:
        said = str(failure)
        names = [name for name in sorted(kafka.client, key=len, reverse=True) if f'"{name}"' in said]
        what = f"Bad setting `{variable(names[0])}`: librdkafka" if names else "Bad Kafka settings: librdkafka"
        known = "knows no such property" if "No such configuration property" in said else "refuses the value"
        raise SettingError(
            f"{what} {known}\nhint: the variable is librdkafka's name of the setting, in capitals and with `_` for `.`"
        ) from None
