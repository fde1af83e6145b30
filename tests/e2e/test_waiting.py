"""What waits, as the command line and the API show it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from litestar.testing import TestClient
from prometheus_client import REGISTRY

from rating.outcome import Outcome
from rating.refusals import ParkCode, Parked, RejectCode, Rejected
from sinks import metrics
from sinks.postgres.ledger import Ledger, rows_of
from sinks.postgres.totals import read_totals
from tests.conftest import Stores
from tests.engine_runs import write_records
from tests.simulation.settling import customer
from tollway.api.server.app import create_app
from tollway.api.server.stores import ServerStores

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
D = Decimal


def part(name: str, of: str, quantity: str | None, model: str, meter: str = "tokens") -> Parked:
    """A rated event whose usage of a meter has no price."""
    at = MARCH + timedelta(days=int(name))
    raw = msgspec.json.encode({"id": name})
    amount = None if quantity is None else D(quantity)
    return Parked(
        ParkCode.UNPRICED, "why", "s", name, of, f"id-{of}", at, raw, at, meter, {"model": model}, "llm", amount
    )


def whole(name: str, code: ParkCode, of: str | None = None) -> Parked:
    """An event of which nothing was rated."""
    return Parked(code, "why", "s", name, of or "nobody", of and f"id-{of}", MARCH, b"{}", MARCH, type="llm")


@pytest.fixture
def waiting(stores: Stores) -> Stores:
    """Five whole events and five parts, of two customers."""
    write_records(stores, [customer((), "id-acme", "acme"), customer((), "id-blue", "blue")])
    out = Outcome(1)
    out.parked += [
        part("1", "acme", "5", "large"),
        part("2", "acme", "2.5", "large"),
        part("3", "blue", "1", "large"),
        part("4", "blue", None, "huge"),
        part("5", "blue", "1", "x", "calls"),
        *(whole(f"w{n}", ParkCode.UNKNOWN_SUBJECT) for n in range(3)),
        whole("w3", ParkCode.PERIOD_CLOSED, "acme"),
        whole("w4", ParkCode.NO_FEATURE, "blue"),
    ]
    ledger = Ledger(stores.postgres_dsn)
    ledger.write(rows_of(out, 0, 1))
    ledger.close()
    return stores


def tollway(stores: Stores, *arguments: str) -> tuple[str, str]:
    """Standard output and error of a command."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables |= {
        "TOLLWAY_HOME": str(stores.settings.home),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
    }
    ran = subprocess.run(
        [sys.executable, "-m", "tollway", *arguments], env=variables, capture_output=True, text=True, check=True
    )
    return ran.stdout, ran.stderr


def test_the_command_line_lists_what_waits_and_says_where_it_stops(waiting: Stores) -> None:
    """Whole events by reason and customer, parts apart; a list that is cut says of how many."""
    out, told = tollway(waiting, "parked", "--json")
    assert len(msgspec.json.decode(out)) == 5
    assert told == ""
    out, told = tollway(waiting, "parked", "--limit", "2")
    assert out.startswith("Parked events\n")
    assert "the newest 2 of 5: 3 unknown_subject, 1 no_feature, 1 period_closed" in told
    out, _ = tollway(waiting, "parked", "--customer", "acme", "--json")
    (late,) = msgspec.json.decode(out)
    assert (late["reason"], late["event_type"], late["received_at"]) == ("period_closed", "llm", "2026-03-01T00:00:00Z")
    out, _ = tollway(waiting, "parked", "--counts", "--json")
    assert msgspec.json.decode(out) == {"unknown_subject": 3, "no_feature": 1, "period_closed": 1}
    out, _ = tollway(waiting, "parked", "--parts", "--json")
    assert {one["meter"] for one in msgspec.json.decode(out)} == {"tokens", "calls"}


def test_the_command_line_tells_unpriced_usage_by_meter_and_dimensions(waiting: Stores) -> None:
    """How many events, how much where that can be told, since when, of whom."""
    out, told = tollway(waiting, "unpriced", "--json")
    assert told == ""
    first, *others = msgspec.json.decode(out)
    assert first == {
        "meter": "tokens",
        "dimensions": {"model": "large"},
        "events": 3,
        "quantity": "8.5",
        "since": "2026-03-02T00:00:00Z",
        "until": "2026-03-04T00:00:00Z",
        "customer_count": 2,
        "customers": ["acme", "blue"],
    }
    assert [(one["meter"], one["quantity"]) for one in others] == [("calls", "1"), ("tokens", None)]
    out, told = tollway(waiting, "unpriced", "--limit", "1")
    assert "model=large" in out
    assert "These are the first 1: there are more, and `--limit` shows them." in told
    assert "move to that with `--at this_billing_cycle`" in told
    out, _ = tollway(waiting, "unpriced", "--customer", "acme", "--meter", "tokens", "--json")
    assert [one["events"] for one in msgspec.json.decode(out)] == [2]


