"""A broker for all tests of the session, and topics of a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import pytest

from config.kafka import KafkaSettings
from sinks.kafka.client import admin
from sinks.kafka.topics import make, wanted
from tests.kafka.broker import RUNNING, Broker, BrokerUnavailable, answers, broker

_numbers = count(os.getpid() * 1000)


@pytest.fixture(scope="session")
def own_broker() -> Iterator[Broker]:
    """A broker that only these tests use, so that it may be stopped."""
    try:
        started = broker()
        with started as found:
            yield found
    except BrokerUnavailable as failure:
        pytest.skip(str(failure))


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Where a broker answers: the one that `TOLLWAY_TEST_KAFKA` names, else one of our own."""
    named = os.environ.get(RUNNING)
    if named:
        assert answers(named), f"{RUNNING} names brokers that do not answer"
        return named
    found: Broker = request.getfixturevalue("own_broker")
    return found.bootstrap


def settings_at(bootstrap: str, **client: str) -> KafkaSettings:
    """Settings with topics, and a consumer group, that nobody else uses."""
    name = f"t{next(_numbers)}"
    own = {"bootstrap.servers": bootstrap, "group.id": name, "socket.timeout.ms": "10000"}
    return KafkaSettings(
        client=own | client,
        topic_events=f"{name}.events",
        topic_signals=f"{name}.signals",
        topic_access=f"{name}.access",
        topic_charges=f"{name}.charges",
        topic_dead_letters=f"{name}.dead_letters",
    )


@pytest.fixture
def kafka(bootstrap: str) -> KafkaSettings:
    """Settings whose topics were made, with four partitions."""
    settings = settings_at(bootstrap)
    make(admin(settings), wanted(settings, partitions=4), replication=1)
    return settings
