"""A cluster across machines, each with a home of its own, as the operations guide and the manifests have it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

import pytest

from dataflows.engine import stream_source
from dataflows.recovery.copies import copy_store
from dataflows.recovery.rebuild import rebuild
from dataflows.recovery.store import FOLDER, PROCESSES, Cluster, RecoveryStoreScattered, recovery_store
from tests.conftest import Stores
from tests.deploy.files import rescale
from tests.engine_runs import append, check_ledger, engine_log, engine_process, write_records
from tests.ports import free_ports
from tests.waiting import PATIENCE_SECONDS
from tests.world import MONTH, NOW, catalog_records, customer_records, events

CUSTOMERS = 20
SHARE = 1000
"""So many events are read between two changes of the number of machines."""


def a_stream(stores: Stores) -> list[dict[str, Any]]:
    """Events of customers with two grants each, who are in the control log."""
    chance = random.Random(11)
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(300), Decimal(chance.randrange(1, 5000))), start=MONTH)
    write_records(stores, records)
    return list(events(chance, 3 * SHARE, CUSTOMERS, MONTH, NOW - MONTH))


def home(stores: Stores, number: int) -> Path:
    """The home folder of a machine."""
    return stores.settings.home / "homes" / str(number)


def kept(stores: Stores, number: int) -> list[str]:
    """The recovery partitions on a machine."""
    return sorted(path.name for path in (home(stores, number) / "recovery").glob("part-*.sqlite3"))


@contextmanager
def machines(stores: Stores, size: int) -> Iterator[list[Popen[bytes]]]:
    """One process on each machine, which read the log to its end."""
    first = free_ports(size)
    addresses = ",".join(f"127.0.0.1:{port}" for port in range(first, first + size))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                engine_process(
                    stores,
                    *("--drain", "--process-id", str(number), "--addresses", addresses),
                    TOLLWAY_HOME=str(home(stores, number)),
                    TOLLWAY_RECOVERY_SHARED="off",
                    TOLLWAY_METRICS_PORT="0",
                )
            )
            for number in range(size)
        ]


def drained_by(stores: Stores, size: int) -> None:
    """Read the log to its end with so many machines."""
    with machines(stores, size) as processes:
        assert [process.wait(PATIENCE_SECONDS) for process in processes] == [0] * size, engine_log(stores)


def moved(stores: Stores, after: int) -> None:
    """Move the partitions as the job for Kubernetes does."""
    data = next(found for found in rescale() if found["kind"] == "ConfigMap")["data"]
    environment = {"PATH": os.environ["PATH"], "HOMES": str(home(stores, 0).parent), "PROCESSES": str(after)}
    subprocess.run(["sh", "-c", data["move.sh"]], env=environment, check=True)


def test_the_number_of_machines_may_change_by_the_steps_of_the_guide(stores: Stores) -> None:
    """From 2 to 3 to 1: every balance is kept, and every event is charged once."""
    stream = a_stream(stores)
    append(stores, stream[:SHARE])
    drained_by(stores, 2)
    check_ledger(stores, stream[:SHARE], CUSTOMERS)
    assert kept(stores, 0) == ["part-0.sqlite3", "part-2.sqlite3"]
    for number, after in enumerate((3, 1), start=1):
        moved(stores, after)
        # The last ones again: their ids are remembered.
        append(stores, [*stream[number * SHARE : (number + 1) * SHARE], *stream[number * SHARE - 100 : number * SHARE]])
        drained_by(stores, after)
        check_ledger(stores, stream[: (number + 1) * SHARE], CUSTOMERS)


def test_homes_that_were_lost_are_made_anew_from_what_each_had_copied(stores: Stores) -> None:
    """Each copied its share; put together in one home, the store is shared out again by the steps of the guide."""
    stream = a_stream(stores)
    append(stores, stream[:SHARE])
    drained_by(stores, 2)
    at = datetime.now(UTC)
    assert [copy_store(home(stores, number) / FOLDER, stores.postgres_dsn, at).parts for number in (0, 1)] == [
        (0, 2),
        (1, 3),
    ]
    append(stores, stream[SHARE : 2 * SHARE])
    drained_by(stores, 2)
    copy_store(home(stores, 1) / FOLDER, stores.postgres_dsn, datetime.now(UTC))  # the other did not come to it
    for number in (0, 1):
        shutil.rmtree(home(stores, number))
    log = stream_source(stores.settings, stores.redis_url, Event(), drain=True)
    made = rebuild(home(stores, 0) / FOLDER, stores.postgres_dsn, {"events": log}, 4)
    assert made.copy is not None
    assert made.copy.copied_at == at
    home(stores, 1).mkdir()
    moved(stores, 2)
    append(stores, stream[2 * SHARE :])
    drained_by(stores, 2)
    check_ledger(stores, stream, CUSTOMERS)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_store_that_was_not_moved_is_refused(tmp_path: Path, before: int, after: int) -> None:
    """By a process that has what belongs to another; nobody makes up for it by an empty one."""
    for number in range(before):
        asked(tmp_path, number, before)
    with pytest.raises(RecoveryStoreScattered, match="move the files"):
        asked(tmp_path, 0, after)
    for number in range(before):
        asked(tmp_path, number, before)


def test_a_partition_that_was_lost_is_not_made_anew(tmp_path: Path) -> None:
    """An empty one would forget a part of the customers. A first start that was cut short is gone on with."""
    asked(tmp_path, 0, 2)
    lost = tmp_path / "0" / "recovery" / "part-2.sqlite3"
    lost.unlink()
    with pytest.raises(RecoveryStoreScattered, match="has 0 of 4 recovery partitions"):
        asked(tmp_path, 0, 2)
    assert not lost.exists()
    (lost.parent / PROCESSES).unlink()
    asked(tmp_path, 0, 2)
    assert lost.exists()


def asked(folder: Path, number: int, size: int) -> None:
    """A machine's process asks for its recovery store."""
    cluster = Cluster(number, tuple("localhost:1" for _ in range(size)))
    recovery_store(folder / str(number), 4, cluster, shared=False)


def test_a_process_says_that_its_store_was_not_moved(stores: Stores) -> None:
    """With exit code 2, which no restart makes better."""
    (home(stores, 0) / "recovery").mkdir(parents=True)
    (home(stores, 0) / "recovery" / "part-1.sqlite3").touch()
    with machines(stores, 2) as processes:
        assert processes[0].wait(PATIENCE_SECONDS) == 2, engine_log(stores)
    assert "process 0 of 2 keeps 0, 2" in engine_log(stores)
