"""
What the ledger holds in total, as metrics: customers by access, amounts by currency, events that wait.

A thread reads it from time to time, and rests in proportion to how long that took, so that reading never takes more
than a small share of the machine. Money is exact in the ledger; here it becomes a float, for pictures and alerts only.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from functools import partial
from threading import Event
from typing import Any

import psycopg

from sinks import metrics
from sinks.beside import working_beside
from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement

EVERY_SECONDS = 5.0
REST_FACTOR = 50.0
"""So many times as long as reading took is rested at least."""

AMOUNTS = (metrics.charged_amount, metrics.consumed_amount, metrics.uncovered_amount, metrics.live_amount)

_log = logging.getLogger("tollway.metrics")


def telling_totals(dsn: str) -> AbstractContextManager[None]:
    """Keep the metrics of the ledger current until the block ends. A database that is away is asked again."""
    return working_beside("totals", partial(_tell, dsn))


def _tell(dsn: str, ended: Event) -> None:
    currencies: set[str] = set()
    rest = 0.0
    while not ended.wait(rest):
        rest = EVERY_SECONDS
        try:
            with connect(dsn, autocommit=True, application_name="tollway-metrics") as connection:
                while not ended.is_set():
                    started = time.monotonic()
                    read_totals(connection, currencies)
                    ended.wait(max(EVERY_SECONDS, REST_FACTOR * (time.monotonic() - started)))
        except psycopg.Error as failure:
            _log.warning("the totals of the ledger can't be read now: %s", type(failure).__name__)


def read_totals(connection: psycopg.Connection[Any], currencies: set[str]) -> None:
    """
    Read the totals once, and set the metrics.

    Args:
        connection: To the ledger.
        currencies: Those seen before, and afterwards these too: one that is not in the ledger any more becomes 0.

    Raises:
        psycopg.Error: The ledger could not be read.
    """
    totals = connection.execute(statement("read_totals")).fetchall()
    parked = connection.execute(statement("read_parked")).fetchall()
    by_currency = {currency: amounts for currency, *amounts, _, _, _ in totals}
    currencies.update(by_currency)
    for currency in currencies:
        for gauge, amount in zip(AMOUNTS, by_currency.get(currency, (0, 0, 0, 0)), strict=True):
            gauge.labels(currency).set(amount)
    metrics.customers.labels("allowed").set(sum(row[-3] for row in totals))
    metrics.customers.labels("blocked").set(sum(row[-2] for row in totals))
    metrics.unbalanced_customers.set(sum(row[-1] for row in totals))
    metrics.tell_parked(parked)
    metrics.ledger_read_timestamp_seconds.set_to_current_time()
