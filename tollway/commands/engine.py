"""Running: the servers and the dataflow."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from prometheus_client import start_http_server

from config.settings import SettingError, Settings
from dataflows.engine import run_engine, stopping_on_signals
from sinks.postgres.migrate import migrate
from tollway.commands.dataflow import alone, crash_log, crashing_into
from tollway.console import say, settings
from tollway.embedded import servers, stop_servers


def up(
    drain: Annotated[bool, typer.Option("--drain", help="End once the log has been read, instead of waiting.")] = False,
) -> None:
    """
    Start the embedded servers and the dataflow, until Ctrl-C or SIGTERM.

    Servers given by TOLLWAY_REDIS_URL and TOLLWAY_POSTGRES_DSN are used as they are. All data are in the folder
    TOLLWAY_HOME, and are there again at the next start.

    Example: tollway up
    """
    _rate(settings(), drain=drain)


def run(
    file: Annotated[list[Path] | None, typer.Option(help="Also read this JSONL file of CloudEvents, once.")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End once the log and the files have been read.")] = False,
) -> None:
    """
    Run the dataflow only, on servers that run already or that the settings name.

    It logs to standard error, at the level TOLLWAY_LOG_LEVEL. Of one home, one dataflow runs at a time.

    Example: tollway run --file usage.jsonl --drain
    """
    chosen = settings()
    files = [_regular(path) for path in file or []]
    _rate(chosen, files=files, drain=drain)


def down(quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False) -> None:
    """
    Stop embedded servers that were left running in the home folder.

    Example: tollway down
    """
    stopped = stop_servers(settings().home)
    if not quiet:
        say("Stopped the embedded servers." if stopped else "No embedded server was running.")


def _rate(chosen: Settings, files: list[Path] | None = None, *, drain: bool = False) -> None:
    """Run the dataflow on servers, alone in its home."""
    stopping = Event()
    with (
        servers(chosen, report=say) as endpoints,
        alone(chosen.home),
        # From before the word that the dataflow runs: a signal right after it is no failure.
        stopping_on_signals(stopping),
    ):
        applied = migrate(endpoints.postgres_dsn)
        if applied:
            say(f"Schema: applied {', '.join(applied)}")
        _serve_metrics(chosen.metrics_port)
        say("The dataflow runs until the log has been read." if drain else "The dataflow runs. Stop it with Ctrl-C.")
        with crashing_into(crash_log(chosen.home)):
            logging.basicConfig(level=chosen.log_level.upper(), stream=sys.stderr)
            redis_url, postgres_dsn = endpoints.redis_url, endpoints.postgres_dsn
            run_engine(chosen, redis_url, postgres_dsn, files=files, drain=drain, stopping=stopping)
        say("Stopped: everything read is in the ledger.")


def _serve_metrics(port: int) -> None:
    if not port:
        return
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise SettingError(
            f"Bad setting `TOLLWAY_METRICS_PORT`: port {port} can't be opened: {error.strerror}\n"
            "hint: name a free port, or leave it out for no metrics"
        ) from error
    say(f"Metrics: http://127.0.0.1:{port}/metrics")


def _regular(path: Path) -> Path:
    """The absolute path, by which the recovery store knows how far a file was read."""
    if not path.is_file():
        raise typer.BadParameter(f"`--file`: `{path}` is not a file. Give the path of a JSONL file of CloudEvents")
    return path.absolute()
