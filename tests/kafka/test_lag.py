"""How far a topic is behind is told to Prometheus, by partition."""

from __future__ import annotations

from functools import partial
from threading import Event

from config.kafka import KafkaSettings
from dataflows.sources.kafka import KafkaPartition, KafkaSource
from sinks.metrics import source_lag_messages, source_lag_seconds
from tests.conftest import Stores
from tests.engine_runs import wait_for
from tests.kafka.records import produce
from tests.kafka.runs import usage
from tests.waiting import let_pass


def lag_messages() -> dict[str, float]:
    """Messages that were not read yet, by partition, as a scrape would find them now."""
    return {one.labels["partition"]: one.value for metric in source_lag_messages.collect() for one in metric.samples}


def lag_seconds() -> dict[str, float]:
    """The same in seconds."""
    return {one.labels["partition"]: one.value for metric in source_lag_seconds.collect() for one in metric.samples}


def reads_to_the_end(part: KafkaPartition) -> bool:
    """Read on. Returns whether that was all."""
    part.next_batch()
    part.snapshot()
    return part._at_end


def test_the_lag_is_what_is_left_to_read(stores: Stores, kafka: KafkaSettings) -> None:
    """Offsets to the end and the age of what was read last; nothing once all is read, and no series after the end."""
    stream = usage(7, 6000)
    produce(kafka, stream)
    let_pass(0.5, "so old are the messages")
    source = KafkaSource(kafka, stores.redis_url, 100_000, Event())
    parts = [source.build_part(source.step_id, name, None) for name in source.list_parts()]
    read = {f"{number:03}": 0 for number in range(4)}
    for name, part in zip(read, parts, strict=True):
        while not read[name]:
            read[name] = sum(segment.blob.count(b"\n") + 1 for batch in part.next_batch() for segment in batch.segments)
        part.snapshot()
    behind = lag_messages()
    assert set(behind) == {"000", "001", "002", "003"}
    assert sum(behind.values()) == len(stream) - sum(read.values()) > 0
    assert all(seconds >= 0.5 for seconds in lag_seconds().values())
    for part in parts:
        wait_for(partial(reads_to_the_end, part), "the end of a partition")
    for part in parts:
        part.next_batch()
    assert set(lag_messages().values()) == {0}
    assert all(seconds < 0.5 for seconds in lag_seconds().values())
    for part in parts:
        part.close()
    source.close()
    assert lag_messages() == lag_seconds() == {}
