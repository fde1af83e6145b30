"""What goes out: access, charges, dead letters and signals say what Redis and the ledger say."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from config.kafka import KafkaSettings
from sinks.kafka.client import TopicMissing, admin
from sinks.kafka.deliver import DeliveryFailed
from sinks.kafka.topics import Topic, make, wanted
from tests.conftest import Stores
from tests.engine_runs import check_ledger, engine_log, query, visible, wait_for, write_records
from tests.kafka.changes import delete_topic
from tests.kafka.conftest import settings_at
from tests.kafka.records import produce, read_all, send, values
from tests.kafka.runs import CUSTOMERS, cause, drain, engine, told, untidy, usage, world
from tests.waiting import PATIENCE_SECONDS, let_pass

CHARGE_KEY = ("customer_id", "subscription_id", "card_key", "period_start", "window_start")


def signals(kafka: KafkaSettings) -> list[dict[str, Any]]:
    """The signals of the topic, in the order of each customer."""
    return values(kafka, kafka.topic_signals)


def check_signals(stores: Stores, kafka: KafkaSettings) -> None:
    """Exactly those that the ledger has, each once, each customer's in their order."""
    found = signals(kafka)
    booked = query(stores, "select id, customer_key, sequence, kind, reason, live::text, revision from signals")
    assert Counter(signal["id"] for signal in found) == Counter(row[0] for row in booked)
    assert {tuple(signal[name] for name in ("id", "customer", "sequence", "kind", "reason")) for signal in found} == {
        row[:5] for row in booked
    }
    assert {(signal["id"], Decimal(signal["live"]), signal["revision"]) for signal in found} == {
        (row[0], Decimal(row[5]), row[6]) for row in booked
    }
    for customer in {signal["customer"] for signal in found}:
        sequences = [signal["sequence"] for signal in found if signal["customer"] == customer]
        assert sequences == list(range(1, len(sequences) + 1))


def check_access(kafka: KafkaSettings, stores: Stores) -> None:
    """The newest row of each customer is what Redis shows."""
    newest = {row["customer"]: row for row in values(kafka, kafka.topic_access)}
    assert len(newest) == CUSTOMERS
    for customer, row in newest.items():
        seen = visible(stores, customer)
        found = {name: str(row[name]) for name in ("access", "reason", "live", "revision", "currency", "customer_id")}
        assert found == {name: seen[name] for name in found}
        assert ",".join(row["blocked_features"]) == seen["blocked_features"]


def check_charges(kafka: KafkaSettings, stores: Stores) -> None:
    """The newest row of each charge is the ledger's; those that were undone have nothing in them."""
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in values(kafka, kafka.topic_charges):
        newest[tuple(row[name] for name in CHARGE_KEY)] = row
    for key in [key for key, row in newest.items() if row.get("undone")]:
        undone = newest.pop(key)
        assert (undone["amount"], undone["credits"], undone["quantity"], undone["events"]) == ("0", "0", "0", 0)
    columns = "customer_id, card_key, period_start, window_start, quantity, amount, credits, uncovered, events"
    booked = query(stores, f"select {columns} from charges")
    amounts = ("quantity", "amount", "credits", "uncovered")
    assert sorted(
        (row["customer_id"], row["card_key"], row["events"], *(Decimal(row[name]) for name in amounts))
        for row in newest.values()
    ) == sorted((row[0], row[1], row[8], *row[4:8]) for row in booked)
    keys = query(stores, "select distinct customer_key from charges join balances using (customer_id)")
    assert {(row["customer"],) for row in newest.values()} == set(keys)


def test_topics_say_what_redis_and_the_ledger_say(stores: Stores, kafka: KafkaSettings) -> None:
    """After a run that blocks many customers, and another that adds to it."""
    write_records(stores, world("50", "150"))
    stream = usage(31, 4000)
    produce(kafka, untidy(stream[:2500], 31))
    drain(stores, kafka)
    assert {"access_blocked", "credits_exhausted"} <= {signal["kind"] for signal in signals(kafka)}
    check_signals(stores, kafka)
    produce(kafka, stream[2500:])
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)
    check_signals(stores, kafka)
    check_access(kafka, stores)
    check_charges(kafka, stores)


