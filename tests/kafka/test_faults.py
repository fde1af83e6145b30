"""What goes wrong around a topic: engines and brokers killed, offsets gone, topics changed, passwords refused."""

from __future__ import annotations

import random
import subprocess
import threading

import msgspec
import pytest

from config.kafka import KafkaSettings
from dataflows.engine import run_engine
from dataflows.sources.kafka import PartitionsAdded, TopicOffsetGone, TopicUnfit
from sinks.kafka.client import KafkaUnavailable, TopicMissing, admin
from sinks.kafka.topics import make, wanted
from tests.conftest import Stores
from tests.engine_runs import check_ledger, engine_log, query, visible, wait_for, write_records
from tests.kafka.broker import PASSWORD, USER, Broker
from tests.kafka.changes import add_partitions, delete_topic, end_of, let_go
from tests.kafka.conftest import settings_at
from tests.kafka.records import lag, produce, send
from tests.kafka.runs import CUSTOMERS, cause, drain, engine, rated, told, untidy, usage, world
from tests.waiting import PATIENCE_SECONDS, let_pass


def until(process: subprocess.Popen[bytes], stores: Stores, events: int) -> None:
    """Wait until so many events are in the ledger; fail with the engine's log where it ended."""
    wait_for(lambda: rated(stores) >= events or process.poll() is not None, f"{events} events")
    assert process.poll() is None, engine_log(stores)


