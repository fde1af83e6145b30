"""The restore of the operations guide, step by step, ends with the right gate: in Redis, and in gateways' processes."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import Stores
from tests.deploy.restoring import (
    AFTER_RESTORE,
    agree,
    calls,
    drill,
    kinds,
    running,
    stopped,
    tollway,
    top_up,
    world,
)
from tests.deploy.test_backup import copied, database
from tests.engine_runs import append, drain, engine_log, engine_process, query, visible, wait_for, write_records
from tests.waiting import PATIENCE_SECONDS
from tollway.gate import Gate


@pytest.mark.parametrize("arguments", [(), ("--processes", "2")], ids=["one", "cluster"])
def test_the_restore_of_the_guide_ends_with_the_right_gate(stores: Stores, arguments: tuple[str, ...]) -> None:
    """A gate that is open all the while follows without being started again; who changed is signalled once."""
    with Gate.from_redis(stores.redis_url) as gate:
        drill(stores, [gate], None, *arguments)
        assert agree([gate], AFTER_RESTORE | {"c3": True})


def test_the_ledger_alone_that_is_put_back_is_noticed(stores: Stores) -> None:
    """With the recovery store of the same time and no other step: the dataflow sees it, says so, and gates follow."""
    write_records(stores, world())
    append(stores, calls(0, 30, "first"))
    drain(stores)
    copied(stores, database(stores), f"{database(stores)}_backup")
    kept = stores.settings.home / "kept"
    shutil.copytree(stores.settings.home / "recovery", kept)
    write_records(stores, [top_up(0, 1000, "lost")])
    drain(stores)
    with Gate.from_redis(stores.redis_url) as gate:
        wait_for(lambda: agree([gate], {"c0": True}), "the top-up")
        copied(stores, f"{database(stores)}_backup", database(stores))
        shutil.rmtree(stores.settings.home / "recovery")
        kept.rename(stores.settings.home / "recovery")
        with running(stores, None) as process:
            wait_for(lambda: agree([gate], {"c0": False, "c1": True}), "the gate to follow")
            stopped(process, stores)
    assert "all balances are told anew" in engine_log(stores)
    assert kinds(stores, "c0") == ["access_blocked", "access_allowed", "access_blocked"]


def test_a_run_that_failed_for_its_lost_store_does_not_stand_in_the_way(stores: Stores) -> None:
    """It leaves a store without an epoch, which a rebuild takes for none; one with an epoch it does not touch."""
    write_records(stores, world())
    for part in range(3):
        append(stores, calls(0, 10, f"part-{part}"))
        drain(stores)
    assert tollway(stores, "recovery", "copy").returncode == 0
    there = tollway(stores, "recovery", "rebuild")
    assert there.returncode == 2
    assert "there is a recovery store" in there.stderr
    store = stores.settings.home / "recovery"
    shutil.rmtree(store)
    with engine_process(stores) as process:
        assert process.wait(PATIENCE_SECONDS) == 2, engine_log(stores)
    assert any(store.iterdir()), "what a failed start leaves"
    made = tollway(stores, "recovery", "rebuild")
    assert made.returncode == 0, made.stderr
    drain(stores)
    assert query(stores, "select sum(events) from usage_periods") == [(30,)]


def test_a_generation_may_be_raised_by_hand(stores: Stores) -> None:
    """Whatever a gate sees then gives way; nothing is signalled where nothing changed; never under a dataflow."""
    write_records(stores, world())
    append(stores, calls(0, 30, "first"))
    drain(stores)
    first = visible(stores, "c0")
    raised = tollway(stores, "recovery", "raise-generation", "--why", "a drill", "--json")
    assert raised.returncode == 0, raised.stderr
    assert query(stores, "select why from generations order by number")[-1] == ("a drill",)
    drain(stores)
    assert int(visible(stores, "c0")["generation"]) > int(first["generation"])
    assert kinds(stores, "c0") == ["access_blocked"]
    with running(stores, None) as process:
        wait_for(lambda: "The dataflow runs" in engine_log(stores), "the dataflow")
        wait_for(
            lambda: query(stores, "select 1 from pg_locks where locktype = 'advisory'") or process.poll() is not None,
            "the dataflow to hold the ledger",
        )
        refused = tollway(stores, "recovery", "raise-generation")
        assert refused.returncode == 2
        assert "another dataflow" in refused.stderr


def test_a_ledger_put_back_without_the_rebuild_is_refused_before_anything_is_told(stores: Stores) -> None:
    """The start says what to do, twice alike; no generation begins; what it says to do then works."""
    write_records(stores, world())
    append(stores, calls(0, 30, "first"))
    drain(stores)
    assert tollway(stores, "recovery", "copy").returncode == 0
    copied(stores, database(stores), f"{database(stores)}_backup")
    for part in range(2):
        append(stores, calls(0, 10, f"later-{part}"))
        drain(stores)
    copied(stores, f"{database(stores)}_backup", database(stores))
    generations = query(stores, "select count(*) from generations")
    for _ in range(2):
        refused = tollway(stores, "run", "--drain")
        assert refused.returncode == 2, refused.stderr
        assert "usage in between would be missing" in refused.stderr
        assert "move the folder `recovery`" in refused.stderr
        assert "put back the recovery store" in refused.stderr
        assert "nothing is lost" not in refused.stderr
    assert query(stores, "select count(*) from generations") == generations
    (stores.settings.home / "recovery").rename(stores.settings.home / "recovery.away")
    made = tollway(stores, "recovery", "rebuild")
    assert made.returncode == 0, made.stderr
    drain(stores)
    assert query(stores, "select sum(events) from usage_periods") == [(50,)]


def test_recovery_switched_off_on_a_ledger_that_goes_on_is_named_as_the_cause(stores: Stores) -> None:
    """The setting is what to mend, and nothing has begun by then."""
    write_records(stores, world())
    for part in range(2):
        append(stores, calls(0, 10, f"part-{part}"))
        drain(stores)
    generations = query(stores, "select count(*) from generations")
    refused = tollway(stores, "run", "--drain", TOLLWAY_RECOVERY="off")
    assert refused.returncode == 2, refused.stderr
    assert "TOLLWAY_RECOVERY=off" in refused.stderr
    assert query(stores, "select count(*) from generations") == generations


def test_a_ledger_is_not_put_back_under_a_dataflow(stores: Stores) -> None:
    """PostgreSQL's own program is not begun; a list of what a backup holds is shown all the same."""
    write_records(stores, world())
    with running(stores, None) as process:
        wait_for(
            lambda: query(stores, "select 1 from pg_locks where locktype = 'advisory'") or process.poll() is not None,
            "the dataflow to hold the ledger",
        )
        refused = tollway(stores, "postgres", "pg_restore", "--dbname", database(stores), "no-such.dump")
        assert refused.returncode == 2, refused.stderr
        assert "another dataflow" in refused.stderr
        looked = tollway(stores, "postgres", "pg_restore", "--list", "no-such.dump")
        assert "another dataflow" not in looked.stderr
        stopped(process, stores)
