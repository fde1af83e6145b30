"""Usage from a topic: what messages may hold, and how far the consumer group is told."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from config.kafka import KafkaSettings
from tests.conftest import Stores
from tests.engine_runs import append, check_ledger, query, wait_for, write_records
from tests.kafka.records import lag, produce, send
from tests.kafka.runs import CUSTOMERS, drain, engine, rated, untidy, usage, world
from tests.waiting import PATIENCE_SECONDS
from tests.world import line

JSON = ("content-type", b"application/json")


def binary(event: dict[str, Any]) -> tuple[bytes, bytes | None, list[tuple[str, bytes]]]:
    """An event in binary mode."""
    names = ("specversion", "id", "source", "type", "subject", "time")
    headers = [("ce_" + name, event[name].encode()) for name in names]
    return event["subject"].encode(), line(event["data"]) if event["data"] else None, [*headers, JSON]


def test_the_ledger_is_the_oracles(stores: Stores, kafka: KafkaSettings) -> None:
    """Events with duplicates and disorder, from a topic with several partitions and from the stream beside it."""
    write_records(stores, world("50", "150"))
    stream = usage(1, 4000)
    produce(kafka, untidy(stream[:3000], 1))
    append(stores, stream[2900:])
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)


def test_a_second_run_goes_on_and_the_group_has_no_lag(stores: Stores, kafka: KafkaSettings) -> None:
    """Offsets come from the recovery store; at the end of a run the consumer group is where the ledger is."""
    write_records(stores, world("500"))
    stream = usage(2, 3000)
    produce(kafka, stream[:2000])
    drain(stores, kafka, batch_bytes=20_000)
    assert lag(kafka) == 0
    produce(kafka, stream[1500:])
    assert lag(kafka) == 1500
    drain(stores, kafka)
    assert lag(kafka) == 0
    check_ledger(stores, stream, CUSTOMERS)


def test_events_come_in_structured_in_binary_and_in_batch_mode(stores: Stores, kafka: KafkaSettings) -> None:
    """Each form comes to the same, numbers to the last digit; an event repeated in another form is a duplicate."""
    write_records(stores, world("50"))
    stream = usage(3, 900)
    structured = ("content-type", b"application/cloudevents+json; charset=UTF-8")
    batch = ("content-type", b"application/cloudevents-batch+json")
    send(kafka, ((event["subject"].encode(), line(event), [structured]) for event in stream[:200]))
    send(kafka, (binary(event) for event in stream[150:400]))
    indented = (json.dumps(json.loads(line(event), parse_float=str), indent=2) for event in stream[400:500])
    send(kafka, ((None, text.encode(), None) for text in indented))
    packs = [stream[start : start + 50] for start in range(500, 900, 50)]
    send(kafka, ((None, b"[\n" + b",\n".join(map(line, pack)) + b"]", [batch]) for pack in packs))
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)
    assert query(stores, "select reason from dead_letters") == []


def test_what_is_no_event_is_kept_and_stops_nothing(stores: Stores, kafka: KafkaSettings) -> None:
    """Each such message is a dead letter with its reason; those before and after it are rated."""
    write_records(stores, world("500"))
    stream = usage(4, 100)
    first = stream[0]
    key, value, headers = binary(first)
    nowhere = [(name, text) for name, text in headers if name != "ce_subject"]
    produce(kafka, stream[:50])
    send(
        kafka,
        [
            (b"k", None, None),
            (b"k", b"", None),
            (b"k", b" \n", None),
            (b"k", b"not\njson", None),
            (b"k", line(first).replace(b'"test"', b'"te\nst"'), None),
            (b"k", b"[]", [("content-type", b"application/cloudevents-batch+json")]),
            (b"k", b"\xff\xfe", None),
            (key, value, nowhere),
            (key, b'{"a": 1}, "subject": "s0a"', headers),
            (key, value, [*headers, ("ce_id", b"\xff")]),
            (key, b"\x00\x01", [*headers, ("ce_id", b"other")]),
        ],
    )
    produce(kafka, stream[50:])
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)
    expected = {("invalid_envelope", "$"): 3, ("invalid_envelope", "$.data"): 2, ("invalid_envelope", "$.subject"): 1}
    assert Counter(query(stores, "select reason, path from dead_letters")) == expected | {("malformed", "$"): 5}


def test_an_event_without_a_time_has_that_of_its_message(stores: Stores, kafka: KafkaSettings) -> None:
    """The broker stamps messages as it takes them; reading them again gives the same instants."""
    write_records(stores, world("500"))
    stream = [{name: text for name, text in event.items() if name != "time"} for event in usage(5, 200)]
    produce(kafka, stream)
    drain(stores, kafka)
    check_ledger(stores, [event | {"time": datetime.now(UTC).isoformat()} for event in stream], CUSTOMERS)


def test_sigterm_stops_cleanly_and_the_lag_is_told_while_it_runs(stores: Stores, kafka: KafkaSettings) -> None:
    """Exit code 0; offsets are mirrored an epoch after they were read, and the rest at the end."""
    write_records(stores, world("500"))
    stream = usage(6, 2000)
    with engine(stores, kafka) as process:
        produce(kafka, stream[:1000])
        wait_for(lambda: rated(stores) == 1000, "the events")
        wait_for(lambda: lag(kafka) == 0, "the consumer group")
        produce(kafka, stream[1000:])
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    behind = lag(kafka)
    drain(stores, kafka)
    assert 0 <= behind <= 1000
    check_ledger(stores, stream, CUSTOMERS)
