"""`tollway kafka`: topics made once, and told of where they differ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from config.kafka import KafkaSettings
from sinks.kafka.client import admin
from sinks.kafka.topics import Topic, make
from tests.kafka.conftest import settings_at
from tests.kafka.runs import environment
from tests.waiting import PATIENCE_SECONDS


def tollway(kafka: KafkaSettings | None, *arguments: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command line."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables = kept | (environment(kafka) if kafka else {}) | settings
    command = [sys.executable, "-m", "tollway", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, timeout=PATIENCE_SECONDS, check=False)


def states(ended: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """What was printed, by the topic's last name."""
    return {found["topic"].partition(".")[2]: found for found in msgspec.json.decode(ended.stdout)}


def test_init_makes_the_topics_once(bootstrap: str) -> None:
    """The first time they are made, with the settings that money rests on; the second time they are there."""
    kafka = settings_at(bootstrap)
    first = tollway(kafka, "kafka", "init", "--partitions", "6", "--json")
    assert first.returncode == 0, first.stderr
    assert {name: (found["state"], found["partitions"]) for name, found in states(first).items()} == dict.fromkeys(
        ("events", "signals", "access", "charges", "dead_letters"), ("made", 6)
    )
    second = tollway(kafka, "kafka", "init", "--json")
    assert {found["state"] for found in states(second).values()} == {"there"}
    checked = tollway(kafka, "kafka", "check")
    assert checked.returncode == 0
    assert b"usage events, in" in checked.stdout


def test_a_topic_that_is_set_otherwise_is_told_of_and_left(bootstrap: str) -> None:
    """Whoever made it may have had a reason; `check` ends with 1."""
    kafka = settings_at(bootstrap)
    client = admin(kafka)
    make(client, [Topic(kafka.topic_events, "", 2, {"message.timestamp.type": "CreateTime"})], replication=1)
    made = tollway(kafka, "kafka", "init", "--json")
    assert made.returncode == 0
    events = states(made)["events"]
    assert (events["state"], events["partitions"]) == ("differs", 2)
    assert {found["setting"]: (found["advised"], found["found"]) for found in events["differences"]}[
        "message.timestamp.type"
    ] == ("LogAppendTime", "CreateTime")
    assert b"message.timestamp.type is CreateTime, and LogAppendTime is advised" in made.stderr
    assert tollway(kafka, "kafka", "check").returncode == 1


def test_a_topic_that_is_missing_is_found_missing(bootstrap: str) -> None:
    """`check` makes nothing."""
    kafka = settings_at(bootstrap)
    checked = tollway(kafka, "kafka", "check", "--json")
    assert checked.returncode == 1
    assert {found["state"] for found in states(checked).values()} == {"missing"}


def test_bad_settings_are_named_and_their_values_are_not_shown(bootstrap: str) -> None:
    """A property that librdkafka does not know, one that can't be chosen, none at all; and a broker that is away."""
    kafka = settings_at(bootstrap)
    unknown = tollway(kafka, "kafka", "check", TOLLWAY_KAFKA_SASL_PASSWRD="hunter2")
    assert unknown.returncode == 2
    assert b"Bad setting `TOLLWAY_KAFKA_SASL_PASSWRD`: librdkafka knows no such property" in unknown.stderr
    assert b"hunter2" not in unknown.stderr
    value = tollway(kafka, "kafka", "check", TOLLWAY_KAFKA_SECURITY_PROTOCOL="hunter2")
    assert value.returncode == 2
    assert b"Bad setting `TOLLWAY_KAFKA_SECURITY_PROTOCOL`: librdkafka refuses the value" in value.stderr
    assert b"hunter2" not in value.stderr
    fixed = tollway(kafka, "kafka", "check", TOLLWAY_KAFKA_ENABLE_AUTO_COMMIT="true")
    assert fixed.returncode == 2
    assert b"can't be chosen" in fixed.stderr
    none = tollway(None, "kafka", "check")
    assert none.returncode == 2
    assert b"TOLLWAY_KAFKA_BOOTSTRAP_SERVERS" in none.stderr
    stray = tollway(None, "kafka", "check", TOLLWAY_KAFKA_TOPIC_EVENTS="mine")
    assert stray.returncode == 2
    topic = tollway(kafka, "kafka", "check", TOLLWAY_KAFKA_TOPIC_EVENTS="no topic")
    assert topic.returncode == 2
    assert b"expected the name of a topic" in topic.stderr
    place = tollway(kafka, "kafka", "check", TOLLWAY_KAFKA_BEGIN_AT="3-25")
    assert place.returncode == 2
    assert b"expected PARTITION:OFFSET" in place.stderr


def test_brokers_that_are_away_are_said_to_be_away() -> None:
    """The exit code is that of a server that can't be reached."""
    away = tollway(settings_at("127.0.0.1:1"), "kafka", "init")
    assert away.returncode == 3
    assert b"Kafka does not answer" in away.stderr
    assert away.stderr.count(b"Connection refused") == 1, "said once, however often it was tried"


def test_the_doctor_looks_at_the_topics(bootstrap: str, tmp_path: Path) -> None:
    """Missing ones are wrong until they are made; brokers that are away are a server that can't be reached."""
    kafka = settings_at(bootstrap)
    home = {"TOLLWAY_HOME": str(tmp_path / "home")}

    def doctor() -> tuple[int, str]:
        ended = tollway(kafka, "doctor", "--json", **home)
        (found,) = (check["found"] for check in msgspec.json.decode(ended.stdout) if check["check"] == "Kafka")
        return ended.returncode, found

    code, found = doctor()
    assert code == 1
    assert f"missing: {kafka.topic_events}" in found
    assert tollway(kafka, "kafka", "init").returncode == 0
    assert doctor() == (0, "all topics are there")
    kafka = settings_at("127.0.0.1:1")
    assert doctor()[0] == 3
