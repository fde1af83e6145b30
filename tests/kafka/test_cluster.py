"""The whole of it: a topic of twelve partitions, more processes than one, a kill half way, and more processes after."""

from __future__ import annotations

import os
import signal
import threading

from config.kafka import KafkaSettings
from sinks.kafka.client import admin
from sinks.kafka.topics import make, wanted
from tests.cluster.test_cluster import children_of, gone
from tests.conftest import Stores
from tests.engine_runs import check_ledger, engine_log, query, wait_for, write_records
from tests.kafka.conftest import settings_at
from tests.kafka.records import lag, produce
from tests.kafka.runs import engine, rated, untidy, usage, world
from tests.kafka.test_sinks import check_charges, check_signals, signals

COUNT = int(os.environ.get("TOLLWAY_TEST_EVENTS", "40000"))
"""Events in the stream: as many as one likes, by the variable."""
CUSTOMERS = 60
PARTITIONS = 12
PATIENCE_SECONDS = 120 + COUNT / 1000


def test_a_killed_cluster_comes_back_with_more_processes(stores: Stores, bootstrap: str) -> None:
    """Two processes, all of them killed half way, then three: the oracle's ledger, no lag, each signal once."""
    kafka: KafkaSettings = settings_at(bootstrap)
    make(admin(kafka), wanted(kafka, partitions=PARTITIONS), replication=1)
    write_records(stores, world("300", "2500", customers=CUSTOMERS))
    stream = usage(61, COUNT, CUSTOMERS)
    producer = threading.Thread(target=produce, args=(kafka, untidy(stream, 61)))
    with engine(stores, kafka, "--processes", "2", TOLLWAY_EPOCH_MS="1000") as supervisor:
        producer.start()
        wait_for(lambda: rated(stores) > COUNT // 3, "a third to be rated", PATIENCE_SECONDS)
        pids = children_of(supervisor.pid)
        supervisor.kill()
        os.kill(pids[1], signal.SIGKILL)
        wait_for(lambda: all(map(gone, pids.values())), "all processes to end")
    assert rated(stores) < COUNT
    with engine(stores, kafka, "--processes", "3", TOLLWAY_EPOCH_MS="1000") as supervisor:
        wait_for(lambda: rated(stores) == COUNT, "all to be rated", PATIENCE_SECONDS)
        assert len(children_of(supervisor.pid)) == 3
        producer.join()
        wait_for(lambda: lag(kafka) == 0, "the lag to be gone", PATIENCE_SECONDS)
        booked = query(stores, "select count(*) from signals")[0][0]
        wait_for(lambda: len(signals(kafka)) == booked, "the last signals to go out")
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    check_ledger(stores, stream, CUSTOMERS)
    check_signals(stores, kafka)
    check_charges(kafka, stores)
    assert query(stores, "select count(*) from parked_events") == [(0,)]
    assert query(stores, "select count(*) from dead_letters") == [(0,)]
