"""Getting events in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

import redis
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from rating.events import BYTE_ORDER_MARK, CloudEvent, EventDecoder, refuse_instant
from rating.refusals import Rejected
from sinks.event_log import EventLog
from tollway.commands.durability import check_durability
from tollway.console import OK, REFUSED, open_input, print_json, say, settings, show, talk
from tollway.embedded import ServerError, servers

CHUNK_BYTES = 1 << 20
REFUSED_SHOWN = 20
REFUSED_LISTED = 1000


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
            disable=not talk.is_terminal,
        ) as progress,
    ):
        task = progress.add_task("ingest", total=size)
        try:
            check_durability(chosen, endpoints.redis_url)
            log = EventLog(endpoints.redis_url, chosen.partitions)
            for lines in _whole_lines(stream):
                good: list[bytes] = []
                for line in lines:
                    number += 1
                    text = (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip()
                    if not text:
                        continue
                    event = decoder.decode(text)
                    if isinstance(event, CloudEvent) and event.time is not None:
                        event = refuse_instant(event.time, text) or event
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
        show(f"{accepted} events are in the log, {refused_total} lines were refused.")
    raise typer.Exit(REFUSED if refused_total else OK)


def _whole_lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """What has come so far, in whole lines: a pipe that is slow does not hold up what it brought."""
    rest = b""
    while chunk := stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if lines:
            yield [line + b"\n" for line in lines]
    if rest:
        yield [rest]
