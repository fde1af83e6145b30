"""Running: the servers and the dataflow."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Annotated

import msgspec
import typer

from config.api import ApiSettings, load_api_settings
from config.kafka import load_kafka
from config.logs import keep_few_alike
from config.settings import SettingError, Settings
from dataflows.engine import run_engine, stopping_on_signals
from dataflows.recovery.store import ALONE, Cluster, recovery_store
from dataflows.sources.kafka import PartitionsAdded
from sinks import metrics
from sinks.postgres.migrate import migrate
from sinks.postgres.totals import telling_totals
from tollway.api.server.listen import Place, held
from tollway.child import OPTION, end_with_parent
from tollway.commands.aside import telling_aside
from tollway.commands.asking import asks_for_keys
from tollway.commands.cluster import supervise
from tollway.commands.copying import copying
from tollway.commands.dataflow import alone, crash_log, crashing_into, running
from tollway.commands.durability import check_durability
from tollway.commands.serving import serving
from tollway.console import say, settings
from tollway.embedded import servers, stop_servers

EVERY_ADDRESS = ("0.0.0.0", "::", "[::]", "*")  # noqa: S104 - they are refused
"""What some programs take for all addresses of a machine."""


def up(
    drain: Annotated[
        bool, typer.Option("--drain", help="End once the log has been read, instead of waiting; no API.")
    ] = False,
    api: Annotated[bool, typer.Option("--api/--no-api", help="Serve the HTTP API too.")] = True,
) -> None:
    """
    Start the embedded servers, the dataflow and the HTTP API, until Ctrl-C or SIGTERM.

    Servers given by TOLLWAY_REDIS_URL and TOLLWAY_POSTGRES_DSN are used as they are. All data are in the folder
    TOLLWAY_HOME, and are there again at the next start. The API listens on TOLLWAY_API_HOST and TOLLWAY_API_PORT,
    127.0.0.1 and 8888 by default.

    Example: tollway up
    """
    listening = load_api_settings(os.environ)
    _rate(settings(), drain=drain, listening=listening if api and not drain else None)


def run(
    file: Annotated[list[Path] | None, typer.Option(help="Also read this JSONL file of CloudEvents, once.")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End once the log and the files have been read.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Start so many processes here, and start all again when one dies.")
    ] = None,
    process_id: Annotated[
        int | None, typer.Option(min=0, help="Which process of a cluster across machines this is, from 0.")
    ] = None,
    addresses: Annotated[
        str | None, typer.Option(help="HOST:PORT of every process of the cluster, in order, with commas between.")
    ] = None,
    ends_with_input: Annotated[bool, typer.Option(OPTION, hidden=True)] = False,
) -> None:
    """
    Run the dataflow only, on servers that run already or that the settings name.

    It logs to standard error, at the level TOLLWAY_LOG_LEVEL. Of one home, one dataflow runs at a time. The number of
    processes may be another one at each start.

    Example: tollway run --file usage.jsonl --drain

    Example: tollway run --processes 2

    Example: tollway run --process-id 0 --addresses rating-0:2101,rating-1:2101
    """
    chosen = settings()
    files = [_regular(path) for path in file or []]
    if processes is not None:
        if process_id is not None or addresses is not None:
            raise typer.BadParameter(
                "`--processes` starts the whole cluster: leave `--process-id` and `--addresses` out"
            )
        _supervise(chosen, processes, files, drain=drain)
        return
    if ends_with_input:
        end_with_parent()
    cluster = _cluster(process_id, addresses)
    if ends_with_input and cluster is not None and chosen.metrics_port:
        # The processes of a supervised cluster share a machine.
        chosen = msgspec.structs.replace(chosen, metrics_port=chosen.metrics_port + cluster.process_id)
    _rate(chosen, files=files, drain=drain, cluster=cluster)


def down(quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False) -> None:
    """
    Stop embedded servers that were left running in the home folder.

    Example: tollway down
    """
    stopped = stop_servers(settings().home)
    if not quiet:
        say("Stopped the embedded servers." if stopped else "No embedded server was running.")


def _cluster(process_id: int | None, addresses: str | None) -> Cluster | None:
    """The place in a cluster across machines, if there is one."""
    if process_id is None and addresses is None:
        return None
    if process_id is None or addresses is None:
        raise typer.BadParameter("`--process-id` and `--addresses` go together: give both, or neither")
    found = tuple(address.strip() for address in addresses.split(","))
    for address in found:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise typer.BadParameter(f"`--addresses`: expected HOST:PORT, got `{address[:60]}`, as in rating-0:2101")
        if host in EVERY_ADDRESS:
            raise typer.BadParameter(
                f"`--addresses`: expected the address by which the others reach a process, got `{address[:60]}`; it"
                " listens there and nowhere else, since whoever reaches it can do what the dataflow can"
            )
    if process_id >= len(found):
        raise typer.BadParameter(
            f"`--process-id`: expected 0 to {len(found) - 1}, one of `--addresses`, got {process_id}"
        )
    _warn_of_strangers(found[process_id].rpartition(":")[0])
    return Cluster(process_id, found)


def _warn_of_strangers(host: str) -> None:
    """Tell where a process of a cluster listens for the others on an address of the public network."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError:
        return  # the dataflow tells that it can't be looked up
    if any(ipaddress.ip_address(str(place[4][0]).partition("%")[0]).is_global for place in found):
        say(
            f"WARNING: `--addresses` has this process listen on `{host}`, which is public: whoever reaches it can do"
            " what the dataflow can. Use an address of a network of its own, and let only the other processes in."
        )


