"""
The benchmark: the full durable pipeline, and in the same run the floor.

Floor: a plain loop that decodes the same events and adds them up exactly, by customer and feature. Pipeline:
log → keyed step → Valkey and PostgreSQL, recovery on. Both are one process; the pipeline's servers are counted
apart. Also: the time from handing an event to the log until the signal that blocks its customer is heard.

Run it with `make bench`; `--events`, `--customers`, `--rounds` and `--json` change what it does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import redis

from config.settings import Settings
from rating.catalog import (
    Customer,
    FeatureSet,
    Grant,
    MeterSet,
    Phase,
    PlanVersion,
    RateCard,
    Record,
    SettlementMode,
    Subscription,
    encode_record,
)
from rating.meters import Aggregation, Feature, Meter
from rating.money import use_exact
from rating.prices import Graduated, Pricing, Tier, Unit
from sinks.event_log import EventLog
from sinks.postgres.migrate import migrate
from sinks.redis.keys import SIGNALS
from tollway.embedded import Endpoints, servers, status, stop_servers

FEATURES = ("input_tokens", "output_tokens")
BATCH = 4000
TURNS = 25
"""Events of each customer in the measurement of latency."""
EVENT_COST = Decimal("1.2")
"""What one of them costs: 100 output tokens."""
ROUNDS_OF_FLOOR = 3


def catalog(customers: int, credits_of: Callable[[int], Decimal]) -> list[Record]:
    """Two features, a graduated and a unit price, and prepaid credits for each customer by its number."""
    start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    tiers = (
        Tier(up_to_amount=Decimal(10_000), unit_price=Decimal("0.003")),
        Tier(up_to_amount=None, unit_price=Decimal("0.0015")),
    )
    cards = (
        RateCard(
            key=FEATURES[0],
            feature_key=FEATURES[0],
            pricing=Pricing(price=Graduated(tiers=tiers), currency="USD"),
        ),
        RateCard(
            key=FEATURES[1],
            feature_key=FEATURES[1],
            pricing=Pricing(price=Unit(amount=Decimal("0.012")), currency="USD"),
        ),
    )
    records: list[Record] = []
    for feature in FEATURES:
        meter = Meter(key=feature, event_type=feature, aggregation=Aggregation.SUM, value_property="$.tokens")
        records += [MeterSet(meter), FeatureSet(Feature(key=feature, name=feature, meter_key=feature))]
    mode = SettlementMode.CREDIT_ONLY
    records.append(PlanVersion("pro", 1, "USD", "P1M", (Phase("default", cards),), mode))
    for number in range(customers):
        customer_id = f"01J{number:023}"
        records += [
            Customer(customer_id, f"c{number}", f"Customer {number}", "USD", (f"subject-{number}",)),
            Subscription(f"S{customer_id}", customer_id, "pro", 1, start, start, start, settlement_mode=mode),
            Grant(f"G{customer_id}", customer_id, credits_of(number), "USD", start, start),
        ]
    return records


def make_events(count: int, customers: int) -> list[bytes]:
    """Events of about 200 bytes, customers and features in no order, all within the present day."""
    start = datetime.now(UTC) - timedelta(minutes=10)
    lines = []
    for number in range(count):
        mixed = number * 2654435761 % 2**32
        event = {
            "specversion": "1.0",
            "id": f"{mixed:08x}-{number:012x}",
            "source": "/bench/gateway-1",
            "type": FEATURES[mixed & 1],
            "subject": f"subject-{(mixed >> 3) % customers}",
            "time": (start + timedelta(microseconds=number * 300)).isoformat(),
            "data": {"model": "large-2", "tokens": 50 + mixed % 400, "region": "eu"},
        }
        lines.append(msgspec.json.encode(event))
    return lines


class _FloorData(msgspec.Struct, gc=False):
    tokens: int


class _FloorEvent(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: _FloorData


def floor(lines: list[bytes]) -> tuple[float, float]:
    """Decode and add up. Returns wall and CPU seconds."""
    blobs = [b"\n".join(lines[start : start + 1000]) for start in range(0, len(lines), 1000)]
    decode = msgspec.json.Decoder(_FloorEvent).decode_lines
    totals: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    use_exact()
    wall, cpu = time.perf_counter(), time.process_time()
    for blob in blobs:
        for event in decode(blob):
            totals[event.subject, event.type] += event.data.tokens
    return time.perf_counter() - wall, time.process_time() - cpu


def set_up(home: Path, endpoints: Endpoints, records: list[Record]) -> None:
    """Write a catalog straight into the control log."""
    migrate(endpoints.postgres_dsn)
    with (
        psycopg.connect(endpoints.postgres_dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy("copy control_log (kind, body) from stdin") as copy,
    ):
        for record in records:
            copy.write_row((type(record).__name__, encode_record(record).decode()))


def engine(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The dataflow as a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    environment["TOLLWAY_HOME"] = str(home)
    with (home / "engine.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tollway", "run", *arguments], stdout=log, stderr=log, env=environment
        )


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its living children."""
    total = 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def throughput(count: int, customers: int, rounds: int) -> dict[str, Any]:
    """The whole pipeline over a log that is full, and the floor: medians over rounds of both, one after the other."""
    lines = make_events(count, customers)
    found = [one_round(lines, customers) for _ in range(rounds)]

    def median(name: str) -> float:
        return statistics.median(measured[name] for measured in found)

    ratios = {
        name: sorted(round(measured[name] / measured[f"floor_{name}"], 2) for measured in found)
        for name in ("cpu", "wall")
    }
    return {
        "events": count,
        "customers": customers,
        "rounds": rounds,
        "floor": {
            "events_per_second": round(count / median("floor_wall")),
            "cpu_us_per_event": round(median("floor_cpu") / count * 1e6, 3),
        },
        "pipeline": {
            "events_per_second": round(count / median("wall")),
            "cpu_us_per_event": round(median("cpu") / count * 1e6, 3),
            "servers_cpu_us_per_event": round(median("servers_cpu") / count * 1e6, 3),
            "start_and_stop_seconds": round(median("idle_wall"), 2),
        },
        "ratio_cpu": statistics.median(ratios["cpu"]),
        "ratio_wall": statistics.median(ratios["wall"]),
        "ratios_cpu": ratios["cpu"],
        "ratios_wall": ratios["wall"],
    }


