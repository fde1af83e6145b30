"""The expressions of the dashboard and of the alerts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "prometheus"
DASHBOARD = ROOT / "config" / "grafana" / "dashboards" / "tollway.json"
METRIC = re.compile(r"\btollway_\w+")


def alerts() -> list[dict[str, Any]]:
    """All alert rules."""
    found = [yaml.safe_load(path.read_text()) for path in sorted((CONFIG / "rules").glob("*.yml"))]
    return [rule for rules in found for group in rules["groups"] for rule in group["rules"]]


def measured(expression: str) -> list[str]:
    """What an alert compares with its limits: each side of an `and`, without the limit."""
    sides = re.split(r"\band\b", " ".join(expression.split()))
    found = [re.fullmatch(r"(.+?) [<>] -?[0-9.]+", side.strip()) for side in sides]
    assert all(found), f"an alert compares with a number: {expression}"
    return [side[1] for side in found if side]


def panels() -> list[dict[str, Any]]:
    """All panels of the dashboard that show something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The title of a panel and one of its expressions, with Grafana's variables put in."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$__range", "5m")
