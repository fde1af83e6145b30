"""Running: servers, the dataflow, and getting events in."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import start_http_server
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)

from dataflows.engine import run_engine
from rating.events import EventDecoder
from rating.outcome import Rejected
from sinks.event_log import EventLog
from sinks.postgres.migrate import migrate
from tollway.console import OK, REFUSED, print_json, settings, talk
from tollway.embedded import servers, stop_servers

BATCH_LINES = 2000


def up(
    drain: Annotated[bool, typer.Option(help="End once the log has been read, instead of waiting for more.")] = False,
) -> None:
    """
    Start the embedded servers and the dataflow, until Ctrl-C or SIGTERM.

    Servers given by TOLLWAY_REDIS_URL and TOLLWAY_POSTGRES_DSN are used as they are.

    Example: tollway up
    """
    chosen = settings()
    with servers(chosen, report=talk.print) as endpoints:
        applied = migrate(endpoints.postgres_dsn)
        if applied:
            talk.print(f"Schema: applied {', '.join(applied)}")
        if chosen.metrics_port:
            start_http_server(chosen.metrics_port, addr="127.0.0.1")
            talk.print(f"Metrics: http://127.0.0.1:{chosen.metrics_port}/metrics")
        talk.print("The dataflow runs. Stop it with Ctrl-C.")
        run_engine(chosen, endpoints.redis_url, endpoints.postgres_dsn, drain=drain)
        talk.print("Stopped: everything read is in the ledger.")


def run(
    file: Annotated[list[Path] | None, typer.Option(help="Also read this JSONL file of CloudEvents, once.")] = None,
    drain: Annotated[bool, typer.Option(help="End once the log and the files have been read.")] = False,
) -> None:
    """
    Run the dataflow only, on servers that run already or that the settings name.

    Example: tollway run --file usage.jsonl --drain
    """
    for path in file or []:
        _readable(path)
    chosen = settings()
    logging.basicConfig(level=chosen.log_level.upper(), stream=sys.stderr)
    with servers(chosen, report=talk.print) as endpoints:
        migrate(endpoints.postgres_dsn)
        if chosen.metrics_port:
            start_http_server(chosen.metrics_port, addr="127.0.0.1")
        run_engine(chosen, endpoints.redis_url, endpoints.postgres_dsn, files=file, drain=drain)


def down(quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False) -> None:
    """
    Stop embedded servers that were left running in the home folder.

    Example: tollway down
    """
    stopped = stop_servers(settings().home)
    if not quiet:
        talk.print("Stopped the embedded servers." if stopped else "No embedded server was running.")


def ingest(
    file: Annotated[str, typer.Argument(help="A JSONL file of CloudEvents, or - for standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """
    Append events to the event log. Returns once the log holds them durably.

    Each line is one CloudEvent. A line that is no event is refused and named; the others go in.

    Example: tollway ingest usage.jsonl
    """
    chosen = settings()
    size = None if file == "-" else _readable(Path(file)).stat().st_size
    decoder = EventDecoder(())
    accepted, refused, number = 0, 0, 0
    with (
        servers(chosen, report=talk.print) as endpoints,
        Progress(
            TextColumn("Ingest"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=talk,
            transient=True,
        ) as progress,
    ):
        log = EventLog(endpoints.redis_url, chosen.partitions)
        task = progress.add_task("ingest", total=size)
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
            while lines := stream.readlines(BATCH_LINES * 256):
                good: list[bytes] = []
                for line in lines:
                    number += 1
                    text = line.strip()
                    if not text:
                        continue
                    event = decoder.decode(text)
                    if isinstance(event, Rejected):
                        refused += 1
                        talk.print(f"line {number}: {event.code} at {event.path}: {event.message}", markup=False)
                    else:
                        good.append(text)
                if good:
                    log.append(good)
                accepted += len(good)
                progress.advance(task, sum(map(len, lines)))
        log.close()
    if as_json:
        print_json({"accepted": accepted, "refused": refused})
    else:
        talk.print(f"{accepted} events are in the log, {refused} lines were refused.")
    raise typer.Exit(REFUSED if refused else OK)


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise typer.BadParameter(f"`{path}` is not a file: give the path of a JSONL file")
    return path
