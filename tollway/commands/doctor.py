"""`tollway doctor`: looks at everything that has to be right, and says what to do about what is not."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Annotated, Any

import psycopg
import redis
import typer

from config.api import API_SETTINGS, load_api_settings
from config.kafka import load_kafka
from config.settings import SETTINGS, SettingError, Settings
from dataflows.history import why_another
from sinks.kafka.access import newest_access
from sinks.kafka.client import KafkaUnavailable, TopicMissing, admin
from sinks.kafka.topics import look, wanted
from sinks.postgres.generations import read_state
from sinks.postgres.statements import statement
from sinks.redis.durability import read_durability
from sinks.redis.history import control_head, remembered
from tollway.commands.agreement import CHUNK, compare, compare_topic
from tollway.commands.aside import read_aside
from tollway.commands.dataflow import crash_log, running
from tollway.commands.durability import EVERYSEC
from tollway.commands.stores import NothingThere, stores
from tollway.console import BAD_INPUT, NO_SERVER, OK, REFUSED, out, print_json, say, settings
from tollway.embedded import Endpoints, ServerError, status

FREE_BYTES_MIN = 1 << 30
NAMED = 5
TOPIC_SECONDS = 5.0
RESTART = "start the dataflow again: it tells every balance"
RAISE = "if that does not help, stop it, and `tollway recovery raise-generation`"


def doctor(
    everybody: Annotated[
        bool, typer.Option("--all", help="Compare all customers with what gates see, rather than a thousand.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    Check settings, servers, schema, ledger, gate and Kafka, and say what to do about what is wrong.

    Settings are those of the shell that it is called in: another one may have started what runs with others.

    What Redis shows to gates is compared with the ledger: balance, access, revision and generation of a thousand
    customers, or with --all of every customer, and then those in Kafka's topic of access too.

    The exit code is 2 for a bad setting, 3 for a server that can't be reached, 1 for anything else that is wrong.

    Example: tollway doctor

    Example: tollway doctor --all
    """
    checks = _Checks()
    version = ".".join(map(str, sys.version_info[:3]))
    checks.add("python", (3, 11) <= sys.version_info[:2] < (3, 13), f"{version} (3.11 or 3.12 is needed)")
    try:
        chosen = settings()
    except SettingError as failure:
        checks.add("settings", False, str(failure), BAD_INPUT)
    else:
        checks.add("settings", True, f"{len(SETTINGS)} settings, as this shell has them, home folder {chosen.home}")
        _check_home(checks, chosen)
        _check_servers(checks, chosen, everybody)
    _check_api(checks)
    _check_kafka(checks)
    if as_json:
        print_json(checks.found)
    else:
        for entry in checks.found:
            out.print(f"{'ok ' if entry['ok'] else 'BAD'} {entry['check']}: {entry['found']}")
    raise typer.Exit(checks.code)


