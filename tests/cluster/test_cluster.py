"""Several processes of the dataflow share the work, live and die together, and may be more or fewer next time."""

from __future__ import annotations

import os
import random
import signal
import socket
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Stores
from tests.engine_runs import (
    append,
    check_ledger,
    engine_log,
    engine_process,
    query,
    visible,
    wait_for,
    write_records,
)
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, let_pass
from tests.world import MONTH, NOW, catalog_records, customer_records, events
from tollway.commands.engine import _cluster

CUSTOMERS = 40


def children_of(pid: int) -> dict[int, int]:
    """The processes of a cluster, by their number, from the supervisor's id."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            arguments = (stat.parent / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if parent == pid and "--process-id" in arguments:
            found[int(arguments[arguments.index("--process-id") + 1])] = int(stat.parent.name)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def a_stream(stores: Stores, seed: int, count: int) -> list[dict[str, Any]]:
    """Events of customers with two grants each, who are in the control log."""
    chance = random.Random(seed)
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(300), Decimal(chance.randrange(1, 5000))), start=MONTH)
    write_records(stores, records)
    return list(events(chance, count, CUSTOMERS, MONTH, NOW - MONTH))


def rated(stores: Stores) -> int:
    """How many events the ledger has."""
    return int(query(stores, "select coalesce(sum(events), 0) from charges")[0][0])


def has_rated(stores: Stores, count: int) -> bool:
    """Whether the ledger has so many events."""
    return rated(stores) == count


def kill_one_of(pids: dict[int, int], number: int) -> None:
    """Kill one process of a cluster; the others are gone soon after."""
    os.kill(pids[number], signal.SIGKILL)
    wait_for(lambda: all(map(gone, pids.values())), "all to end")


def drained_by(stores: Stores, size: int) -> None:
    """Read the log to its end with so many processes."""
    with engine_process(stores, "--processes", str(size), "--drain") as supervisor:
        assert supervisor.wait(PATIENCE_SECONDS) == 0, engine_log(stores)


def test_one_dead_process_ends_all_and_all_come_back(stores: Stores) -> None:
    """SIGKILL of one process, twice, while events come: the ledger is the oracle's."""
    stream = a_stream(stores, 3, 9000)
    with engine_process(stores, "--processes", "2") as supervisor:
        wait_for(lambda: visible(stores, "c0"), "the first balance")
        for life in range(2):
            append(stores, stream[life * 3000 : life * 3000 + 2000])
            wait_for(lambda: len(children_of(supervisor.pid)) == 2, "both processes")
            kill_one_of(children_of(supervisor.pid), life)
            append(stores, stream[life * 3000 + 2000 : life * 3000 + 3000])
            wait_for(partial(has_rated, stores, life * 3000 + 3000), "all to be rated again")
        append(stores, stream[6000:] + stream[:100])
        wait_for(partial(has_rated, stores, len(stream)), "the rest")
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    assert "begin again from the last epoch" in engine_log(stores)
    drained_by(stores, 2)
    check_ledger(stores, stream, CUSTOMERS)


def test_the_number_of_processes_may_change_between_runs(stores: Stores) -> None:
    """From 1 to 3 to 2 to 1: every balance is kept, and every event is charged once."""
    stream = a_stream(stores, 4, 8000)
    for number, size in enumerate((1, 3, 2, 1)):
        append(stores, stream[number * 2000 : number * 2000 + 2000])
        append(stores, stream[max(number * 2000 - 100, 0) : number * 2000])
        drained_by(stores, size)
        check_ledger(stores, stream[: number * 2000 + 2000], CUSTOMERS)


def test_the_work_is_shared(stores: Stores) -> None:
    """Each process keeps key groups of its own, and writes rows of its own."""
    stream = a_stream(stores, 5, 1000)
    append(stores, stream)
    with engine_process(stores, "--processes", "2") as supervisor:
        wait_for(partial(has_rated, stores, len(stream)), "all to be rated")
        pids = children_of(supervisor.pid)
        with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
            found = connection.execute(
                "select count(*) from pg_stat_activity where application_name = 'tollway-ledger'"
            ).fetchone()
        assert found == (2,)
        assert len(pids) == 2
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    assert all(map(gone, pids.values()))


