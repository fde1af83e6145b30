"""
Kafka settings: `TOLLWAY_KAFKA_*` environment variables.

`TOLLWAY_KAFKA_BOOTSTRAP_SERVERS` turns Kafka on. The variables in `KAFKA_SETTINGS` are Tollway's own; every
other one is handed to librdkafka, whose name for it has points for underscores: `TOLLWAY_KAFKA_SASL_PASSWORD`
is `sasl.password`. Values may be secrets, so none is ever shown but those of Tollway's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from msgspec import Struct

from config.setting import GOT_CHARACTERS, Setting, SettingError, bad_setting

PREFIX: Final = "TOLLWAY_KAFKA_"
SERVERS: Final = "bootstrap.servers"

FIXED: Final = {
    "auto.offset.reset": "an offset that is gone is an error, never skipped",
    "enable.auto.commit": "offsets are committed once the ledger has what was read",
    "enable.auto.offset.store": "offsets are committed once the ledger has what was read",
    "enable.partition.eof": "the end of a partition is told, so that lag is known",
    "enable.idempotence": "what is sent is neither lost nor repeated by a retry",
    "acks": "what is sent is on all in-sync replicas",
    "request.required.acks": "what is sent is on all in-sync replicas",
    "delivery.report.only.error": "each delivery is waited for",
}
"""What librdkafka's users may choose and Tollway's may not, since exactness rests on it, with the reason."""


class KafkaSettings(Struct, frozen=True, kw_only=True):
    """Where Kafka is, and the topics that are used. An output's topic may be empty: it is then not written."""

    client: dict[str, str]
    """What is handed to librdkafka, by its own names."""
    topic_events: str = "usage.events"
    topic_signals: str = "usage.signals"
    topic_access: str = "usage.access"
    topic_charges: str = "usage.charges"
    topic_dead_letters: str = "usage.dead_letters"
    begin_at: dict[int, int] = {}
    """By partition: the offset to go on at where the one that is wanted is gone."""

    def __repr__(self) -> str:
        topics = (f"{setting.name}={getattr(self, setting.name)!r}" for setting in KAFKA_SETTINGS)
        return f"KafkaSettings({', '.join(topics)}, client=(set: {', '.join(sorted(self.client))}))"


def _topic(name: str, meaning: str, *, is_input: bool = False) -> Setting:
    example = getattr(KafkaSettings(client={}), name)
    return Setting(name, meaning, example, "topic" if is_input else "output", prefix=PREFIX)


KAFKA_SETTINGS: Final = (
    _topic("topic_events", "the topic that usage events are read from", is_input=True),
    _topic("topic_signals", "the topic for changes of access and thresholds; empty: not written"),
    _topic("topic_access", "the compacted topic with each customer's access; empty: not written"),
    _topic("topic_charges", "the topic for charges; empty: not written"),
    _topic("topic_dead_letters", "the topic for events that were refused; empty: not written"),
)


BEGIN_AT: Final = "TOLLWAY_KAFKA_BEGIN_AT"


def _begin_at(text: str) -> dict[int, int]:
    if not re.fullmatch(r"\d{1,6}:\d{1,18}(,\d{1,6}:\d{1,18})*", text):
        hint = "name each partition whose wanted offset is gone, for example 3:25,7:100"
        raise bad_setting(BEGIN_AT, "PARTITION:OFFSET", f"`{text[:GOT_CHARACTERS]}`", hint)
    return {int(partition): int(offset) for partition, offset in (part.split(":") for part in text.split(","))}


def load_kafka(env: Mapping[str, str]) -> KafkaSettings | None:
    """
    Read the Kafka settings from an environment.

    Returns:
        The settings; None where `TOLLWAY_KAFKA_BOOTSTRAP_SERVERS` is not set, nor any other.

    Raises:
        SettingError: A topic's name is none, or a variable can't be chosen, or there are no bootstrap servers.
    """
    texts = {name.removeprefix(PREFIX).lower(): text for name, text in env.items() if name.startswith(PREFIX)}
    if not texts:
        return None
    own: dict[str, Any] = {
        setting.name: setting.parse(texts.pop(setting.name)) for setting in KAFKA_SETTINGS if setting.name in texts
    }
    begin_at = _begin_at(texts.pop("begin_at")) if "begin_at" in texts else {}
    client = {name.replace("_", "."): text for name, text in texts.items()}
    if not client.get(SERVERS):
        nearest = get_close_matches(SERVERS, client, n=1, cutoff=0.8)
        meant = f"did you mean it where `{variable(nearest[0])}` is? " if nearest else ""
        raise SettingError(
            f"`{PREFIX}BOOTSTRAP_SERVERS` is not set, but another `{PREFIX}…` variable is\n"
            f"hint: {meant}name the brokers, for example broker-1:9092,broker-2:9092, or leave Kafka's variables out"
        )
    for name in FIXED.keys() & client.keys():
        raise SettingError(f"`{variable(name)}` can't be chosen: {FIXED[name]}\nhint: leave the variable out")
    return KafkaSettings(client=client, begin_at=begin_at, **own)


def variable(name: str) -> str:
    """The environment variable of one of librdkafka's settings."""
    return PREFIX + name.upper().replace(".", "_")
