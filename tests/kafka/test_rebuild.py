"""A recovery store that was lost is made anew, where usage is read from a topic and outcomes go to topics."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

from config.kafka import BEGIN_AT, KafkaSettings
from tests.cluster.test_cluster import children_of, gone
from tests.conftest import Stores
from tests.engine_runs import check_ledger, engine_log, query, wait_for, write_records
from tests.kafka.changes import end_of, let_go
from tests.kafka.records import lag, produce
from tests.kafka.runs import CUSTOMERS, drain, engine, environment, rated, untidy, usage, world
from tests.kafka.test_sinks import check_access, check_charges, check_signals
from tests.waiting import PATIENCE_SECONDS
from tollway.console import BAD_INPUT, OK

COUNT = 9000


def rebuilt(stores: Stores, kafka: KafkaSettings, **more: str) -> subprocess.CompletedProcess[str]:
    """Lose the store, and run `tollway recovery rebuild`."""
    shutil.rmtree(stores.settings.home / "recovery", ignore_errors=True)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables |= environment(kafka) | {
        "TOLLWAY_HOME": str(stores.settings.home),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
    }
    command = [sys.executable, "-m", "tollway", "recovery", "rebuild"]
    return subprocess.run(
        command, env=variables | more, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def test_a_cluster_that_lost_its_store_goes_on(stores: Stores, kafka: KafkaSettings) -> None:
    """Copied as it ran, killed, its disk lost: the oracle's ledger, no lag, each signal once, all topics as Redis."""
    write_records(stores, world("60", "250"))
    stream = usage(83, COUNT)
    sent = untidy(stream, 83)
    with engine(stores, kafka, "--processes", "2", TOLLWAY_RECOVERY_COPY_SECONDS="1") as supervisor:
        produce(kafka, sent[: COUNT // 3])
        wait_for(lambda: query(stores, "select 1 from recovery_copies"), "a copy")
        produce(kafka, sent[COUNT // 3 : COUNT * 2 // 3])
        wait_for(lambda: rated(stores) > COUNT // 2, "a half to be rated")
        pids = children_of(supervisor.pid)
        supervisor.kill()
        os.kill(pids[1], signal.SIGKILL)
        wait_for(lambda: all(map(gone, pids.values())), "all processes to end")
    made = rebuilt(stores, kafka)
    assert made.returncode == OK, made.stderr
    produce(kafka, sent[COUNT * 2 // 3 :])
    with engine(stores, kafka, "--processes", "2") as supervisor:
        wait_for(lambda: rated(stores) == COUNT and lag(kafka) == 0, "all to be rated")
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_SECONDS) == OK, engine_log(stores)
    drain(stores, kafka)
    check_ledger(stores, stream, CUSTOMERS)
    check_signals(stores, kafka)
    check_access(kafka, stores)
    check_charges(kafka, stores)


def test_a_topic_that_lost_what_is_wanted_is_told(stores: Stores, kafka: KafkaSettings) -> None:
    """Without a copy all of the topic is wanted. Going on without what is gone is for the operator to choose."""
    write_records(stores, world("60", "250"))
    stream = usage(84, 1000)
    produce(kafka, stream)
    drain(stores, kafka)
    before = rated(stores)
    let_go(kafka, kafka.topic_events, 1, 10)
    refused = rebuilt(stores, kafka)
    assert refused.returncode == BAD_INPUT
    assert "10 offsets are gone" in refused.stderr
    assert rated(stores) == before == len(stream)
    assert end_of(kafka, kafka.topic_events, 1) > 10
    accepted = rebuilt(stores, kafka, **{BEGIN_AT: "1:10"})
    assert accepted.returncode == OK, accepted.stderr
    assert rated(stores) == 0
    drain(stores, kafka)
    assert rated(stores) == before - 10
