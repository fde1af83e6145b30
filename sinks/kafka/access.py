"""The topic of access as a whole: what it says of everybody, and those who are taken out of it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec
from msgspec import Struct

from config.kafka import KafkaSettings
from sinks.kafka.deliver import Delivery
from sinks.kafka.sent import read_back

CHUNK = 1000


class AccessRow(Struct, frozen=True):
    """What the topic says of a customer."""

    customer_id: str
    access: str
    live: str
    revision: int
    generation: int = 0


_decode = msgspec.json.Decoder(AccessRow).decode


def newest_access(kafka: KafkaSettings) -> dict[str, AccessRow]:
    """
    The newest row of each customer, by its key.

    Raises:
        KafkaUnavailable: The brokers do not answer.
        TopicMissing: The topic is not there.
    """
    rows: dict[str, AccessRow] = {}
    for message in read_back(kafka, kafka.topic_access, {}):
        key, value = (message.key() or b"").decode(errors="replace"), message.value()
        if value is None:
            rows.pop(key, None)
            continue
        try:
            rows[key] = _decode(value)
        except msgspec.MsgspecError:  # somebody else's message
            continue
    return rows


def forget_access(kafka: KafkaSettings, nobodys: Callable[[Collection[str]], set[str]]) -> list[str]:
    """
    Send a null for each customer's key of the topic of access that nobody has.

    Args:
        kafka: Where the brokers are, and the topic.
        nobodys: Of keys, those that no customer of the ledger has.

    Returns:
        The keys.

    Raises:
        KafkaUnavailable: The brokers do not answer.
        TopicMissing: The topic is not there.
        DeliveryFailed: They do not take it.
    """
    keys = sorted(newest_access(kafka))
    delivery = Delivery(kafka)
    forgotten = []
    for start in range(0, len(keys), CHUNK):
        for key in sorted(nobodys(keys[start : start + CHUNK])):
            delivery.send(kafka.topic_access, key.encode(), None)
            forgotten.append(key)
    delivery.flush()
    return forgotten
