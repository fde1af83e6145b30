"""
Writes what the reference can read from the code into its pages: the help of commands, settings, metrics.

Run `python -m docs.make_reference` after such a thing changed. On a page, what lies between
`<!-- from the code: NAME -->` and `<!-- end -->` is written anew; all else is left as it is.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

from prometheus_client import Counter, Histogram

from config.settings import SETTINGS
from sinks import metrics
from tollway import cli

REFERENCE = Path(__file__).parent / "reference"
PAGES = ("cli.md", "settings.md", "metrics.md")

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
        f"| `{setting.env}` | {_default(setting.default)} | {setting.expected} | {setting.meaning} |"
        for setting in SETTINGS
    )
    return "\n".join(("| variable | default | expected | what it is |", "|---|---|---|---|", *rows))


def _default(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "`on`" if value else "`off`"
        case _:
            return f"`{value}`"


def all_metrics() -> Iterator[Counter | Histogram]:
    """Every metric that the engine has."""
    return (metric for metric in vars(metrics).values() if isinstance(metric, Counter | Histogram))


def metrics_table() -> str:
    """All metrics as a table."""
    rows = []
    for metric in all_metrics():
        (described,) = metric.describe()
        name = f"{described.name}_total" if described.type == "counter" else described.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "none"
        rows.append(f"| `{name}` | {described.type} | {labels} | {described.documentation} |")
    return "\n".join(("| metric | type | labels | what it says |", "|---|---|---|---|", *rows))


def part(name: str) -> str:
    """What the code says under a name."""
    match name.split():
        case ["settings"]:
            return settings()
        case ["metrics"]:
            return metrics_table()
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
