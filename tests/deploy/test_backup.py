"""Backup and restore, as the operations guide has them."""

from __future__ import annotations

import random
import shutil
from decimal import Decimal
from threading import Event
from typing import Any

import psycopg
import pytest
from bytewax.errors import BytewaxRuntimeError

from dataflows.engine import stream_source
from dataflows.recovery.copies import copy_store
from dataflows.recovery.rebuild import rebuild
from dataflows.recovery.store import FOLDER
from sinks.postgres.ledger import LedgerOutdated, RecoveryStoreMissing
from tests.conftest import Stores
from tests.engine_runs import append, check_ledger, drain, query, write_records
from tests.world import MONTH, NOW, catalog_records, customer_records, events

CUSTOMERS = 20


def copied(stores: Stores, source: str, target: str) -> None:
    """Make a database the copy of another."""
    with psycopg.connect(stores.postgres_dsn, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"drop database if exists {target} with (force)".encode())
        connection.execute(f"create database {target} template {source}".encode())


def database(stores: Stores) -> str:
    """The name of the ledger's database."""
    return str(psycopg.conninfo.conninfo_to_dict(stores.postgres_dsn)["dbname"])


def backed_up(stores: Stores) -> None:
    """Copy the ledger and the recovery store."""
    copied(stores, database(stores), f"{database(stores)}_backup")
    shutil.copytree(stores.settings.home / "recovery", stores.settings.home / "backup")


def restored(stores: Stores, *, ledger: bool = True, recovery: bool = True) -> None:
    """Put the copies back."""
    if ledger:
        copied(stores, f"{database(stores)}_backup", database(stores))
    if recovery:
        shutil.rmtree(stores.settings.home / "recovery")
        shutil.copytree(stores.settings.home / "backup", stores.settings.home / "recovery")


@pytest.fixture
def stream(stores: Stores) -> list[dict[str, Any]]:
    """Events of customers with two grants each; half of them were rated, then a backup was made, then the others."""
    chance = random.Random(12)
    records: list[Any] = catalog_records()
    for number in range(CUSTOMERS):
        records += customer_records(number, (Decimal(300), Decimal(chance.randrange(1, 5000))), start=MONTH)
    write_records(stores, records)
    found = list(events(chance, 2000, CUSTOMERS, MONTH, NOW - MONTH))
    append(stores, found[:1000])
    drain(stores)
    backed_up(stores)
    for start in range(1000, 2000, 250):
        append(stores, found[start : start + 250])
        drain(stores)
    return found


def test_a_backup_that_was_restored_goes_on_from_the_log(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Ledger and recovery store of one moment; what came after it is read again, and Redis agrees with the ledger."""
    restored(stores)
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_who_came_after_the_backup_is_set_up_again(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """Usage of a customer that the restored ledger does not know waits, and is rated once it does."""
    newcomer = customer_records(CUSTOMERS, (Decimal(300), Decimal(200)), start=MONTH)
    write_records(stores, newcomer)
    stream += [event | {"id": f"new-{event['id']}", "subject": f"s{CUSTOMERS}a"} for event in stream[:50]]
    append(stores, stream[-50:])
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS + 1)
    restored(stores)
    drain(stores)
    assert query(stores, "select reason, count(*) from parked_events group by reason") == [("unknown_subject", 50)]
    write_records(stores, newcomer)
    for _ in range(2):  # what waited is put into the log, and is read the next time
        drain(stores)
    check_ledger(stores, stream, CUSTOMERS + 1)


def test_a_backup_of_the_ledger_alone_has_what_it_takes(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """It has a copy of the recovery store, older than itself: what came after the copy is read again."""
    store = stores.settings.home / FOLDER
    copy_store(store, stores.postgres_dsn, NOW)
    for number in range(2):
        stream += [event | {"id": f"{number}-{event['id']}"} for event in stream[:200]]
        append(stores, stream[-200:])
        drain(stores)
        if number == 0:
            copied(stores, database(stores), f"{database(stores)}_backup")
    restored(stores, recovery=False)
    shutil.rmtree(store)
    log = stream_source(stores.settings, stores.redis_url, Event(), drain=True)
    assert rebuild(store, stores.postgres_dsn, {"events": log}, 4).copy is not None
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_an_old_recovery_store_does_not_fit_a_newer_ledger(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """It is refused, and with its ledger it is as good as before."""
    restored(stores, ledger=False)
    with pytest.raises(BytewaxRuntimeError) as told:
        drain(stores)
    assert isinstance(told.value.__cause__, RecoveryStoreMissing)
    restored(stores)
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)


def test_an_old_ledger_does_not_fit_a_newer_recovery_store(stores: Stores, stream: list[dict[str, Any]]) -> None:
    """What was rated in between would be missing in it: it is refused too, and goes on once both are of one time."""
    restored(stores, recovery=False)
    with pytest.raises(LedgerOutdated):
        drain(stores)
    restored(stores)
    drain(stores)
    check_ledger(stores, stream, CUSTOMERS)