def one_round(lines: list[bytes], customers: int) -> dict[str, float]:
    """Seconds of the floor, and of the pipeline on new servers; the time it takes to start and to stop is left out."""
    count = len(lines)
    floors = [floor(lines) for _ in range(ROUNDS_OF_FLOOR)]
    home = Path(tempfile.mkdtemp(prefix="tollway-bench-"))
    try:
        with servers(Settings(home=home), report=lambda _: None) as endpoints:
            set_up(home, endpoints, catalog(customers, lambda _number: Decimal(1_000_000)))
            log = EventLog(endpoints.redis_url, 4)
            drained(home)  # once, for the recovery store and the accounts to be there
            idle_wall, idle_cpu = drained(home)
            for start in range(0, count, BATCH):
                log.append(lines[start : start + BATCH])
            pids = [server.pid for server in status(home).servers if server.pid]
            before = [cpu_of(pid) for pid in pids]
            wall, cpu = drained(home)
            servers_cpu = sum(cpu_of(pid) for pid in pids) - sum(before)
            with psycopg.connect(endpoints.postgres_dsn) as connection:
                found = connection.execute("select sum(events), sum(usage) from usage_periods").fetchone()
            tokens = sum(msgspec.json.decode(line)["data"]["tokens"] for line in lines)
            assert found == (count, tokens), f"the ledger holds {found}, expected {(count, tokens)}"
    finally:
        stop_servers(home)
        shutil.rmtree(home, ignore_errors=True)
    return {
        "floor_wall": statistics.median(wall_ for wall_, _ in floors),
        "floor_cpu": statistics.median(cpu_ for _, cpu_ in floors),
        "wall": wall - idle_wall,
        "cpu": cpu - idle_cpu,
        "servers_cpu": servers_cpu,
        "idle_wall": idle_wall,
    }


def drained(home: Path) -> tuple[float, float]:
    """Wall and CPU seconds of the engine from its start until it has read the log, and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    assert engine(home, "--drain").wait() == 0, (home / "engine.log").read_text()[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def last_turn(number: int) -> int:
    """Which of its events uses a customer's credits up: spread over the run, as it would be."""
    return 3 + number % (TURNS - 3)


