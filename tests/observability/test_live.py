"""Every expression of the dashboard and of the alerts, asked of a Prometheus that scrapes a running Tollway."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from msgspec import Struct

from tests.e2e.command import ROOT, Home, wait_for
from tests.observability.files import CONFIG, alerts, measured, queries
from tests.observability.prometheus import Prometheus, prometheus
from tests.ports import free_ports

CATALOG = str(ROOT / "config" / "catalog" / "demo.yaml")
SCRAPES = 8
"""So often is the metrics' page looked at while there is usage: rates need several looks."""
NOTICED = {
    "TollwayDeadLetters",
    "TollwayMismatches",
    "TollwayParkedGrowing",
    "TollwayUnpriced",
    "TollwayValuesRefused",
}
UNPRICED = """
meters:
  - {key: images, event_type: image, aggregation: COUNT}
  - {key: pixels, event_type: image, aggregation: SUM, value_property: $.pixels, group_by: {size: $.size}}
features:
  - {key: images, meter: images}
  - {key: small_pixels, meter: pixels, filters: {size: small}}
plans:
  - key: art
    currency: USD
    cadence: P1M
    rate_cards:
      - {feature: images, price: {type: unit, amount: 1}}
      - {feature: small_pixels, price: {type: unit, amount: 1}}
customers:
  - {key: painter, currency: USD, subjects: [wanderer], subscription: {plan: art, from: 2026-01-01, anchor: 2026-01-01}}
"""
"""Large images have no price; and somebody gets a subject whose usage waits."""
PARKED = "/api/v3/tollway/parked-events"
QUERIES = list(queries())
NOTHING_YET = {
    "max by (source, partition) (tollway_source_lag_messages)": "no Kafka is read",
}
"""Expressions without a result, and why."""


class Watched(Struct, frozen=True):
    """A Tollway that is used and a Prometheus that watches it."""

    api: httpx.Client
    """With a key."""
    engine: str
    prometheus: Prometheus


def event(number: int, subject: str = "acme-gateway", **data: Any) -> dict[str, Any]:
    """A usage event."""
    attributes = {"specversion": "1.0", "id": str(number), "source": "test", "type": "prompt", "subject": subject}
    return attributes | {"data": {"input_tokens": 1000, "output_tokens": 0} | data}


def image(number: int, subject: str, **data: Any) -> dict[str, Any]:
    """A usage event of another type."""
    return event(number, subject) | {"id": f"image-{number}", "type": "image", "data": data}


def config_for(folder: Path, engine_port: int, api_port: int, key: str) -> Path:
    """The configuration as it is deployed, but for addresses, the place of the key, and how often it looks."""
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    (folder / "key").write_text(key)
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    config["rule_files"] = [f"{CONFIG}/rules/*.yml"]
    engine, api = config["scrape_configs"]
    engine["static_configs"] = [{"targets": [f"127.0.0.1:{engine_port}"]}]
    api["static_configs"] = [{"targets": [f"127.0.0.1:{api_port}"]}]
    api["authorization"]["credentials_file"] = str(folder / "key")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, binaries: Path) -> Iterator[Watched]:
    """`tollway up` with keys required, used while a Prometheus scrapes it."""
    folder = tmp_path_factory.mktemp("watched")
    engine_port = free_ports(3)
    api_port, port = engine_port + 1, engine_port + 2
    settings = {"METRICS_PORT": engine_port, "API_PORT": api_port, "API_KEYS": "required", "EPOCH_MS": 300}
    home = Home(folder / "home", {f"TOLLWAY_{name}": str(value) for name, value in settings.items()})
    key = home.ok("key", "create", "--role", "admin").out.strip()
    config = config_for(folder, engine_port, api_port, key)
    client = httpx.Client(base_url=f"http://127.0.0.1:{api_port}", headers={"authorization": f"Bearer {key}"})
    with home.up("up"), client, prometheus(binaries, config, folder, port) as started:
        found = Watched(client, f"http://127.0.0.1:{engine_port}/metrics", started)
        home.here("apply", CATALOG)
        wait_for(lambda: started.values('up{job=~"tollway-.*"}') == [1, 1], "both to be scraped")
        send(found, image(1, "wanderer", size="small", pixels=1))
        wait_for(lambda: found.api.get(PARKED).json()["data"], "usage of a subject that nobody has yet")
        (folder / "unpriced.yaml").write_text(UNPRICED)
        home.here("apply", str(folder / "unpriced.yaml"))
        wait_for(lambda: not found.api.get(PARKED).json()["data"], "it to be driven again")
        send(found, image(2, "painter", size="large", pixels=5))
        use(found)
        wait_for(lambda: started.values('tollway_customers{access="blocked"}') == [1], "the ledger to be read")
        parked = started.values("sum(tollway_parked_events)")
        send(found, event(1_000_000, subject="nobody"))
        wait_for(lambda: started.values("sum(tollway_parked_events)") > parked, "one more event to wait")
        wait_for(lambda: noticed(found) >= NOTICED, "the rules to be evaluated")
        wait_for(lambda: all(numbers(found, asked) for asked in shown()), "the panels to have numbers")
        yield found


