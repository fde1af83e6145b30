"""The steps of the operations guide for backup and restore, as one does them: with the command line and processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import redis

from config.kafka import KafkaSettings
from rating.catalog import Grant, Record
from sinks.redis.keys import stream_key
from tests.conftest import Stores
from tests.deploy.test_backup import copied, database
from tests.engine_runs import append, engine_log, engine_process, query, visible, wait_for, write_records
from tests.kafka.runs import environment
from tests.waiting import PATIENCE_SECONDS
from tests.world import MONTH, catalog_records, customer_records
from tollway.gate import Gate

TOPPED_UP, USED_UP, SAME, LATER = "c0", "c1", "c2", "c3"
"""Customers: topped up since the backup; used up since then, by usage that is lost; neither; made since then."""
AFTER_RESTORE = {TOPPED_UP: False, USED_UP: True, SAME: True, LATER: False}
"""Who may go on then."""


def world() -> list[Record]:
    """The customers that are in the backup; the first has little."""
    records: list[Record] = catalog_records()
    for number, credit in enumerate((1, 50, 1_000_000)):
        records += customer_records(number, (Decimal(credit),), start=MONTH)
    return records


def calls(number: int, count: int, name: str) -> list[dict[str, Any]]:
    """Usage of a customer now: 0.5 for ten calls begun."""
    at = datetime.now(UTC).isoformat()
    subject = f"s{number}a"
    return [
        {"specversion": "1.0", "id": f"{name}-{number}-{i}", "source": "drill", "type": "call", "subject": subject}
        | {"time": at, "data": {}}
        for i in range(count)
    ]


def top_up(number: int, amount: int, name: str) -> Grant:
    """A grant of now."""
    return Grant(
        id=name,
        customer_id=f"customer-{number}",
        amount=Decimal(amount),
        currency="USD",
        effective_at=MONTH,
        created_at=datetime.now(UTC),
    )


def tollway(
    stores: Stores, *arguments: str, kafka: KafkaSettings | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in the environment of the dataflow."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables |= environment(kafka) if kafka is not None else {}
    variables |= {
        "TOLLWAY_HOME": str(stores.settings.home),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
    }
    command = [sys.executable, "-m", "tollway", *arguments]
    return subprocess.run(
        command, env=variables | settings, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def running(stores: Stores, kafka: KafkaSettings | None, *arguments: str, **settings: str) -> Any:
    """The dataflow as a process."""
    variables = environment(kafka) if kafka is not None else {}
    return engine_process(stores, *arguments, **variables | settings)


def stopped(process: subprocess.Popen[bytes], stores: Stores) -> None:
    """Stop the dataflow as the guide says."""
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 0, engine_log(stores)


def agree(gates: list[Gate], wanted: dict[str, bool]) -> bool:
    """Whether all gates let the right customers go on."""
    return all(gate.allows(customer, "calls") == allowed for gate in gates for customer, allowed in wanted.items())


def drill(stores: Stores, gates: list[Gate], kafka: KafkaSettings | None, *arguments: str) -> None:
    """
    Block, back up, top up, block another, lose the log of that, make somebody; then restore, step by step.

    Ends with the dataflow stopped and looked at by the doctor.
    """
    backup = f"{database(stores)}_backup"
    write_records(stores, world())
    with running(stores, kafka, *arguments) as process:
        wait_for(lambda: visible(stores, TOPPED_UP) or process.poll() is not None, "the dataflow")
        append(stores, calls(0, 30, "first"))
        wait_for(lambda: agree(gates, {TOPPED_UP: False, USED_UP: True, SAME: True}), "the first block")
        # A copy of the recovery store comes by itself every ten minutes; a backup of PostgreSQL has it.
        wait_for(lambda: tollway(stores, "recovery", "copy").returncode == 0, "a copy")
        stopped(process, stores)
    copied(stores, database(stores), backup)

    with running(stores, kafka, *arguments) as process:
        write_records(stores, [top_up(0, 1000, "lost"), *customer_records(3, (Decimal(50),), start=MONTH)])
        append(stores, calls(1, 2000, "lost"))
        wait_for(lambda: agree(gates, {TOPPED_UP: True, USED_UP: False, SAME: True, LATER: True}), "what is lost later")
        stopped(process, stores)
    with redis.Redis.from_url(stores.redis_url) as client:
        for part in range(stores.settings.partitions):
            client.xtrim(stream_key(part), maxlen=0, approximate=False)

    # 1. Stop the dataflow and the API. 2. Put back PostgreSQL, move `recovery` away, and make it anew.
    copied(stores, backup, database(stores))
    shutil.rmtree(stores.settings.home / "recovery")
    refused = tollway(stores, "recovery", "rebuild", kafka=kafka)
    assert refused.returncode == 2, refused.stderr
    assert "TOLLWAY_LOG_ACCEPT_GAP" in refused.stderr
    made = tollway(stores, "recovery", "rebuild", kafka=kafka, TOLLWAY_LOG_ACCEPT_GAP="on")
    assert made.returncode == 0, made.stderr
    told = tollway(stores, "doctor", kafka=kafka)
    assert told.returncode == 1, told.stdout
    assert f"{TOPPED_UP}: " in told.stdout
    assert f"{LATER} is not in the ledger" in told.stdout
    # 3. Start the dataflow. Gates that run in other processes follow.
    with running(stores, kafka, *arguments, TOLLWAY_LOG_ACCEPT_GAP="on") as process:
        wait_for(lambda: agree(gates, AFTER_RESTORE) or process.poll() is not None, "the gates to follow")
        assert agree(gates, AFTER_RESTORE), engine_log(stores)
        wait_for(lambda: tollway(stores, "doctor", "--all", kafka=kafka).returncode == 0, "the doctor to agree")
        # 4. What was set up since the backup is done again.
        write_records(stores, customer_records(3, (Decimal(50),), start=MONTH))
        wait_for(lambda: agree(gates, AFTER_RESTORE | {LATER: True}), "who was set up again")
        stopped(process, stores)
    assert kinds(stores, TOPPED_UP) == ["access_blocked", "access_allowed", "access_blocked"]
    assert kinds(stores, USED_UP) == ["access_blocked", "access_allowed"]
    assert kinds(stores, SAME) == []
    assert kinds(stores, LATER) == ["access_blocked", "access_allowed"]


def kinds(stores: Stores, customer: str) -> list[str]:
    """The changes of access that were signalled to a customer, in their order."""
    statement = "select kind from signals where customer_key = %s and kind like 'access%%' order by sequence"
    return [kind for (kind,) in query(stores, statement, customer)]
