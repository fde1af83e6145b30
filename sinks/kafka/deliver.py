"""
Sends messages and sees to it that each arrives: no delivery error is swallowed.

A broker that is away is waited for, as long as librdkafka's `delivery.timeout.ms` has it; what then is not
delivered raises, so that the process ends and resumes from its last epoch, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message

from config.kafka import KafkaSettings
from sinks.kafka.client import producer
from sinks.metrics import sink_seconds

Headers: TypeAlias = list[tuple[str, bytes]]
WAIT_SECONDS = 0.2
"""So long the client is waited in at a time: signals are handled in between."""

_HINTS = {
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's max.message.bytes, and TOLLWAY_KAFKA_MESSAGE_MAX_BYTES with it",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "`tollway kafka init` makes the topics",
    KafkaError._UNKNOWN_TOPIC: "`tollway kafka init` makes the topics",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user to write to the topic",
    KafkaError._MSG_TIMED_OUT: "see whether the brokers run and have enough in-sync replicas, then start again",
}


class DeliveryFailed(Exception):
    """A message was not delivered. The process ends; the next start sends it again."""

    def __init__(self, topic: str, error: KafkaError) -> None:
        hint = _HINTS.get(error.code(), "look into the brokers' logs, then start again")
        super().__init__(f"Kafka did not take a message for topic `{topic}` ({error.name()})\nhint: {hint}")


class Delivery:
    """An idempotent producer that keeps what went wrong until somebody looks: at the next `send`, or at `flush`."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = producer(kafka)
        self._failure: DeliveryFailed | None = None

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: Headers | None = None,
        arrived: Callable[[Message], None] | None = None,
    ) -> None:
        """
        Hand a message over, waiting while too many are under way.

        Raises:
            DeliveryFailed: This one can't be sent, or an earlier one did not arrive.
        """

        def told(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failure = self._failure or DeliveryFailed(topic, error)
            elif arrived is not None:
                arrived(message)

        while True:
            self._raise_failure()
            try:
                self._producer.produce(topic, value, key, headers=headers or [], on_delivery=told)  # type: ignore[arg-type]
            except BufferError:
                self._producer.poll(WAIT_SECONDS)
            except KafkaException as failure:
                raise DeliveryFailed(topic, failure.args[0]) from failure
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Return when all has arrived. Raises `DeliveryFailed` where something did not."""
        with sink_seconds.labels("kafka").time():
            while self._producer.flush(WAIT_SECONDS):
                self._raise_failure()
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