def _supervise(chosen: Settings, size: int, files: list[Path], *, drain: bool) -> None:
    """Run a cluster of processes on this machine."""
    if chosen.recovery and size > chosen.recovery_partitions:
        raise SettingError(
            f"Bad setting `TOLLWAY_RECOVERY_PARTITIONS`: expected at least {size}, the number of processes, got"
            f" `{chosen.recovery_partitions}`\nhint: it is fixed once the recovery store exists; start fewer processes"
        )
    stopping = Event()
    arguments = [*(["--drain"] if drain else []), *(f"--file={path}" for path in files)]
    kafka = load_kafka(os.environ)
    with servers(chosen, report=say) as endpoints, alone(chosen.home), stopping_on_signals(stopping):
        check_durability(chosen, endpoints.redis_url, refuse=kafka is None)
        applied = migrate(endpoints.postgres_dsn)
        if applied:
            say(f"Schema: applied {', '.join(applied)}")
        if chosen.recovery:
            recovery_store(chosen.home, chosen.recovery_partitions)
        environment = {
            "TOLLWAY_HOME": str(chosen.home),
            "TOLLWAY_REDIS_URL": endpoints.redis_url,
            "TOLLWAY_POSTGRES_DSN": endpoints.postgres_dsn,
        }
        say(f"{size} processes run the dataflow. Stop them with Ctrl-C.")
        supervise(size, arguments, environment, stopping)
        say("Stopped: everything read is in the ledger.")


def _rate(
    chosen: Settings,
    files: list[Path] | None = None,
    *,
    drain: bool = False,
    listening: ApiSettings | None = None,
    cluster: Cluster | None = None,
) -> None:
    """Run the dataflow on servers, alone in its home, and beside it the API if it is to listen."""
    kafka = load_kafka(os.environ)
    stopping = Event()
    place = cluster.process_id if cluster is not None else None
    keeps_store = chosen.recovery and not (place and chosen.recovery_shared)
    api_place = _check_ports(chosen, listening, place)
    with (
        servers(chosen, report=say) as endpoints,
        alone(chosen.home, place),
        # From before the word that the dataflow runs: a signal right after it is no failure.
        stopping_on_signals(stopping),
    ):
        if not place:
            check_durability(chosen, endpoints.redis_url, refuse=kafka is None)
        applied = migrate(endpoints.postgres_dsn)
        if applied:
            say(f"Schema: applied {', '.join(applied)}")
        if listening is not None and api_place is not None:
            asks_for_keys(listening, api_place, endpoints.postgres_dsn)  # refuses where there are none
        _serve_metrics(chosen.metrics_host, chosen.metrics_port, cluster or ALONE)
        with (
            serving(listening, stopping) if listening else nullcontext(),
            telling_totals(endpoints.postgres_dsn) if chosen.metrics_port and not place else nullcontext(),
            copying(chosen, endpoints) if keeps_store else nullcontext(),
            telling_aside(chosen.home, place),
        ):
            say(
                "The dataflow runs until the log has been read." if drain else "The dataflow runs. Stop it with Ctrl-C."
            )
            with crashing_into(crash_log(chosen.home, place)):
                logging.basicConfig(level=chosen.log_level.upper(), stream=sys.stderr)
                keep_few_alike()
                redis_url, postgres_dsn = endpoints.redis_url, endpoints.postgres_dsn
                again = True
                while again:
                    again = False
                    try:
                        run_engine(
                            chosen,
                            redis_url,
                            postgres_dsn,
                            files=files,
                            kafka=kafka,
                            drain=drain,
                            stopping=stopping,
                            cluster=cluster or ALONE,
                        )
                    except PartitionsAdded as added:
                        say(f"{str(added).splitlines()[0]}: the dataflow begins again.")
                        again = not stopping.is_set()
        say("Stopped: everything read is in the ledger.")


def _check_ports(chosen: Settings, listening: ApiSettings | None, process_id: int | None) -> Place | None:
    """
    See that the ports are free before any server is started.

    Returns:
        Where the API will listen, if it is to. None too where a dataflow of this home seems to run, which is refused by
        its lock: that the port is taken would be half of the story.

    Raises:
        SettingError: A port is taken, or an address is none of this machine.
    """
    if running(chosen.home, process_id) is not None:
        return None
    if chosen.metrics_port:
        family = socket.AF_INET6 if ":" in chosen.metrics_host else socket.AF_INET
        try:
            with socket.create_server((chosen.metrics_host, chosen.metrics_port), family=family):
                pass
        except OSError as error:
            raise _no_metrics(chosen.metrics_host, chosen.metrics_port, error) from error
    if listening is None:
        return None
    with held(listening) as place:
        return place


def _serve_metrics(host: str, port: int, cluster: Cluster) -> None:
    if not port:
        return
    try:
        metrics.serve(host, port, cluster.process_id, cluster.size)
    except OSError as error:
        raise _no_metrics(host, port, error) from error
    say(f"Metrics: http://{host}:{port}/metrics")


def _no_metrics(host: str, port: int, error: OSError) -> SettingError:
    return SettingError(
        f"Bad setting `TOLLWAY_METRICS_PORT`: port {port} of {host} can't be opened: {error.strerror}\n"
        "hint: name a free port, or leave it out for no metrics"
    )


def _regular(path: Path) -> Path:
    """The absolute path, by which the recovery store knows how far a file was read."""
    if not path.is_file():
        raise typer.BadParameter(
            f"`--file`: `{path}` is not a file\nhint: give the path of a JSONL file of CloudEvents"
        )
    return path.absolute()
