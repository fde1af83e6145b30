"""Running the engine on Kafka in tests."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from decimal import Decimal
from random import Random
from typing import Any

import msgspec

from config.kafka import KAFKA_SETTINGS, KafkaSettings, variable
from dataflows.engine import run_engine
from rating.catalog import Record
from tests.conftest import Stores
from tests.engine_runs import engine_process, query
from tests.world import MONTH, NOW, catalog_records, customer_records, events
from tollway.commands.failures import explain

CUSTOMERS = 12


def world(*grants: str, customers: int = CUSTOMERS) -> list[Record]:
    """The catalog with some customers, subscribed since the beginning of the period that is running."""
    records: list[Record] = catalog_records()
    for number in range(customers):
        records += customer_records(number, tuple(map(Decimal, grants)), start=MONTH)
    return records


def usage(seed: int, count: int, customers: int = CUSTOMERS) -> list[dict[str, Any]]:
    """Events of the period that is running, up to now."""
    return list(events(Random(seed), count, customers, MONTH, NOW - MONTH))


def untidy(stream: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The events as a careless sender sends them: one in fifty twice, one in a hundred somewhere else."""
    chance = Random(seed)
    sent = stream + chance.sample(stream, len(stream) // 50)
    for _ in range(len(sent) // 100):
        first = chance.randrange(len(sent) - 40)
        second = first + chance.randrange(40)
        sent[first], sent[second] = sent[second], sent[first]
    return sent


def drain(stores: Stores, kafka: KafkaSettings, **changes: Any) -> None:
    """Run the engine in this process to the end of the topic."""
    settings = msgspec.structs.replace(stores.settings, epoch_ms=200, **changes)
    run_engine(settings, stores.redis_url, stores.postgres_dsn, kafka=kafka, drain=True)


def environment(kafka: KafkaSettings) -> dict[str, str]:
    """The settings as environment variables."""
    variables = {setting.env: str(getattr(kafka, setting.name)) for setting in KAFKA_SETTINGS}
    return variables | {variable(name): text for name, text in kafka.client.items()}


def engine(
    stores: Stores, kafka: KafkaSettings, *arguments: str, **settings: str
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """The engine as a process; killed at the end if it still runs."""
    return engine_process(stores, *arguments, **environment(kafka), **settings)


def rated(stores: Stores) -> int:
    """How many events the ledger has by now."""
    return int(query(stores, "select coalesce(sum(events), 0) from usage_periods")[0][0])


def told(failure: BaseException) -> str:
    """What is said of a failure."""
    explained = explain(failure)
    assert explained is not None, failure
    return explained[0]


def cause(failure: BaseException | None, kind: type[Exception]) -> Exception | None:
    """The first failure of a kind in the chain."""
    while failure is not None and not isinstance(failure, kind):
        failure = failure.__cause__
    return failure