class _Checks:
    """What was looked at, and the exit code: that of the first thing that is wrong."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.code = OK

    def add(self, name: str, good: bool, found: str, code: int = REFUSED) -> None:
        self.found.append({"check": name, "ok": good, "found": found})
        if not good and self.code == OK:
            self.code = code


def _check_home(checks: _Checks, chosen: Settings) -> None:
    if chosen.home.is_dir():
        free = shutil.disk_usage(chosen.home).free
        enough = free >= FREE_BYTES_MIN
        checks.add("disk", enough, f"{free >> 20} MiB free" + ("" if enough else ": make room, or the servers stop"))
    process = running(chosen.home)
    state = "does not run: `tollway up` starts it" if process is None else f"runs as process {process}"
    checks.add("dataflow", True, state)
    crash = crash_log(chosen.home)
    if process is None and crash.exists():
        why = f"a failure: the end of `{crash}` tells it, and mostly what to do: do that, then start it again"
        if crash.stat().st_size == 0:
            why = (
                "it was killed, and had no time to say why: look whether the system was short of memory (`dmesg`), or"
                f" who ended it, then start it again; it goes on where it was, and `{crash}` is empty"
            )
        checks.add("last end of the dataflow", False, why)


def _check_servers(checks: _Checks, chosen: Settings, everybody: bool) -> None:
    given = {"Valkey": chosen.redis_url, "PostgreSQL": chosen.postgres_dsn}
    embedded = [server for server in status(chosen.home).servers if given[server.name] is None]
    for server in embedded:
        hint = f": look into `{server.folder / 'server.log'}`" if server.state == "not answering" else ""
        checks.add(f"embedded {server.name}", not hint, server.state + hint, NO_SERVER)
    if any(server.state != "running" for server in embedded):
        checks.add("stores", True, "not looked into, since they do not run: `tollway up` starts them")
        return
    try:
        with stores(chosen) as (endpoints, connection):
            checks.add("schema", True, "present")
            _check_ledger(checks, connection)
            _check_aside(checks, connection, chosen)
            _check_durability(checks, endpoints, chosen)
            _check_gate(checks, endpoints, connection, everybody)
    except NothingThere as failure:
        checks.add("schema", False, str(failure))
    except ServerError as failure:
        checks.add("stores", False, str(failure), NO_SERVER)


def _check_ledger(checks: _Checks, connection: psycopg.Connection[Any]) -> None:
    counts = connection.execute(statement("health_of_ledger")).fetchone()
    assert counts is not None
    parked_count, parts, dead, unbalanced = counts
    checks.add("parked events", True, f"{parked_count} wait" + (": see `tollway parked`" if parked_count else ""))
    waiting = f"{parts} values of rated events wait" + (
        ": see `tollway unpriced`, `tollway parked --parts`" if parts else ""
    )
    checks.add("unpriced usage", True, waiting)
    checks.add("dead letters", True, f"{dead}" + (": see `tollway dead-letters`" if dead else ""))
    holds = (
        "holds for every customer" if not unbalanced else f"fails for {unbalanced} customers: stop, and ask for help"
    )
    checks.add("conservation", not unbalanced, holds)


def _check_aside(checks: _Checks, connection: psycopg.Connection[Any], chosen: Settings) -> None:
    """Name the customers at whose data the engine failed; only a dataflow of this home tells of them."""
    found = read_aside(chosen.home) if running(chosen.home) is not None else {}
    keys = dict(connection.execute(statement("customer_keys_of_ids"), ([*found],)).fetchall())
    named = [f"{keys.get(customer_id, customer_id)} ({how})" for customer_id, how in [*found.items()][:NAMED]]
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    remedy = "usage of these waits: report it; a record of the customer, or a start, tries again"
    told = f"{len(found)}: {', '.join(named)}{more}; {remedy}" if found else "nobody"
    checks.add("customers set aside", not found, told)


def _check_gate(checks: _Checks, endpoints: Endpoints, connection: psycopg.Connection[Any], everybody: bool) -> None:
    """Compare what gates see with the ledger."""

    def progress(done: int, of: int) -> None:
        if everybody and of > CHUNK:
            say(f"{done} of {of} customers compared")

    with redis.Redis.from_url(endpoints.redis_url, protocol=3) as client:
        seen, head = remembered(client), control_head(client)
        ledger = read_state(connection)
        why = why_another(ledger, seen, head) if ledger.commits else None
        found = f"generation {ledger.generation} of the ledger" if why is None else f"{why}: {RESTART}"
        checks.add("history", why is None, found)
        agreement = compare(connection, client, ledger.generation, everybody=everybody, progress=progress)
    checks.add("gate", *_told(agreement.differing, f"{agreement.looked_at} of {agreement.of} customers compared"))
    strangers = [f"{key} is not in the ledger" for key in agreement.unknown]
    checks.add("customers of the gate", *_told(strangers, "all are in the ledger"))
    if everybody:
        _check_topic(checks, connection, ledger.generation)


def _check_topic(checks: _Checks, connection: psycopg.Connection[Any], generation: int) -> None:
    """Compare the topic of access with the ledger."""
    try:
        kafka = load_kafka(os.environ)
        if kafka is None or not kafka.topic_access:
            return
        lines = compare_topic(connection, newest_access(kafka), generation)
        if lines:
            # The topic is told once an epoch: who was told meanwhile agrees now.
            time.sleep(TOPIC_SECONDS)
            again = set(lines)
            lines = [line for line in compare_topic(connection, newest_access(kafka), generation) if line in again]
    except (SettingError, KafkaUnavailable, TopicMissing):
        return  # told by the check of Kafka
    checks.add("topic of access", *_told(lines, "as the ledger"))


def _told(lines: list[str], good: str) -> tuple[bool, str]:
    """Whether there is nothing to tell, and what to say."""
    if not lines:
        return True, good
    more = f", and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return False, f"{len(lines)} differ: {' | '.join(lines[:NAMED])}{more}: {RESTART}; {RAISE}"


def _check_durability(checks: _Checks, endpoints: Endpoints, chosen: Settings) -> None:
    with redis.Redis.from_url(endpoints.redis_url, decode_responses=True, protocol=3) as client:
        found = read_durability(client)
    faults = found.faults(everysec=chosen.log_durability == EVERYSEC)
    good = f"appendonly {found.appendonly}, appendfsync {found.appendfsync}, maxmemory-policy {found.policy}"
    if found.untold:
        good = f"Redis does not tell {', '.join(found.untold)}: see to it that what is confirmed is on disk and stays"
    checks.add("event log durability", not faults, "; ".join(faults) or good)


def _check_api(checks: _Checks) -> None:
    try:
        listening = load_api_settings(os.environ)
    except SettingError as failure:
        checks.add("API settings", False, str(failure), BAD_INPUT)
    else:
        place = f"{listening.host}:{listening.port}"
        checks.add(
            "API settings",
            True,
            f"{len(API_SETTINGS)} settings, as this shell has them: an API started from here listens on {place}",
        )


def _check_kafka(checks: _Checks) -> None:
    try:
        kafka = load_kafka(os.environ)
        if kafka is None:
            checks.add("Kafka", True, "not set: usage comes from the embedded event log")
            return
        topics = wanted(kafka)
        missing = [topic.name for topic, seen in zip(topics, look(admin(kafka), topics), strict=True) if seen is None]
    except SettingError as failure:
        checks.add("Kafka", False, str(failure), BAD_INPUT)
    except KafkaUnavailable as failure:
        checks.add("Kafka", False, str(failure), NO_SERVER)
    else:
        found = f"missing: {', '.join(missing)}; `tollway kafka init` makes them" if missing else "all topics are there"
        checks.add("Kafka", not missing, found)