def signal_latency(customers: int, rate: int) -> dict[str, Any]:
    """From handing the event that uses the credits up to the log, until the blocking signal is heard."""
    home = Path(tempfile.mkdtemp(prefix="tollway-bench-"))
    handed_over: dict[str, float] = {}
    heard: dict[str, float] = {}
    try:
        with servers(Settings(home=home), report=lambda _: None) as endpoints:
            set_up(home, endpoints, catalog(customers, lambda number: last_turn(number) * EVENT_COST))
            log = EventLog(endpoints.redis_url, 4)
            process = engine(home)
            client = redis.Redis.from_url(endpoints.redis_url, decode_responses=True)
            while not client.hget(f"tollway:{{c{customers - 1}}}:balance", "access"):
                assert process.poll() is None, (home / "engine.log").read_text()[-2000:]
                time.sleep(0.1)
            over = threading.Event()

            def listen() -> None:
                subscription = client.pubsub()
                subscription.subscribe(SIGNALS)
                while not over.is_set():
                    message = subscription.get_message(ignore_subscribe_messages=True, timeout=0.05)
                    if message is not None:
                        at = time.perf_counter()
                        raised = msgspec.json.decode(message["data"])
                        if raised["kind"] == "access_blocked":
                            heard[raised["customer"]] = at

            listener = threading.Thread(target=listen)
            listener.start()
            time.sleep(0.5)
            total, sent, started = customers * TURNS, 0, time.perf_counter()
            while sent < total:
                due = min(int((time.perf_counter() - started) * rate) + 1, total)
                lines = []
                at = time.perf_counter()
                for number in range(sent, due):
                    customer, turn = number % customers, number // customers
                    if turn + 1 == last_turn(customer):
                        handed_over[f"c{customer}"] = at
                    lines.append(
                        msgspec.json.encode(
                            {
                                "specversion": "1.0",
                                "id": str(number),
                                "source": "/bench",
                                "type": FEATURES[1],
                                "subject": f"subject-{customer}",
                                "time": datetime.now(UTC).isoformat(),
                                "data": {"tokens": 100},
                            }
                        )
                    )
                log.append(lines)
                sent = due
                time.sleep(0.002)
            deadline = time.perf_counter() + 20
            while len(heard) < customers and time.perf_counter() < deadline:
                time.sleep(0.05)
            over.set()
            listener.join()
            process.terminate()
            assert process.wait() == 0
    finally:
        stop_servers(home)
        shutil.rmtree(home, ignore_errors=True)
    assert len(heard) == customers, f"{len(heard)} of {customers} blocking signals were heard"
    spans = sorted((heard[key] - at) * 1000 for key, at in handed_over.items())
    return {
        "events_per_second": rate,
        "signals": len(spans),
        "ingest_to_signal_ms": {
            "p50": round(spans[len(spans) // 2], 1),
            "p99": round(spans[len(spans) * 99 // 100], 1),
            "max": round(spans[-1], 1),
        },
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of floor and pipeline, of which the median counts"
    )
    parser.add_argument("--rate", type=int, default=5_000, help="events a second for the signal latency")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = {
        "throughput": throughput(chosen.events, chosen.customers, chosen.rounds),
        "latency": signal_latency(min(chosen.customers, 2_000), chosen.rate),
    }
    if chosen.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    rates, spans = found["throughput"], found["latency"]
    sys.stdout.write(
        f"{rates['events']:,} events, {rates['customers']:,} customers x {len(FEATURES)} features,"
        f" medians of {rates['rounds']} rounds\n"
        f"  floor     {rates['floor']['events_per_second']:>9,} events/s"
        f"  {rates['floor']['cpu_us_per_event']:>7} us CPU/event\n"
        f"  pipeline  {rates['pipeline']['events_per_second']:>9,} events/s"
        f"  {rates['pipeline']['cpu_us_per_event']:>7} us CPU/event"
        f"  (+ {rates['pipeline']['servers_cpu_us_per_event']} us in Valkey and PostgreSQL)\n"
        f"  ratio     {rates['ratio_wall']} x by time ({rates['ratios_wall'][0]} to {rates['ratios_wall'][-1]}),"
        f" {rates['ratio_cpu']} x by CPU ({rates['ratios_cpu'][0]} to {rates['ratios_cpu'][-1]})\n"
        f"ingest to block signal at {spans['events_per_second']:,} events/s: "
        f"p50 {spans['ingest_to_signal_ms']['p50']} ms, p99 {spans['ingest_to_signal_ms']['p99']} ms"
        f" ({spans['signals']} signals)\n"
    )


if __name__ == "__main__":
    main()
