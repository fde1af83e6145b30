"""Customers at whose data the engine failed are named by `tollway doctor`, as long as the dataflow runs."""

from __future__ import annotations

import pytest

from sinks import metrics
from tests.conftest import Stores
from tests.e2e.command import Home, wait_for
from tests.engine_runs import write_records
from tests.simulation.settling import customer
from tollway.commands.aside import read_aside, telling_aside
from tollway.commands.dataflow import alone


def test_doctor_names_who_is_set_aside(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its key, with what failed; nobody once the customer goes on, or the dataflow has ended."""
    write_records(stores, [customer((), "id-acme", "acme")])
    monkeypatch.setattr(metrics, "_aside", {})
    aside = {"id-acme": "ZeroDivisionError in settle:12"}
    metrics.watch_aside(3, lambda: aside)
    folder = stores.settings.home
    variables = {"TOLLWAY_REDIS_URL": stores.redis_url, "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn}
    home = Home(folder, variables)

    def told() -> tuple[bool, str]:
        (found,) = (check for check in home.here("doctor", "--json").json if check["check"] == "customers set aside")
        return found["ok"], found["found"]

    with alone(folder), telling_aside(folder):
        wait_for(lambda: read_aside(folder), "the customer to be told")
        good, found = told()
        assert not good
        assert found.startswith("1: acme (ZeroDivisionError in settle:12); usage of these waits")
        aside.clear()
        wait_for(lambda: not read_aside(folder), "the customer to go on")
        assert told() == (True, "nobody")
        aside["id-acme"] = "again"
        wait_for(lambda: read_aside(folder), "the customer to be told again")
    assert told() == (True, "nobody")
    assert not [*folder.glob("aside*")]
