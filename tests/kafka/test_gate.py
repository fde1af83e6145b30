"""The gate in a gateway's process: what Redis and the topic say, how old it is, and what holds when it is too old."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import redis

from config.kafka import KafkaSettings
from rating.catalog import Grant
from sinks.kafka.client import admin
from sinks.kafka.topics import make, wanted
from tests.conftest import Stores
from tests.engine_runs import engine_log, visible, wait_for, write_records
from tests.kafka.broker import Broker
from tests.kafka.conftest import settings_at
from tests.kafka.records import client_of, produce, send
from tests.kafka.runs import CUSTOMERS, drain, engine, usage, world
from tests.waiting import PATIENCE_SECONDS
from tests.world import MONTH
from tollway.gate import Gate, Policy, WhenStale, WhenUnknown

ROW = b'{"customer":"c1","access":"%s","reason":"","blocked_features":[%s],"live":"1.5","revision":%d,"as_of":""}'


def row(access: bytes, revision: int, *blocked: bytes) -> tuple[bytes, bytes, None]:
    """A message of the topic of access."""
    return b"c1", ROW % (access, b",".join(b'"%s"' % feature for feature in blocked), revision), None


def test_both_feeds_follow_what_the_engine_decides(stores: Stores, kafka: KafkaSettings) -> None:
    """A block and a top-up arrive in both copies, with the balance; a customer that comes later is found."""
    records = world("5")
    late = [record for record in records if "customer-3" in str(record)]
    write_records(stores, [record for record in records if record not in late])
    with (
        engine(stores, kafka) as process,
        Gate.from_redis(stores.redis_url) as by_redis,
        Gate.from_kafka(client_of(kafka), kafka.topic_access) as by_kafka,
    ):
        gates = (by_redis, by_kafka)
        wait_for(lambda: all(gate.customers >= CUSTOMERS - 1 for gate in gates[1:]), "the customers")
        assert all(gate.wait_until_ready() for gate in gates)
        wait_for(lambda: all(gate.allows("c1", "calls") for gate in gates), "the first balances")
        assert not any(gate.allows("c3") for gate in gates)
        write_records(stores, late)
        wait_for(lambda: all(gate.allows("c3") for gate in gates), "the new customer")
        produce(kafka, usage(41, 1000))
        wait_for(lambda: all(not gate.allows("c1", "calls") for gate in gates), "the block")
        answer = by_redis.ask("c1", "calls")
        assert (answer.allowed, answer.reason) == (False, "no_credit_available")
        assert answer.revision > 0
        assert answer.stale_seconds < 5
        grant = Grant(
            id="top-up",
            customer_id="customer-1",
            amount=Decimal(1_000_000),
            currency="USD",
            effective_at=MONTH,
            created_at=datetime.now(UTC),
        )
        write_records(stores, [grant])
        wait_for(lambda: all(gate.allows("c1", "calls") for gate in gates), "the top-up")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
        wait_for(lambda: by_kafka.ask("c1").live == visible(stores, "c1")["live"], "the balance")
        for customer in range(CUSTOMERS):
            key = f"c{customer}"
            allowed = visible(stores, key)["access"] == "allowed"
            assert [gate.allows(key) for gate in gates] == [allowed, allowed]


def test_an_older_revision_does_not_take_over(kafka: KafkaSettings) -> None:
    """After a crash the engine tells older rows again. Features blocked alone are told apart; a null forgets."""
    with Gate.from_kafka(client_of(kafka), kafka.topic_access) as gate:
        send(kafka, [row(b"allowed", 7, b"images"), row(b"blocked", 6), (b"c2", b"what?", None)], kafka.topic_access)
        wait_for(lambda: gate.customers == 1, "the row")
        assert gate.wait_until_ready()
        assert gate.allows("c1")
        assert gate.allows("c1", "tokens")
        assert not gate.allows("c1", "images")
        assert gate.ask("c1", "images").reason == "no_credit_available"
        send(kafka, [row(b"blocked", 8)], kafka.topic_access)
        wait_for(lambda: not gate.allows("c1"), "the newer row")
        send(kafka, [(b"c1", None, None)], kafka.topic_access)
        wait_for(lambda: gate.customers == 0, "the null")
        assert gate.ask("c1").reason == "unknown_customer"


def test_policies_decide_for_each_feature_what_is_unknown(kafka: KafkaSettings) -> None:
    """Shut by default, open where losing a call costs more than giving one away."""
    with Gate.from_kafka(
        client_of(kafka), kafka.topic_access, policies={"health": Policy(unknown=WhenUnknown.OPEN)}
    ) as gate:
        assert gate.wait_until_ready()
        assert not gate.allows("nobody")
        assert not gate.allows("nobody", "tokens")
        answer = gate.ask("nobody", "health")
        assert (answer.allowed, answer.reason, answer.live) == (True, "unknown_customer", None)


def test_a_copy_whose_broker_is_away_gets_stale_and_recovers(own_broker: Broker) -> None:
    """While stale, each feature is answered as its policy says: as last known, open or closed."""
    kafka = settings_at(own_broker.bootstrap)
    make(admin(kafka), wanted(kafka, partitions=2), replication=1)
    send(kafka, [row(b"blocked", 1)], kafka.topic_access)
    policies = {
        "open": Policy(stale=WhenStale.OPEN, stale_after_seconds=2.5),
        "closed": Policy(stale=WhenStale.CLOSED, stale_after_seconds=2.5),
    }
    with Gate.from_kafka(client_of(kafka), kafka.topic_access, policies=policies) as gate:
        assert gate.wait_until_ready()
        assert [gate.allows("c1", feature) for feature in ("open", "closed", "other")] == [False, False, False]
        own_broker.kill()
        wait_for(lambda: gate.stale_seconds > 2.5, "the copy to get stale")
        assert [gate.allows("c1", feature) for feature in ("open", "closed", "other")] == [True, False, False]
        assert gate.ask("c1", "open").reason == "stale"
        own_broker.start()
        send(kafka, [row(b"allowed", 2)], kafka.topic_access)
        wait_for(lambda: gate.stale_seconds < 2.5 and gate.allows("c1"), "the copy to be fresh")
        assert gate.allows("c1", "closed")


def test_a_gate_without_its_redis_says_so_and_closes(unused_port: int) -> None:
    """It never becomes ready, its copy is infinitely old, and closing it does not hang."""
    gate = Gate.from_redis(f"redis://127.0.0.1:{unused_port}/0", Policy(stale=WhenStale.OPEN))
    assert not gate.wait_until_ready(0.2)
    assert gate.stale_seconds == float("inf")
    assert gate.allows("c1")
    gate.close()
    assert not any(thread.name.startswith("gate-") for thread in threading.enumerate())


def test_a_gate_outlives_lost_connections_to_redis(stores: Stores, kafka: KafkaSettings) -> None:
    """Connections that were cut are made again, and what changed meanwhile is read."""
    write_records(stores, world("5"))
    drain(stores, kafka)
    with Gate.from_redis(stores.redis_url) as gate, redis.Redis.from_url(stores.redis_url) as client:
        assert gate.wait_until_ready()
        assert gate.allows("c1")
        produce(kafka, usage(42, 1000))
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        drain(stores, kafka)
        wait_for(lambda: not gate.allows("c1"), "the block")


def test_an_answer_takes_microseconds(kafka: KafkaSettings) -> None:
    """Ten thousand answers for each of four threads that take turns; on average well below 50 µs even so."""
    send(kafka, [row(b"allowed", 1)], kafka.topic_access)
    with Gate.from_kafka(client_of(kafka), kafka.topic_access) as gate:
        wait_for(lambda: gate.allows("c1"), "the row")
        answered: list[int] = []

        def ask() -> None:
            answered.append(sum(gate.allows("c1", "tokens") for _ in range(10_000)))

        started = time.process_time()  # not what others on this machine take

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answered == [10_000] * 4
        assert (time.process_time() - started) / 10_000 < 50e-6


@pytest.fixture
def unused_port() -> int:
    """A port where nothing listens."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
