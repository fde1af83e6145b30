"""The restore of the operations guide where access is told on a topic too: both kinds of gates follow."""

from __future__ import annotations

from config.kafka import KafkaSettings
from tests.conftest import Stores
from tests.deploy.restoring import AFTER_RESTORE, LATER, agree, drill, tollway, world
from tests.engine_runs import wait_for, write_records
from tests.kafka.records import client_of, read_all, send, values
from tests.kafka.runs import drain
from tests.kafka.test_gate import ROW
from tollway.gate import Gate


def test_both_kinds_of_gates_end_right_after_the_restore_of_the_guide(stores: Stores, kafka: KafkaSettings) -> None:
    """Neither is started again; the topic's newest rows are the ledger's, and a gate that begins now agrees."""
    with (
        Gate.from_redis(stores.redis_url) as by_redis,
        Gate.from_kafka(client_of(kafka), kafka.topic_access) as by_kafka,
    ):
        drill(stores, [by_redis, by_kafka], kafka)
    nulls = [message for message in read_all(kafka, kafka.topic_access) if message.value() is None]
    assert {message.key() for message in nulls} == {LATER.encode()}
    signals = [signal for signal in values(kafka, kafka.topic_signals) if signal["customer"] == LATER]
    assert [(signal["kind"], signal["reason"]) for signal in signals if signal["kind"].startswith("access")] == [
        ("access_blocked", "unknown_customer"),
        ("access_allowed", ""),
    ]
    assert len({signal["generation"] for signal in signals}) == 1
    with Gate.from_kafka(client_of(kafka), kafka.topic_access) as later:
        assert later.wait_until_ready()
        assert agree([later], AFTER_RESTORE | {LATER: True})


def test_a_row_of_an_earlier_generation_does_not_take_over(kafka: KafkaSettings) -> None:
    """Whatever its revision; one of a greater generation does."""

    def row(access: str, revision: int, generation: int) -> tuple[bytes, bytes, None]:
        value = (ROW % (access.encode(), b"", revision))[:-1] + b',"generation":%d}' % generation
        return b"c1", value, None

    with Gate.from_kafka(client_of(kafka), kafka.topic_access) as gate:
        send(kafka, [(b"c1", ROW % (b"blocked", b"", 900), None)], kafka.topic_access)
        wait_for(lambda: gate.customers == 1, "the row without a generation")
        send(kafka, [row("allowed", 3, 5), row("blocked", 901, 4)], kafka.topic_access)
        wait_for(lambda: gate.allows("c1"), "the greater generation")
        send(kafka, [row("blocked", 902, 4), row("allowed", 4, 5)], kafka.topic_access)
        wait_for(lambda: gate.ask("c1").revision == 4, "the next row")
        assert gate.allows("c1")
        assert gate.ask("c1").generation == 5


def test_the_doctor_compares_the_topic(stores: Stores, kafka: KafkaSettings) -> None:
    """A row that somebody else wrote differs, and is named."""
    write_records(stores, world())
    drain(stores, kafka)
    assert tollway(stores, "doctor", "--all", kafka=kafka).returncode == 0
    value = b'{"customer_id":"customer-1","access":"blocked","live":"0","revision":9,"generation":1}'
    send(kafka, [(b"c1", value, None)], kafka.topic_access, partitioner="murmur2_random")
    told = tollway(stores, "doctor", "--all", kafka=kafka)
    assert told.returncode == 1
    assert "c1: generation 1 in the topic" in told.stdout
