"""Running: servers, the dataflow, and getting events in."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import redis
import typer
from prometheus_client import start_http_server
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)

from config.settings import Settings, SettingError
from dataflows.engine import run_engine
from rating.events import EventDecoder
from rating.outcome import Rejected
from sinks.event_log import EventLog
from sinks.postgres.migrate import migrate
from tollway.console import OK, REFUSED, open_input, print_json, say, settings, talk
from tollway.embedded import ServerError, locks, servers, stop_servers

CHUNK_BYTES = 1 << 20
REFUSED_SHOWN = 20
REFUSED_LISTED = 1000
ENGINE_LOCK = "engine.lock"
CRASH_LOG = "crash.log"
LOCK_SECONDS = 2.0
"""So long a dataflow that is just ending is waited for."""


class AlreadyRunning(Exception):
    """Another process runs the dataflow of this home: two would write over each other's state."""


class DataflowFailed(Exception):
    """The dataflow ended by a failure, which is the cause; `log` has the traceback."""

    def __init__(self, log: Path) -> None:
        self.log = log
        super().__init__(f"the dataflow ended: the traceback is in `{log}`")


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
    logging.basicConfig(level=chosen.log_level.upper(), stream=sys.stderr)
    _rate(chosen, files=files, drain=drain)


def down(quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False) -> None:
    """
    Stop embedded servers that were left running in the home folder.

    Example: tollway down
    """
    stopped = stop_servers(settings().home)
    if not quiet:
        say("Stopped the embedded servers." if stopped else "No embedded server was running.")


def ingest(
    file: Annotated[str, typer.Argument(help="A JSONL file of CloudEvents, or - for standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """
    Append events to the event log. Returns once the log holds them durably.

    Each line is one CloudEvent; blank lines do not count. A line that is no event is refused and named by its
    number, the others go in, and the exit code is 1. A file may be ingested again: an event that is there already
    is a duplicate, and is charged once.

    Example: tollway ingest usage.jsonl
    """
    chosen = settings()
    stream, size = open_input(file, "a JSONL file of CloudEvents")
    decoder = EventDecoder(())
    accepted, number = 0, 0
    refused: list[tuple[int, Rejected]] = []
    refused_total = 0
    with (
        stream,
        servers(chosen, report=say) as endpoints,
        Progress(
            TextColumn("Ingest"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=talk,
            transient=True,
        ) as progress,
    ):
        task = progress.add_task("ingest", total=size)
        try:
            log = EventLog(endpoints.redis_url, chosen.partitions)
            for lines in _whole_lines(stream):
                good: list[bytes] = []
                for line in lines:
                    number += 1
                    text = line.strip()
                    if not text:
                        continue
                    event = decoder.decode(text)
                    if not isinstance(event, Rejected):
                        good.append(text)
                        continue
                    refused_total += 1
                    if refused_total <= REFUSED_SHOWN:
                        say(f"line {number}: {event.code}: {event.message}")
                    if refused_total <= REFUSED_LISTED:
                        refused.append((number, event))
                if good:
                    log.append(good)
                accepted += len(good)
                progress.advance(task, sum(map(len, lines)))
            log.close()
        except redis.RedisError as error:
            raise ServerError(
                f"the event log took no more after {accepted} events ({type(error).__name__})\n"
                "hint: see `tollway doctor`, then ingest all of it again: what is in already is charged once"
            ) from error
    if refused_total > REFUSED_SHOWN:
        say(f"… and {refused_total - REFUSED_SHOWN} lines more were refused.")
    if as_json:
        errors: list[dict[str, Any]] = [
            {"line": line, "code": event.code, "path": event.path, "message": event.message} for line, event in refused
        ]
        print_json({"accepted": accepted, "refused": refused_total, "errors": errors})
    else:
        say(f"{accepted} events are in the log, {refused_total} lines were refused.")
    raise typer.Exit(REFUSED if refused_total else OK)


def running_engine(home: Path) -> int | None:
    """The process that runs the dataflow of a home, if one does; 0 if it did not say which."""
    path = home / ENGINE_LOCK
    if not locks.is_held(path):
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else 0


def _rate(chosen: Settings, files: list[Path] | None = None, *, drain: bool = False) -> None:
    """Run the dataflow on servers, alone in its home."""
    with servers(chosen, report=say) as endpoints, _alone(chosen.home):
        applied = migrate(endpoints.postgres_dsn)
        if applied:
            say(f"Schema: applied {', '.join(applied)}")
        _serve_metrics(chosen.metrics_port)
        say("The dataflow runs until the log has been read." if drain else "The dataflow runs. Stop it with Ctrl-C.")
        with _crashing_into(chosen.home / CRASH_LOG):
            run_engine(chosen, endpoints.redis_url, endpoints.postgres_dsn, files=files, drain=drain)
        say("Stopped: everything read is in the ledger.")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """
    Hold the home's lock, which the kernel drops with this process, however it ends.

    Two dataflows on one recovery store would each resume from, and write over, the other's snapshots.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / ENGINE_LOCK
    try:
        with locks.exclusive(path, LOCK_SECONDS) as descriptor:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
    except TimeoutError:
        process = running_engine(home)
        which = f"process {process}" if process else "that process"
        raise AlreadyRunning(
            f"a dataflow already runs in `{home}`{f': process {process}' if process else ''}\n"
            f"hint: stop {which} first, or set `TOLLWAY_HOME` to another folder"
        ) from None


@contextmanager
def _crashing_into(log: Path) -> Iterator[None]:
    """
    Send what the runtime prints as it crashes, and the traceback, to a file rather than to the terminal.

    The runtime writes to the descriptor of standard error; Python's own standard error stays as it is.
    """
    log.unlink(missing_ok=True)
    if sys.stderr.fileno() != 2:
        raise AssertionError("standard error was replaced")
    kept = os.dup(2)
    stderr = sys.stderr
    with log.open("ab") as crash, os.fdopen(kept, "w", buffering=1) as terminal:
        try:
            os.dup2(crash.fileno(), 2)
            sys.stderr = terminal
            yield
        except Exception as failure:
            crash.write("".join(traceback.format_exception(failure)).encode())
            raise DataflowFailed(log) from failure
        finally:
            sys.stderr = stderr
            os.dup2(kept, 2)
            if crash.tell() == 0 and log.stat().st_size == 0:
                log.unlink()


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


def _whole_lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """What has come so far, in whole lines: a pipe that is slow does not hold up what it brought."""
    rest = b""
    while chunk := stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        lines = (rest + chunk).splitlines(keepends=True) if False else (rest + chunk).split(b"\n")
        rest = lines.pop()
        if lines:
            yield [line + b"\n" for line in lines]
    if rest:
        yield [rest]


def _regular(path: Path) -> Path:
    """The absolute path, by which the recovery store knows how far a file was read."""
    if not path.is_file():
        raise typer.BadParameter(f"`--file`: `{path}` is not a file. Give the path of a JSONL file of CloudEvents")
    return path.absolute()