def test_dead_letters_are_found_by_customer_and_time(waiting: Stores) -> None:
    """With what their bytes call themselves, whatever these are; a list that stops says so."""
    raws = [
        b'{"id": "e1", "source": "gate", "subject": "acme", "data": {"n": -1}}',
        b'{"id": 7, "subject": "blue"}',
        b"\xff{",
        b'{"id": "e3", "subject": "nobody"}',
    ]
    out = Outcome(1)
    out.rejected += [Rejected(RejectCode.VALUE_NEGATIVE, "below 0", "$.data.n", raw) for raw in raws]
    ledger = Ledger(waiting.postgres_dsn)
    ledger.write(rows_of(out, 0, 2))
    ledger.close()
    listed, told = tollway(waiting, "dead-letters", "--json")
    names = {(one["source"], one["id"], one["subject"]) for one in msgspec.json.decode(listed)}
    assert names == {("gate", "e1", "acme"), (None, None, "blue"), (None, None, None), (None, "e3", "nobody")}
    assert told == ""
    listed, _ = tollway(waiting, "dead-letters", "--customer", "acme", "--json")
    assert [one["id"] for one in msgspec.json.decode(listed)] == ["e1"]
    listed, told = tollway(waiting, "dead-letters", "--limit", "1")
    assert listed.splitlines()[1].split() == ["recorded", "reason", "meter", "subject", "id", "message"]
    assert told == "These are the newest 1: there are more, and `--limit` shows them.\n"
    for since, count in (("2026-01-01", 4), ("8000-01-01", 0)):
        listed, _ = tollway(waiting, "dead-letters", "--since", since, "--json")
        assert len(msgspec.json.decode(listed)) == count


def test_the_api_lists_what_waits(waiting: Stores) -> None:
    """As the command line does; how many there are in all stands beside it."""
    with TestClient(create_app(ServerStores(waiting.redis_url, waiting.postgres_dsn, partitions=2))) as client:

        def get(path: str, **query: Any) -> Any:
            answer = client.get(f"/api/v3/tollway/{path}", params=query)
            assert answer.status_code == 200, answer.text
            return answer.json()

        found = get("parked-events", limit=1)
        assert len(found["data"]) == 1
        reasons = {"unknown_subject": 3, "no_feature": 1, "period_closed": 1}
        assert found["meta"] == {"total": 5, "by_reason": reasons}
        (late,) = get("parked-events", **{"filter[customer]": "acme"})["data"]
        assert (late["reason"], late["type"]) == ("period_closed", "llm")
        parts = get("parked-events", parts="true", **{"filter[customer]": "acme"})
        assert {(one["meter"], one["quantity"], one["dimensions"]["model"]) for one in parts["data"]} == {
            ("tokens", "5", "large"),
            ("tokens", "2.5", "large"),
        }
        unpriced = get("unpriced", limit=1)
        assert unpriced["meta"] == {"has_more": True}
        assert (unpriced["data"][0]["events"], unpriced["data"][0]["quantity"]) == (3, "8.5")
        assert [one["meter"] for one in get("unpriced", **{"filter[meter]": "calls"})["data"]] == ["calls"]
        assert client.get("/api/v3/tollway/unpriced", params={"filter[customer]": "none"}).status_code == 404


def test_metrics_tell_parts_apart_from_whole_events(waiting: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """By meter, of which only so many are named; what is gone is told no more."""

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    with psycopg.connect(waiting.postgres_dsn, autocommit=True) as connection:
        read_totals(connection, set())
        assert value("tollway_parked_events", reason="period_closed") == 1
        assert value("tollway_parked_events", reason="unpriced") == 0
        assert value("tollway_parked_parts", reason="unpriced", meter="tokens") == 4
        assert value("tollway_parked_parts", reason="unpriced", meter="calls") == 1
        monkeypatch.setattr(metrics, "METERS_MAX", 1)
        connection.execute("delete from parked_events where meter = 'tokens' and id <> '1'")
        read_totals(connection, set())
        assert value("tollway_parked_parts", reason="unpriced", meter="calls") == 1
        assert value("tollway_parked_parts", reason="unpriced", meter="tokens") is None
        assert value("tollway_parked_parts", reason="unpriced", meter=metrics.OTHER_METERS) == 1


def test_unpriced_usage_is_counted_by_meter_and_not_among_the_ends_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes beside an event that was rated; meters beyond the first hundred are counted together."""
    monkeypatch.setattr(metrics, "_meters", set())

    def told() -> tuple[float | None, set[str]]:
        ends = REGISTRY.get_sample_value("tollway_events_total", {"end": "parked", "reason": "unpriced"})
        samples = [sample for found in metrics.unpriced_events_total.collect() for sample in found.samples]
        return ends, {sample.labels["meter"] for sample in samples}

    ended, before = told()
    out = Outcome()
    for number in range(metrics.METERS_MAX + 20):
        out.parked.append(part("1", "acme", "5", "large", f"unpriced_meter_{number}"))
    metrics.count(out)
    ended_after, after = told()
    assert ended_after == ended
    assert len(after - before) == metrics.METERS_MAX + 1
    assert REGISTRY.get_sample_value("tollway_unpriced_events_total", {"meter": metrics.OTHER_METERS}) == 20
