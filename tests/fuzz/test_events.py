"""
Events that are nearly right, by HTTP, from Kafka and from files: each ends, and nothing else does.

`FUZZ_EVENTS` and `FUZZ_SEED` in the environment make for a longer, or another, run: `make fuzz`.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.kafka import KafkaSettings
from dataflows.engine import run_engine
from dataflows.sources.kafka_events import lines_of
from sinks.metrics import events_total
from tests.api.fuzzing import Sent
from tests.api.service import api_process
from tests.api.test_fuzz import Line
from tests.conftest import Stores
from tests.engine_runs import query, write_records
from tests.fuzz.mutations import CUSTOMERS, body, line, message, start_of
from tests.fuzz.turns import Turns, say
from tests.kafka.records import send
from tests.kafka.runs import world

EVENTS = int(os.environ.get("FUZZ_EVENTS", "6000"))
SEED = int(os.environ.get("FUZZ_SEED", "20260302"))
ROUND = 50_000
"""So many are sent before the dataflow reads them, so that no more lie on disk at a time."""
TURN_SECONDS_MAX = 0.25
LANE_CHECK_EVENTS = 100_000
"""As in an installation. What fails at an event is a dead letter then, which is looked for below."""

SINGLE = ("content-type", "application/cloudevents+json")
MANY = ("content-type", "application/cloudevents-batch+json")


def ended() -> Counter[tuple[str, str]]:
    """How events ended up to now, in this process."""
    return Counter(
        {
            (sample.labels["end"], sample.labels["reason"]): int(sample.value)
            for metric in events_total.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
    )


def drain(stores: Stores, files: list[Path], kafka: KafkaSettings | None) -> Counter[tuple[str, str]]:
    """Run the dataflow in this process to the end of all there is. Returns how events ended."""
    before = ended()
    settings = msgspec.structs.replace(stores.settings, epoch_ms=500, lane_check_events=LANE_CHECK_EVENTS)
    run_engine(settings, stores.redis_url, stores.postgres_dsn, files=files, kafka=kafka, drain=True)
    found = ended()
    found.subtract(before)
    return +found


def check(read: int, ends: Counter[tuple[str, str]], sent: int, what: str, turns: Turns) -> None:
    """Each event read ended, none made the engine fail, and nobody waited long."""
    told: Counter[str] = Counter()
    for (end, _), count in ends.items():
        told[end] += count
    say(f"\n{what}: {sent} sent, {read} read, {dict(told)}; {turns}\n  {dict(ends)}")
    assert sum(ends.values()) == read
    assert ends["rejected", "failed"] == 0
    assert turns.longest < TURN_SECONDS_MAX


def spread(count: int) -> list[int]:
    """So many in rounds."""
    rounds = [ROUND] * (count // ROUND)
    return [*rounds, count % ROUND] if count % ROUND else rounds


def test_a_file_of_them(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line that is not blank is read, whatever it holds."""
    write_records(stores, world("50", "150", customers=CUSTOMERS))
    chance, now, turns = random.Random(SEED), start_of(), Turns(monkeypatch)
    ends: Counter[tuple[str, str]] = Counter()
    read = sent = 0
    path = tmp_path / "usage.jsonl"
    for count in spread(EVENTS // 3):
        text = b"\n".join(line(sent + index, chance, now) for index in range(count))
        sent += count
        read += sum(1 for found in text.split(b"\n") if found.strip(b" \t\r\n"))
        with path.open("ab") as file:
            file.write(text + b"\n")
        ends += drain(stores, [path], None)
        say(f"file: {sent} events, longest turn {turns.longest * 1000:.0f} ms")
    check(read, ends, sent, "file", turns)


def test_bodies_of_them(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is taken as a whole or refused with 400 or 413; what was taken is read."""
    write_records(stores, world("50", "150", customers=CUSTOMERS))
    chance, now, turns = random.Random(SEED + 1), start_of(), Turns(monkeypatch)
    statuses: Counter[int] = Counter()
    ends: Counter[tuple[str, str]] = Counter()
    read = sent = 0
    with api_process(stores) as service, closing(Line(service.url)) as connection:
        for round_ in spread(EVENTS // 3):
            end = sent + round_
            while sent < end:
                if chance.random() < 0.8:
                    count, kind, content = 1, SINGLE, line(sent, chance, now)
                else:
                    count = min(chance.choice((2, 10, 50, 200)), end - sent)
                    kind, content = MANY, body(sent, count, chance, now)
                sent += count
                status, _, said = connection.ask(Sent("POST", "/api/v1/events", content, (kind,)))
                statuses[status] += 1
                assert status in (204, 400, 413), f"{status} {said[:200]!r}: {content[:600]!r}"
                read += count if status == 204 else 0
            ends += drain(stores, [], None)
            say(f"http: {sent} events, {dict(statuses)}, longest turn {turns.longest * 1000:.0f} ms")
        assert service.call("GET", "/readyz").status_code == 200
    check(read, ends, sent, f"http, answers {dict(statuses)}", turns)
    assert {reason for end, reason in ends if end == "rejected"}.isdisjoint({"malformed", "invalid_envelope"})


def test_messages_of_them(stores: Stores, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In structured, binary and batch mode: each message is one event at least, and ends."""
    write_records(stores, world("50", "150", customers=CUSTOMERS))
    chance, now, turns = random.Random(SEED + 2), start_of(), Turns(monkeypatch)
    ends: Counter[tuple[str, str]] = Counter()
    read = sent = 0
    for round_ in spread(EVENTS // 3):
        found: list[tuple[bytes | None, bytes | None, Any]] = []
        end = sent + round_
        while sent < end:
            made, count = message(sent, chance, now)
            sent += count
            lines = lines_of(made.value, list(made.headers))
            assert all(one.strip() and b"\n" not in one for one in lines)
            assert lines
            read += len(lines)
            found.append((str(sent).encode(), made.value, made.headers))
        send(kafka, found)
        ends += drain(stores, [], kafka)
        say(f"kafka: {sent} events, longest turn {turns.longest * 1000:.0f} ms")
    check(read, ends, sent, "kafka", turns)
    assert query(stores, "select count(*) from dead_letters where reason = 'failed'") == [(0,)]