def use(found: Watched) -> None:
    """Usage of all kinds: rated, twice, of nobody, with other content, refused; until the credits are gone."""
    for number in range(1, SCRAPES + 1):
        send(found, event(number), event(number), event(number, subject="nobody"), event(-number, input_tokens=-1))
        send(found, event(number, subject="acme-gateway", input_tokens=-1, output_tokens=-1) | {"id": f"bad-{number}"})
        assert found.api.get("/api/v1/customers/acme/access").status_code == 200
        seen = scrapes(found)
        wait_for(lambda: scrapes(found) > seen, "another scrape")  # noqa: B023
    send(found, event(1, output_tokens=1), event(0, output_tokens=10_000_000))
    assert found.api.post("/api/v1/events", json={"id": "1"}).status_code == 400
    assert found.api.get("/api/v1/meters", headers={"authorization": "Bearer none"}).status_code == 401


def scrapes(found: Watched) -> float:
    """How often the API has been scraped."""
    (count,) = found.prometheus.values('count_over_time(up{job="tollway-api"}[10m])')
    return count


def noticed(found: Watched) -> set[str]:
    """The alerts that wait for their time, or fire."""
    return {alert["labels"]["alertname"] for alert in found.prometheus.get("/api/v1/alerts")["alerts"]}


def shown() -> list[str]:
    """The expressions of the panels that have numbers here."""
    return [expression for _, expression in QUERIES if expression not in NOTHING_YET]


def send(found: Watched, *events: dict[str, Any]) -> None:
    """Events over HTTP, which have to be taken."""
    answer = found.api.post("/api/v1/events", json=events)
    assert answer.status_code == 204, answer.text


def numbers(found: Watched, expression: str) -> list[float]:
    """What an expression comes to, without what is not a number."""
    return [value for value in found.prometheus.values(expression) if not math.isnan(value)]


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=[title for title, _ in QUERIES])
def test_each_panel_shows_something(watched: Watched, title: str, expression: str) -> None:
    """Prometheus can read its expression, and finds numbers, but where this Tollway has had no such thing."""
    found = numbers(watched, expression)
    assert bool(found) == (expression not in NOTHING_YET), title


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_each_alert_measures_something(watched: Watched, alert: dict[str, Any]) -> None:
    """What it compares with its limit is a number."""
    watched.prometheus.ask(alert["expr"])
    for expression in measured(alert["expr"]):
        assert numbers(watched, expression), expression


def test_what_went_wrong_is_noticed_and_nothing_else(watched: Watched) -> None:
    """Prometheus has all rules; those on what was sent wrong wait for their time, or fire."""
    groups = watched.prometheus.get("/api/v1/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(alerts())
    assert [rule["name"] for rule in rules if rule["health"] not in ("ok", "unknown")] == []
    assert noticed(watched) == NOTICED


@pytest.mark.parametrize("part", ["engine", "api"])
def test_promtool_finds_no_fault_with_the_metrics(watched: Watched, promtool: Callable[..., str], part: str) -> None:
    """Names, units and types are as Prometheus has them."""
    text = watched.api.get("/metrics" if part == "api" else watched.engine).text
    ours = "".join(line + "\n" for line in text.splitlines() if "tollway_" in line)
    assert promtool("check", "metrics", stdin=ours.encode()).strip() == ""
