"""
Signals to Kafka, each once.

A signal has the id of its entry in the signal stream. The sink's state says where each partition of the topic ended
when an epoch did: after a crash the topic is read from there on, and signals that arrived already are not sent
again. So a topic has each visible change of access exactly once, unless a broker takes in what a killed process
had sent only after the next one looked. The key is the customer's, so that its signals keep their order.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import Message
from msgspec import Struct

from config.kafka import KafkaSettings
from sinks.kafka.client import admin, partitions_of
from sinks.kafka.deliver import Delivery
from sinks.kafka.sent import Ends, SentTo, read_back


class _Signal(Struct):
    id: str
    customer: str = ""


_decode = msgspec.json.Decoder(_Signal).decode


def sent_since(kafka: KafkaSettings, ends: dict[int, int]) -> set[str]:
    """
    The ids of signals that are in the topic already.

    Args:
        kafka: Where the brokers are, and the topic.
        ends: From which offset on to look; the first one where a partition is not named.

    Raises:
        KafkaUnavailable: The brokers do not answer.
    """
    return {_id_of(message) for message in read_back(kafka, kafka.topic_signals, ends)}


def _id_of(message: Message) -> str:
    try:
        return _decode(message.value() or b"").id
    except msgspec.MsgspecError:  # somebody else's message
        return ""


class _SignalPartition(StatefulSinkPartition[bytes, Ends]):
    def __init__(self, kafka: KafkaSettings, delivery: Delivery, ends: Ends) -> None:
        self._topic = kafka.topic_signals
        self._delivery = delivery
        self._sent_to = SentTo(ends)
        self._sent = sent_since(kafka, dict(ends))

    def write_batch(self, values: list[bytes]) -> None:
        for lines in values:
            send_signals(self._delivery, self._topic, lines, self._sent, self._sent_to.arrived)

    def snapshot(self) -> Ends:
        self._delivery.flush()
        return self._sent_to.ends


def send_signals(
    delivery: Delivery, topic: str, lines: bytes, sent: set[str], arrived: Callable[[Message], None] | None = None
) -> None:
    """Send signals, given a line each, but for those that were sent. Raises `DeliveryFailed`."""
    for line in lines.split(b"\n"):
        signal = _decode(line)
        if signal.id in sent:
            sent.discard(signal.id)
        else:
            delivery.send(topic, signal.customer.encode(), line, arrived=arrived)


class KafkaSignalSink(FixedPartitionedSink[bytes, Ends]):
    """Sends signals, arrived in `snapshot()`. It has one partition."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.delivery = Delivery(kafka)

    def list_parts(self) -> list[str]:
        partitions_of(admin(self.kafka), self.kafka.topic_signals)
        return ["signals"]

    def part_fn(self, item_key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: Ends | None) -> _SignalPartition:
        return _SignalPartition(self.kafka, self.delivery, resume_state or [])
