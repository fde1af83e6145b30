"""Writes the pages of `docs/reference` from the code itself; a test keeps them current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from config.settings import SETTINGS
from rating.outcome import ParkCode, RejectCode
from sinks import metrics
from tollway.cli import COMMANDS

REFERENCE = Path(__file__).parent / "reference"

SIGNALS = {
    "access_blocked": "the customer may not go on; the reason says why",
    "access_allowed": "the customer may go on again",
    "feature_blocked": "only credit for other features is left",
    "feature_allowed": "there is credit for the feature again",
    "balance_low": "the live balance fell to a threshold or below; the reason is the threshold",
    "credits_exhausted": "the live balance fell to zero or below",
    "balance_recovered": "the live balance rose above a threshold again",
}


def command_help(name: str) -> str:
    """What `tollway NAME --help` prints, at a fixed width."""
    found = subprocess.run(
        [sys.executable, "-m", "tollway", name, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    return "\n".join(line.rstrip() for line in found.stdout.splitlines()).strip()


def cli_page() -> str:
    """All commands, by section."""
    parts = [
        "# Command line\n",
        "Data goes to standard output, all else to standard error. Exit codes: 0 done; 1 done, but some input was",
        "refused or what was asked for is not there; 2 bad usage, catalog, file or setting; 3 a server can't be",
        "reached or started; 70 a defect.\n",
    ]
    for section, commands in COMMANDS.items():
        parts.append(f"## {section}\n")
        parts += [f"### tollway {name}\n\n```text\n{command_help(name)}\n```\n" for name in commands]
    return "\n".join(parts)


def settings_page() -> str:
    """All settings."""
    rows = [f"| `{s.env}` | {s.meaning} | {s.expected} | {_default(s.default)} |" for s in SETTINGS]
    head = "# Settings\n\nSettings are environment variables. An unknown or a bad one stops the start.\n\n"
    return head + "| variable | meaning | expected | default |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _default(value: object) -> str:
    return "none" if value is None else f"`{'on' if value is True else 'off' if value is False else value}`"


def codes_page() -> str:
    """Why events were not rated, and what signals say."""
    parts = ["# Codes\n", "## Rejected\n", *(f"- `{code}`" for code in RejectCode), "- `duplicate_mismatch`"]
    parts += ["\nIn order of precedence. The last is a duplicate with other content: without effect, and kept.\n"]
    parts += ["## Parked\n", *(f"- `{code}`" for code in ParkCode), "\n## Signals\n"]
    parts += [f"- `{kind}`: {meaning}" for kind, meaning in SIGNALS.items()]
    return "\n".join(parts) + "\n"


def metrics_page() -> str:
    """What `/metrics` shows."""
    found = (metrics.events_total, metrics.event_to_balance_seconds, metrics.sink_seconds)
    described = [next(iter(metric.collect())) for metric in found]
    rows = [
        f"| `{m.name}{'_total' if m.type == 'counter' else ''}` | {m.type} | {m.documentation} |" for m in described
    ]
    head = "# Metrics\n\nServed on `TOLLWAY_METRICS_PORT`. No customer is in a label.\n\n"
    return head + "| metric | type | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


PAGES = {"cli.md": cli_page, "settings.md": settings_page, "codes.md": codes_page, "metrics.md": metrics_page}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())


if __name__ == "__main__":
    main()
