"""A cluster across machines, each with a home of its own: as in Kubernetes, and by the steps of the operations guide."""

from __future__ import annotations

import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from dataflows.recovery import PROCESSES
from tests.conftest import Stores
from tests.engine_runs import append, check_ledger, engine_log, engine_process, write_records
from tests.world import catalog_records, customer_records, events

NOW = datetime.now(UTC).replace(microsecond=0)
MONTH = NOW.replace(day=1, hour=0, minute=0, second=0)
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


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody has, below those that systems give out by themselves."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def home(stores: Stores, number: int) -> Path:
    """The home folder of a machine."""
    return stores.settings.home / f"machine-{number}"


def kept(stores: Stores, number: int) -> list[str]:
    """The recovery partitions on a machine."""
    return sorted(path.name for path in (home(stores, number) / "recovery").glob("part-*.sqlite3"))


@contextmanager
def machines(stores: Stores, size: int) -> Iterator[list[Popen[bytes]]]:
    """One process on each machine, which read the log to its end."""
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(size))
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
        assert [process.wait(60) for process in processes] == [0] * size, engine_log(stores)


def moved(stores: Stores, before: int, after: int) -> None:
    """Do what the guide says: partition N to machine N modulo their number, and write the number down."""
    for number in range(before):
        for name in kept(stores, number):
            place = int(name.removeprefix("part-").removesuffix(".sqlite3")) % after
            if place != number:
                (home(stores, place) / "recovery").mkdir(parents=True, exist_ok=True)
                for path in (home(stores, number) / "recovery").glob(f"{name}*"):
                    shutil.move(path, home(stores, place) / "recovery" / path.name)
    for number in range(after):
        (home(stores, number) / "recovery" / PROCESSES).write_text(f"{after}\n")


def test_the_number_of_machines_may_change_by_the_steps_of_the_guide(stores: Stores) -> None:
    """From 2 to 3 to 1: every balance is kept, and every event is charged once."""
    stream = a_stream(stores)
    append(stores, stream[:SHARE])
    drained_by(stores, 2)
    check_ledger(stores, stream[:SHARE], CUSTOMERS)
    assert kept(stores, 0) == ["part-0.sqlite3", "part-2.sqlite3"]
    for number, (before, after) in enumerate(((2, 3), (3, 1)), start=1):
        moved(stores, before, after)
        # The last ones again: their ids are remembered.
        append(stores, [*stream[number * SHARE : (number + 1) * SHARE], *stream[number * SHARE - 100 : number * SHARE]])
        drained_by(stores, after)
        check_ledger(stores, stream[: (number + 1) * SHARE], CUSTOMERS)


@pytest.mark.parametrize("size", [1, 3])
def test_another_number_of_machines_is_refused_until_the_files_were_moved(stores: Stores, size: int) -> None:
    """With exit code 2 and what to do; nothing was lost by trying."""
    stream = a_stream(stores)[:SHARE]
    append(stores, stream[:500])
    drained_by(stores, 2)
    append(stores, stream[500:])
    with machines(stores, size) as processes:
        assert processes[0].wait(30) == 2, engine_log(stores)
    assert "move the files" in engine_log(stores)
    drained_by(stores, 2)
    check_ledger(stores, stream, CUSTOMERS)


def test_exp(stores: Stores) -> None:
    """exp"""
    stream = a_stream(stores)[:SHARE]
    append(stores, stream[:500])
    drained_by(stores, 2)
    append(stores, stream[500:])
    for number in range(3):
        (home(stores, number) / "recovery").mkdir(parents=True, exist_ok=True)
        (home(stores, number) / "recovery" / PROCESSES).write_text("3\n")
    with machines(stores, 3) as processes:
        print([p.wait(40) for p in processes])
        print(engine_log(stores))
        print([kept(stores, n) for n in range(3)])
        check_ledger(stores, stream, CUSTOMERS)
