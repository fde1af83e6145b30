"""Many writers at once: one grant per key, and entries that become visible in order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier, Event

import psycopg

from rating.catalog import Grant
from tests.control.conftest import World
from tests.plane import Plane
from tests.waiting import let_pass

THREADS = 20
D = Decimal


def test_many_threads_with_one_key_make_one_grant(world: World) -> None:
    """Whether they share a plane or have one each, all are given the same grant."""
    barrier = Barrier(THREADS)

    def grant(number: int) -> Grant:
        if number % 2:
            barrier.wait()
            return world.plane.grant("acme", D(5), key="once")
        with Plane(world.stores.postgres_dsn, world.stores.redis_url) as plane:
            barrier.wait()
            return plane.grant("acme", D(5), key="once")

    before = len(world.log())
    with ThreadPoolExecutor(THREADS) as pool:
        granted = set(pool.map(grant, range(THREADS)))
    assert granted == set(world.plane.list_grants("acme"))
    assert len(granted) == 1
    assert len(world.log()) == before + 1


def test_a_reader_never_finds_a_smaller_id_later(world: World) -> None:
    """Reading the log from the last id seen misses nothing, however writers come together."""
    barrier = Barrier(THREADS)
    written = Event()
    seen: list[int] = []

    def write(number: int) -> None:
        with Plane(world.stores.postgres_dsn, world.stores.redis_url) as plane:
            barrier.wait()
            for turn in range(5):
                with plane.batch():
                    plane.put_customer(f"customer_{number}_{turn}")
                    plane.grant(f"customer_{number}_{turn}", D(1))
                    let_pass(0.002, "so that the others come between")

    def read() -> None:
        query = "select id from control_log where id > %s order by id"
        with psycopg.connect(world.stores.postgres_dsn, autocommit=True) as connection:
            while True:
                last_turn = written.is_set()
                last = seen[-1] if seen else 0
                seen.extend(entry_id for (entry_id,) in connection.execute(query, (last,)))
                if last_turn:
                    return

    with ThreadPoolExecutor(THREADS + 1) as pool:
        reader = pool.submit(read)
        try:
            list(pool.map(write, range(THREADS)))
        finally:
            written.set()
        reader.result()
    everything = [entry_id for (entry_id,) in world.rows("select id from control_log order by id")]
    assert seen == everything
    assert len(seen) == 6 + THREADS * 5 * 2
    assert world.head() == seen[-1]


def test_the_head_is_never_ahead_of_what_can_be_read(world: World) -> None:
    """Whoever reads the head in Redis finds that entry in the log."""
    stop = Event()

    def write() -> None:
        for amount in range(1, 60):
            world.plane.grant("acme", D(amount))
        stop.set()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        with psycopg.connect(world.stores.postgres_dsn, autocommit=True) as connection:
            while not stop.is_set():
                head = world.head()
                found = connection.execute("select coalesce(max(id), 0) from control_log").fetchone()
                assert found is not None
                assert head <= found[0]
        writer.result()


def test_subjects_stay_with_one_customer_among_many_threads(world: World) -> None:
    """Of two customers that claim a subject at the same time, one gets it."""
    barrier = Barrier(2)

    def claim(key: str) -> str:
        with Plane(world.stores.postgres_dsn, world.stores.redis_url) as plane:
            barrier.wait()
            try:
                return plane.put_customer(key, subjects=("contested",)).key
            except Exception as error:
                return type(error).__name__

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(claim, ["globex", "initech"]))
    assert "ControlError" in outcomes
    assert set(outcomes) & {"globex", "initech"}


def test_others_can_read_while_a_batch_is_open(world: World) -> None:
    """Reads of another thread do not wait for the batch, and see what was there before."""
    with ThreadPoolExecutor(1) as pool, world.plane.batch():
        world.plane.grant("acme", D(1))
        assert pool.submit(world.plane.list_grants, "acme").result(timeout=10) == []
    assert len(world.plane.list_grants("acme")) == 1