def test_processes_end_when_their_supervisor_is_killed(stores: Stores) -> None:
    """SIGKILL leaves nobody to tell them; what comes next starts from what they left."""
    stream = a_stream(stores, 6, 3000)
    append(stores, stream[:1500])
    with engine_process(stores, "--processes", "2") as supervisor:
        wait_for(partial(has_rated, stores, 1500), "the first half")
        pids = children_of(supervisor.pid)
        supervisor.kill()
        wait_for(lambda: all(map(gone, pids.values())), "the processes to end")
    append(stores, stream[1500:])
    drained_by(stores, 1)
    check_ledger(stores, stream, CUSTOMERS)


def test_a_process_that_waits_for_the_others_can_be_stopped(stores: Stores) -> None:
    """SIGTERM ends it at once, with exit code 0: it has read nothing."""
    port = free_port()

    def is_taken() -> bool:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return False
        return True

    with engine_process(stores, "--process-id", "0", "--addresses", f"127.0.0.1:{port},127.0.0.1:1") as process:
        wait_for(is_taken, "it to wait for the others, for which it has its port open")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert "were not there yet" in engine_log(stores)


def test_the_port_for_the_others_is_open_on_its_own_address_only(stores: Stores) -> None:
    """On another address of this machine nobody listens."""

    def answers(host: str) -> bool:
        with socket.socket() as asking:
            return asking.connect_ex((host, port)) == 0

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with engine_process(stores, "--process-id", "0", "--addresses", f"127.0.0.1:{port},127.0.0.1:1"):
        wait_for(lambda: answers("127.0.0.1"), "the port")
        assert not answers("127.0.0.2")


def test_a_public_address_for_the_others_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reaches it can do what the dataflow can."""
    for host, warned in (("8.8.8.8", True), ("10.0.0.7", False), ("127.0.0.1", False), ("no-such-host.invalid", False)):
        assert _cluster(0, f"{host}:2101,10.0.0.8:2101") is not None
        assert ("which is public" in " ".join(capsys.readouterr().err.split())) is warned


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.6, 0.8])
def test_a_cluster_can_be_stopped_while_it_starts(stores: Stores, seconds: float) -> None:
    """Some processes may know of the others by then, and some may not: none waits for one that has ended."""
    with engine_process(stores, "--processes", "2") as supervisor:
        wait_for(lambda: len(children_of(supervisor.pid)) == 2, "both processes")
        pids = children_of(supervisor.pid)
        let_pass(seconds, "the moment is what is tested")
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_SECONDS) == 0, engine_log(stores)
    assert all(map(gone, pids.values()))


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_processes_end_when_their_supervisor_is_killed_while_they_start(stores: Stores, seconds: float) -> None:
    """SIGKILL leaves nobody to tell them, and none waits for one that has ended."""
    with engine_process(stores, "--processes", "2") as supervisor:
        wait_for(lambda: len(children_of(supervisor.pid)) == 2, "both processes")
        pids = children_of(supervisor.pid)
        let_pass(seconds, "the moment is what is tested")
        supervisor.kill()
        wait_for(lambda: all(map(gone, pids.values())), "the processes to end")


def test_a_ledger_has_one_dataflow(stores: Stores, tmp_path: Path) -> None:
    """A second one, of another home, is refused: each would take back what the other wrote."""
    stream = a_stream(stores, 7, 200)
    append(stores, stream)
    with engine_process(stores):
        wait_for(partial(has_rated, stores, len(stream)), "all to be rated")
        with engine_process(stores, TOLLWAY_HOME=str(tmp_path / "elsewhere")) as second:
            assert second.wait(PATIENCE_SECONDS) == 2
    assert "another dataflow writes to this ledger" in engine_log(stores)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--processes", "9"], "TOLLWAY_RECOVERY_PARTITIONS"),
        (["--processes", "2", "--process-id", "0"], "--process-id"),
        (["--process-id", "0"], "--addresses"),
        (["--process-id", "2", "--addresses", "a:1,b:2"], "expected 0 to 1"),
        (["--process-id", "0", "--addresses", "a:1,b"], "HOST:PORT"),
        (["--process-id", "0", "--addresses", "0.0.0.0:1,b:2"], "there and nowhere else"),
        (["--process-id", "0", "--addresses", "[::]:1,b:2"], "there and nowhere else"),
    ],
)
def test_what_makes_no_cluster_is_refused(stores: Stores, arguments: list[str], said: str) -> None:
    """With the name of what is wrong, and exit code 2."""
    with engine_process(stores, *arguments) as process:
        assert process.wait(PATIENCE_SECONDS) == 2
    assert said in engine_log(stores)
