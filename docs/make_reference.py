"""
Writes what the reference can read from the code into its pages: help of commands, settings, metrics, API routes.

Run `python -m docs.make_reference` after such a thing changed. On a page, what lies between
`<!-- from the code: NAME -->` and `<!-- end -->` is written anew; all else is left as it is.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from prometheus_client import Counter, Gauge, Histogram

from config.api import API_SETTINGS, ApiSettings
from config.kafka import KAFKA_SETTINGS, KafkaSettings
from config.limits import Place, by_place
from config.settings import DEFAULTS, SETTINGS
from sinks import metrics
from tollway import cli
from tollway.api.server import app
from tollway.api.server import metrics as api_metrics

REFERENCE = Path(__file__).parent / "reference"
METHODS = ("GET", "POST", "PUT", "DELETE")
PAGES = ("cli.md", "settings.md", "metrics.md", "api.md", "limits.md")

PART = re.compile(r"(<!-- from the code: (?P<name>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def help_of(name: str) -> str:
    """What `tollway NAME --help` prints, `tollway --help` where there is no name, at a fixed width."""
    printed = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}), redirect_stdout(printed):
        cli.run([*name.split(), "--help"])
    text = "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip()
    return f"```text\n{text}\n```"


def settings() -> str:
    """All settings as a table."""
    rows = (
        f"| `{setting.env}` | {_default(getattr(DEFAULTS, setting.name))} | {setting.expected} | {setting.meaning} |"
        for setting in SETTINGS
    )
    return "\n".join(("| variable | default | expected | what it is |", "|---|---|---|---|", *rows))


def kafka_settings() -> str:
    """Tollway's own Kafka settings as a table."""
    defaults = KafkaSettings(client={})
    rows = (
        f"| `{setting.env}` | `{getattr(defaults, setting.name)}` | {setting.meaning} |" for setting in KAFKA_SETTINGS
    )
    return "\n".join(("| variable | default | what it is |", "|---|---|---|", *rows))


def _default(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "`on`" if value else "`off`"
        case _:
            return f"`{value}`"


def api_settings() -> str:
    """All settings of the API as a table."""
    defaults = ApiSettings()
    rows = (
        f"| `{setting.env}` | `{getattr(defaults, setting.name)}` | {setting.expected} | {setting.meaning} |"
        for setting in API_SETTINGS
    )
    return "\n".join(("| variable | default | expected | what it is |", "|---|---|---|---|", *rows))


def limits(place: Place) -> str:
    """The limits of what comes by one way as a table."""
    rows = (f"| `{limit.name}` | {limit.number:,} {limit.unit} | {limit.bounds} |" for limit in by_place(place))
    return "\n".join(("| limit | at most | what it bounds |", "|---|---|---|", *rows))


def all_metrics() -> Iterator[Counter | Gauge | Histogram]:
    """Every metric that the engine and the API have."""
    kinds = Counter | Gauge | Histogram
    return (found for module in (metrics, api_metrics) for found in vars(module).values() if isinstance(found, kinds))


def metrics_table() -> str:
    """All metrics as a table."""
    rows = []
    for metric in all_metrics():
        (described,) = metric.describe()
        name = f"{described.name}_total" if described.type == "counter" else described.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "none"
        rows.append(f"| `{name}` | {described.type} | {labels} | {described.documentation} |")
    return "\n".join(("| metric | type | labels | what it says |", "|---|---|---|---|", *rows))


class Route(Struct, frozen=True):
    """An operation of the HTTP API."""

    section: str
    method: str
    path: str
    about: str


@cache
def routes() -> tuple[Route, ...]:
    """All operations, by path."""
    found: dict[tuple[str, int], Route] = {}
    # An application that is not started has not opened its stores.
    for route in app.create_app(cast(Any, None)).routes:
        path = re.sub(r":\w+\}", "}", route.path)
        for handler in getattr(route, "route_handlers", ()):
            if not isinstance(handler, HTTPRouteHandler) or not handler.tags:
                continue
            about = " ".join((handler.fn.__doc__ or "").strip().split("\n\n")[0].split())
            for method in handler.http_methods:
                if method in METHODS:
                    found[path, METHODS.index(method)] = Route(next(iter(handler.tags)), method, path, about)
    return tuple(route for _, route in sorted(found.items()))


def routes_table(section: str) -> str:
    """The operations of a section as a table."""
    rows = [f"| `{route.method} {route.path}` | {route.about} |" for route in routes() if route.section == section]
    assert rows, f"the API has no section `{section}`"
    return "\n".join(("| operation | what it does |", "|---|---|", *rows))


def part(name: str) -> str:
    """What the code says under a name."""
    match name.split():
        case ["settings"]:
            return settings()
        case ["kafka", "settings"]:
            return kafka_settings()
        case ["settings", "api"]:
            return api_settings()
        case ["limits", place]:
            return limits(cast(Place, place))
        case ["metrics"]:
            return metrics_table()
        case ["api", section]:
            return routes_table(section)
        case ["tollway", *command]:
            return help_of(" ".join(command))
    raise AssertionError(f"nothing in the code is called `{name}`")


def current(page: str) -> str:
    """The text of a page with its parts as the code says now."""
    text = (REFERENCE / page).read_text()
    return PART.sub(lambda found: f"{found[1]}{part(found['name'])}\n{found[3]}", text)


def main() -> None:
    """Bring all pages up to date."""
    for page in PAGES:
        (REFERENCE / page).write_text(current(page))


if __name__ == "__main__":
    main()