def test_a_killed_engine_repeats_no_signal(stores: Stores, kafka: KafkaSettings) -> None:
    """Several kills right after signals went out; in the end each visible transition is in the topic once."""
    chance = random.Random(32)
    write_records(stores, world("100", "400"))
    stream = usage(32, 8000)
    sent = untidy(stream, 32)
    for life in range(3):
        with engine(stores, kafka, TOLLWAY_EPOCH_MS="1500") as process:
            wait_for(lambda: visible(stores, "c0") or process.poll() is not None, "the engine")
            quarter = len(sent) // 4
            produce(kafka, sent[life * quarter : (life + 1) * quarter])
            wait_for(lambda: signals(kafka) or process.poll() is not None, "signals to go out")
            let_pass(chance.random(), "a kill at any moment is right")
            assert process.poll() is None, engine_log(stores)
            process.kill()
            process.wait()
    produce(kafka, sent[3 * (len(sent) // 4) :])
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)
    check_signals(stores, kafka)
    check_access(kafka, stores)
    check_charges(kafka, stores)


def test_a_lost_recovery_store_repeats_no_signal(stores: Stores, kafka: KafkaSettings) -> None:
    """The topic itself says which signals it has."""
    from sinks.kafka.signals import sent_since

    write_records(stores, world("50"))
    produce(kafka, usage(33, 2000))
    drain(stores, kafka)
    assert sent_since(kafka, {}) == {signal["id"] for signal in signals(kafka)} != set()


def test_what_was_refused_goes_to_the_dead_letters(stores: Stores, kafka: KafkaSettings) -> None:
    """As it came, with the reason as headers, by its digest."""
    write_records(stores, world("50"))
    long = b'{"specversion": "1.0", "note": "' + b"x" * 950_000 + b'"}'
    send(kafka, [(b"k", b"not json", None), (b"k", b'{"specversion":"1.0"}', None), (b"k", long, None)])
    drain(stores, kafka)
    found = {message.key(): message for message in read_all(kafka, kafka.topic_dead_letters)}
    assert len(found) == 3
    letter = found[hashlib.sha256(b"not json").hexdigest().encode()]
    assert letter.value() == b"not json"
    headers: Any = dict(letter.headers() or [])
    assert (headers["code"], headers["path"]) == (b"malformed", b"$")
    assert headers["message"].startswith(b"Malformed event")
    cut: Any = dict(found[hashlib.sha256(long).hexdigest().encode()].headers() or [])
    assert cut["cut_from_bytes"] == str(len(long)).encode()
    rows = query(stores, "select reason, raw from dead_letters")
    assert Counter(row[0] for row in rows) == {"malformed": 1, "invalid_envelope": 2}


def test_a_message_that_is_not_taken_ends_the_flow(stores: Stores, bootstrap: str) -> None:
    """The topic takes small messages only: the delivery error is raised, and what was read is read again."""
    kafka = settings_at(bootstrap)
    client = admin(kafka)
    make(client, [Topic(kafka.topic_charges, "", 1, {"max.message.bytes": "120"})], replication=1)
    make(client, wanted(kafka, partitions=2), replication=1)
    write_records(stores, world("300"))
    stream = usage(34, 400)
    produce(kafka, stream)
    with pytest.raises(Exception) as raised:
        drain(stores, kafka)
    assert isinstance(cause(raised.value, DeliveryFailed), DeliveryFailed)
    assert f"Kafka did not take a message for topic `{kafka.topic_charges}` (MSG_SIZE_TOO_LARGE)" in told(raised.value)
    drain(stores, msgspec.structs.replace(kafka, topic_charges=""))
    check_ledger(stores, stream, CUSTOMERS)


def test_an_output_that_is_missing_or_deleted_ends_the_flow(stores: Stores, kafka: KafkaSettings) -> None:
    """At the start, by its name; while it runs, once a message could not be delivered in time."""
    with pytest.raises(Exception) as raised:
        drain(stores, msgspec.structs.replace(kafka, topic_access="nowhere"))
    assert isinstance(cause(raised.value, TopicMissing), TopicMissing)
    write_records(stores, world("300"))
    stream = usage(35, 600)
    produce(kafka, stream[:300])
    with engine(stores, kafka, TOLLWAY_KAFKA_MESSAGE_TIMEOUT_MS="2000") as process:
        wait_for(lambda: values(kafka, kafka.topic_charges), "charges")
        delete_topic(kafka, kafka.topic_charges)
        produce(kafka, stream[300:])
        assert process.wait(PATIENCE_SECONDS) == 3, engine_log(stores)
    assert f"Kafka did not take a message for topic `{kafka.topic_charges}`" in engine_log(stores)
    make(admin(kafka), wanted(kafka, partitions=4), replication=1)
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)
