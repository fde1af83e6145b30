"""The configuration of Prometheus, the alerts and the dashboard, as files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.grafana import make_dashboard
from docs.make_reference import all_metrics
from tests.docs.test_tidy import anchors
from tests.observability.files import CONFIG, DASHBOARD, METRIC, ROOT, alerts, measured, panels, queries

Promtool = Callable[..., str]
EXPRESSIONS = [*(query for _, query in queries()), *(alert["expr"] for alert in alerts())]


def rule_tests() -> list[dict[str, Any]]:
    """What `promtool test rules` runs."""
    found = [yaml.safe_load(path.read_text()) for path in sorted((CONFIG / "tests").glob("*.yml"))]
    return [test for tests in found for test in tests["tests"]]


@pytest.mark.parametrize("name", ["prometheus.yml", "kubernetes.yml"])
def test_promtool_accepts_configuration_and_rules(promtool: Promtool, tmp_path: Path, name: str) -> None:
    """The configuration as it is deployed, but that the file with the key is another; jobs have their names."""
    text = (CONFIG / name).read_text()
    assert [job["job_name"] for job in yaml.safe_load(text)["scrape_configs"]] == ["tollway-engine", "tollway-api"]
    key = tmp_path / "key"
    key.touch()
    config = yaml.safe_load(
        text.replace("/run/tollway-keys/prometheus", str(key)).replace("rules/", f"{CONFIG}/rules/")
    )
    for job in config["scrape_configs"]:
        # Debian's Prometheus is built without the means to ask Kubernetes.
        job.pop("kubernetes_sd_configs", None)
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    assert f"{len(alerts())} rules found" in promtool("check", "config", str(path))


def test_alerts_fire_when_they_should_and_not_else(promtool: Promtool) -> None:
    """By `promtool test rules`, which compares labels and words too."""
    promtool("test", "rules", *map(str, sorted((CONFIG / "tests").glob("*.yml"))))


def test_each_alert_is_tested_both_ways() -> None:
    """That it fires, and that it is silent."""
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names)) > 10
    assert [test["name"] for test in rule_tests()] == [
        f"{name} {way}" for name in names for way in ("fires", "is silent")
    ]
    for test in rule_tests():
        (one,) = test["alert_rule_test"]
        assert bool(one["exp_alerts"]) == test["name"].endswith(" fires")
        assert test["name"].startswith(f"{one['alertname']} ")


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_who_is_alerted_is_told_what_to_do(alert: dict[str, Any]) -> None:
    """How grave it is, what happens, and a section of the operations guide with the alert's name."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    page, _, anchor = notes["runbook"].partition("#")
    assert anchor == alert["alert"].lower()
    assert anchor in anchors(ROOT / page)
    section = (ROOT / page).read_text().partition(f"### {alert['alert']}\n")[2].partition("\n#")[0]
    assert len(section.split()) > 25
    assert measured(alert["expr"])


def test_only_metrics_that_exist_are_asked_for() -> None:
    """And each that exists is in the dashboard or in an alert, but for what needs no picture."""
    exist: dict[str, set[str]] = {}
    for metric in all_metrics():
        (described,) = metric.describe()
        labels = set(metric._labelnames)
        match described.type:
            case "counter":
                exist[f"{described.name}_total"] = labels
            case "histogram":
                exist[f"{described.name}_bucket"] = labels | {"le"}
                exist[f"{described.name}_count"] = labels
            case _:
                exist[described.name] = labels
    asked = {name for expression in EXPRESSIONS for name in METRIC.findall(expression)}
    assert asked - exist.keys() == set()
    unasked = {name for name in exist.keys() - asked if not name.endswith("_count")}
    assert unasked == set()


def test_labels_that_are_asked_for_exist() -> None:
    """By `by (…)` and in `{…}`: of the metrics, and those that Prometheus adds."""
    labels = {label for metric in all_metrics() for label in metric._labelnames} | {"job", "instance", "le"}
    for expression in EXPRESSIONS:
        grouped = [label.strip() for found in re.findall(r"\bby \(([^)]*)\)", expression) for label in found.split(",")]
        matched = re.findall(r"[{,](\w+)=", expression)
        assert set(grouped) | set(matched) <= labels, expression


def test_no_metric_names_a_customer() -> None:
    """As many series as there are customers would be too many, and they are nobody's business."""
    labels = {label for metric in all_metrics() for label in metric._labelnames}
    assert not [label for label in labels if "customer" in label or "subject" in label]


def test_the_dashboard_is_current() -> None:
    """`python -m config.grafana.make_dashboard` writes it."""
    assert DASHBOARD.read_text() == make_dashboard.dashboard()


def test_the_panels_stand_side_by_side() -> None:
    """Each has a number of its own and a place of its own within the 24 columns, and says what it shows."""
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found) > 20
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["description"].endswith(".")


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    """The files that provision it agree with each other, with the dashboard and with the compose file."""
    folder = ROOT / "config" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert f'"value": "{source["uid"]}"' in DASHBOARD.read_text()
    (provider,) = yaml.safe_load((folder / "dashboards" / "tollway.yml").read_text())["providers"]
    mounted = (ROOT / "docker-compose.yml").read_text()
    assert f"./config/grafana/dashboards:{provider['options']['path']}:ro" in mounted
    assert "./config/grafana/provisioning:/etc/grafana/provisioning:ro" in mounted