def test_a_killed_engine_leaves_the_oracles_ledger(stores: Stores, kafka: KafkaSettings) -> None:
    """Two kills at random moments while events keep coming; the third life finds everything."""
    chance = random.Random(21)
    write_records(stores, world("300", "900"))
    stream = usage(21, 9000)
    sent = untidy(stream, 21)
    for life in range(2):
        with engine(stores, kafka) as process:
            wait_for(lambda: visible(stores, "c0") or process.poll() is not None, "the engine")
            third = len(sent) // 3
            for start in range(life * third, (life + 1) * third, 300):
                produce(kafka, sent[start : min(start + 300, (life + 1) * third)])
            let_pass(chance.random() * 0.5, "a kill at any moment is right")
            assert process.poll() is None, engine_log(stores)
            process.kill()
            process.wait()
    produce(kafka, sent[2 * (len(sent) // 3) :])
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)
    assert lag(kafka) == 0


def test_a_broker_that_goes_away_is_waited_for(stores: Stores, own_broker: Broker) -> None:
    """Stopped once and killed once under load, the broker comes back each time, and the flow goes on by itself."""
    kafka = settings_at(own_broker.bootstrap)
    make(admin(kafka), wanted(kafka, partitions=3), replication=1)
    write_records(stores, world("300"))
    stream = usage(22, 6000)

    def send_all() -> None:
        for start in range(0, len(stream), 100):
            produce(kafka, stream[start : start + 100])

    sending = threading.Thread(target=send_all)
    with engine(stores, kafka) as process:
        sending.start()
        until(process, stores, 1000)
        own_broker.stop()
        let_pass(1, "so long is the broker away")
        own_broker.start()
        until(process, stores, 3000)
        own_broker.kill()
        own_broker.start()
        sending.join()
        until(process, stores, 6000)
        wait_for(lambda: lag(kafka) == 0, "the consumer group")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_an_offset_that_is_gone_is_an_error(stores: Stores, kafka: KafkaSettings) -> None:
    """Retention overtook the flow: it says which offset of which partition is wanted, and what is the earliest."""
    write_records(stores, world("300"))
    stream = usage(23, 300)
    send(kafka, ((b"one", b"{}", None) for _ in range(10)))
    drain(stores, kafka)
    send(kafka, ((b"one", b"{}", None) for _ in range(20)))
    partition = next(number for number in range(4) if end_of(kafka, kafka.topic_events, number) == 30)
    produce(kafka, stream)
    let_go(kafka, kafka.topic_events, partition, 25)
    with pytest.raises(Exception) as raised:
        drain(stores, kafka)
    message = told(raised.value)
    assert isinstance(cause(raised.value, TopicOffsetGone), TopicOffsetGone)
    assert f"Kafka topic `{kafka.topic_events}`, partition {partition}: offset " in message
    assert "is wanted, but the earliest is 25" in message
    assert "retention.ms" in message
    assert f"TOLLWAY_KAFKA_BEGIN_AT={partition}:25 goes on without them" in message
    drain(stores, msgspec.structs.replace(kafka, begin_at={partition: 25}))
    check_ledger(stores, stream, CUSTOMERS)
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)


def test_a_topic_that_was_made_anew_is_not_read_on(stores: Stores, kafka: KafkaSettings) -> None:
    """Its offsets mean other messages. Nothing of it is rated."""
    write_records(stores, world("300"))
    produce(kafka, usage(24, 200))
    drain(stores, kafka)
    delete_topic(kafka, kafka.topic_events)
    with pytest.raises(Exception) as raised:
        drain(stores, kafka)
    assert isinstance(cause(raised.value, TopicMissing), TopicMissing)
    assert f"no Kafka topic `{kafka.topic_events}`" in told(raised.value)
    make(admin(kafka), wanted(kafka, partitions=4), replication=1)
    produce(kafka, usage(25, 400))
    with pytest.raises(Exception) as raised:
        drain(stores, kafka)
    assert isinstance(cause(raised.value, TopicUnfit), TopicUnfit)
    assert "was made anew" in told(raised.value)
    assert rated(stores) == 200


def test_a_topic_that_is_deleted_while_it_is_read_ends_the_flow(stores: Stores, kafka: KafkaSettings) -> None:
    """It does not wait for a topic that will not come back."""
    write_records(stores, world("300"))
    produce(kafka, usage(26, 100))
    with engine(stores, kafka, TOLLWAY_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS="200") as process:
        until(process, stores, 100)
        delete_topic(kafka, kafka.topic_events)
        assert process.wait(PATIENCE_SECONDS) == 2
    assert f"no Kafka topic `{kafka.topic_events}`" in engine_log(stores)


def test_a_compacted_topic_is_refused(stores: Stores, kafka: KafkaSettings) -> None:
    """Compaction keeps the newest message of a key, and every event counts."""
    with pytest.raises(Exception) as raised:
        drain(stores, msgspec.structs.replace(kafka, topic_events=kafka.topic_access))
    assert "is compacted" in told(raised.value)


@pytest.mark.parametrize("arguments", [(), ("--processes", "2")], ids=["alone", "cluster"])
def test_partitions_that_are_added_are_read_after_a_new_beginning(
    stores: Stores, kafka: KafkaSettings, arguments: tuple[str, ...]
) -> None:
    """The running process notices, ends its flow cleanly and begins again with all partitions; so does a cluster."""
    write_records(stores, world("300"))
    stream = usage(27, 2000)
    with engine(stores, kafka, *arguments, TOLLWAY_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS="200") as process:
        produce(kafka, stream[:1000])
        until(process, stores, 1000)
        add_partitions(kafka, kafka.topic_events, 6)
        wait_for(lambda: "6 partitions now, 4 of which were read" in engine_log(stores), "the flow to begin again")
        produce(kafka, stream[1000:])
        until(process, stores, 2000)
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    check_ledger(stores, stream, CUSTOMERS)
    assert query(stores, "select count(*) from dead_letters") == [(0,)]


def test_added_partitions_end_a_flow_with_an_exception_of_their_own(stores: Stores, kafka: KafkaSettings) -> None:
    """Whoever supervises several processes learns from it that all are to begin again."""
    client = kafka.client | {"topic.metadata.refresh.interval.ms": "100"}
    eager = msgspec.structs.replace(kafka, client=client)
    timer = threading.Timer(1, add_partitions, (kafka, kafka.topic_events, 5))
    timer.start()
    with pytest.raises(PartitionsAdded):
        run_engine(stores.settings, stores.redis_url, stores.postgres_dsn, kafka=eager)
    timer.join()


def test_settings_for_a_password_reach_the_broker(stores: Stores, own_broker: Broker) -> None:
    """SASL by pass-through; a wrong password ends the start with a message that does not repeat it."""
    secret = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
    }
    kafka = settings_at(own_broker.sasl_bootstrap, **secret)
    make(admin(kafka), wanted(kafka, partitions=2), replication=1)
    write_records(stores, world("300"))
    stream = usage(28, 300)
    produce(kafka, stream)
    with engine(stores, kafka, "--drain") as process:
        assert process.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    check_ledger(stores, stream, CUSTOMERS)
    wrong = msgspec.structs.replace(kafka, client=kafka.client | {"sasl.password": "hunter2hunter2"})
    with pytest.raises(Exception) as raised:
        drain(stores, wrong)
    assert isinstance(cause(raised.value, KafkaUnavailable), KafkaUnavailable)
    assert "Kafka does not answer (_AUTHENTICATION)" in told(raised.value)
    assert "hunter2" not in told(raised.value) + repr(wrong)
