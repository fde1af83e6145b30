"""The recovery store: copied while the dataflow runs, and made anew when it is lost."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from threading import Event
from typing import Annotated, Any

import typer

from config.kafka import load_kafka
from dataflows.engine import stream_source
from dataflows.recovery.copies import Copied, copies, copy_store
from dataflows.recovery.rebuild import Source, rebuild
from dataflows.recovery.store import FOLDER
from dataflows.sources.kafka import KafkaSource
from sinks.event_log import EventLog
from sinks.postgres.connecting import connect
from sinks.postgres.generations import raise_generation
from sinks.postgres.ledger import sole_writer
from sinks.postgres.migrate import migrate
from tollway.child import OPTION, end_with_parent
from tollway.commands.dataflow import alone
from tollway.commands.stores import stores
from tollway.console import instant, print_json, print_table, say, settings
from tollway.embedded import servers

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(
    help="Copy the recovery store into PostgreSQL, and make a lost one anew.\n\nExample: tollway recovery rebuild",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("copy")
def copy(
    at: Annotated[
        str, typer.Option(help="What instant, RFC 3339, or date (its start in UTC) to name the copy by. Default: now.")
    ] = "",
    ends_with_input: Annotated[bool, typer.Option(OPTION, hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """
    Copy the recovery store of the home folder into PostgreSQL now, whether the dataflow runs or not.

    A dataflow does so by itself every TOLLWAY_RECOVERY_COPY_SECONDS.

    Example: tollway recovery copy
    """
    if ends_with_input:
        end_with_parent()
    copied_at = instant(at, "--at") if at else datetime.now(UTC)
    chosen = settings()
    with stores(chosen) as (endpoints, _):
        made = copy_store(chosen.home / FOLDER, endpoints.postgres_dsn, copied_at)
    _show([made], as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """
    List the copies of the recovery store that there are, the newest first.

    Example: tollway recovery list
    """
    with stores() as (_, connection):
        found = copies(connection)
    _show(found, as_json)


@app.command("rebuild")
def rebuild_(as_json: Json = False) -> None:
    """
    Make the recovery store anew that the home folder has lost, from its newest copy and the event log since.

    The dataflow has to be stopped. The ledger is taken back to the time of the copy, and what came after it is rated
    again when the dataflow is started. Without a copy all is rated again, if the event log goes back to its beginning.
    Where the log has a gap, that is said, and nothing is changed. The generation of the ledger is raised, so that all
    that was told to Redis and Kafka before gives way to what is told from then on.

    Example: tollway recovery rebuild
    """
    chosen = settings()
    kafka = load_kafka(os.environ)
    with servers(chosen, report=say) as endpoints, alone(chosen.home), ExitStack() as stack:
        migrate(endpoints.postgres_dsn)
        EventLog(endpoints.redis_url, chosen.partitions).close()
        stopping = Event()
        usage: dict[str, Source] = {"events": stream_source(chosen, endpoints.redis_url, stopping, drain=True)}
        if kafka is not None:
            topic = KafkaSource(kafka, endpoints.redis_url, chosen.batch_bytes, stopping, drain=True)
            stack.callback(topic.close)
            usage[topic.step_id] = topic
        rebuilt = rebuild(chosen.home / FOLDER, endpoints.postgres_dsn, usage, chosen.recovery_partitions)
    since = "its beginning" if rebuilt.copy is None else f"{rebuilt.copy.copied_at:%Y-%m-%d %H:%M:%S} UTC"
    say(f"Made the recovery store anew. Start the dataflow: it reads the log again from {since} on.")
    if as_json:
        print_json(
            {
                "store": str(rebuilt.store),
                "copied_at": rebuilt.copy and rebuilt.copy.copied_at,
                "rows_taken_back": rebuilt.rows_taken_back,
                "generation": rebuilt.generation,
            }
        )
    else:
        print_table(
            "",
            ["store", "copied at", "rows taken back", "generation"],
            [[rebuilt.store, rebuilt.copy and rebuilt.copy.copied_at, rebuilt.rows_taken_back, rebuilt.generation]],
        )


@app.command("raise-generation")
def raise_generation_(
    why: Annotated[str, typer.Option(help="Why, for those who come after you.")] = "by hand",
    as_json: Json = False,
) -> None:
    """
    Begin another generation of the ledger, so that all that Redis, gates and topics know gives way to the ledger.

    The dataflow has to be stopped; it tells every balance when it is started. It does so by itself where it sees that
    the ledger was restored, and so does `tollway recovery rebuild`.

    Example: tollway recovery raise-generation --why "restored from last night's backup"
    """
    with (
        stores() as (endpoints, _),
        sole_writer(endpoints.postgres_dsn, process_id=0),
        connect(endpoints.postgres_dsn) as connection,
    ):
        generation = raise_generation(connection, why)
    say("Start the dataflow: it tells every balance in the new generation.")
    if as_json:
        print_json({"generation": generation, "why": why})
    else:
        print_table("", ["generation", "why"], [[generation, why]])


def _show(found: list[Copied], as_json: bool) -> None:
    if as_json:
        print_json([_shown(copied) for copied in found])
    else:
        print_table(
            "",
            ["copied at", "partitions", "epoch", "bytes"],
            [[made.copied_at, f"{len(made.parts)} of {made.of_parts}", made.epoch, made.size] for made in found],
        )


def _shown(made: Copied) -> dict[str, Any]:
    return {
        "copied_at": made.copied_at,
        "parts": made.parts,
        "of_parts": made.of_parts,
        "epoch": made.epoch,
        "bytes": made.size,
    }
