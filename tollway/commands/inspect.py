"""Looking things up: balances, charges, credits, signals, and the events that were not rated."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated, Any

import psycopg
import redis
import typer

from config.settings import SETTINGS, SettingError, Settings
from rating.outcome import ParkCode, RejectCode
from sinks.redis.balances import balance_key
from tollway import ledger_reads
from tollway.commands.dataflow import crash_log, running
from tollway.commands.stores import NothingThere, stores
from tollway.console import BAD_INPUT, NO_SERVER, OK, REFUSED, out, print_json, print_table, settings
from tollway.embedded import Endpoints, ServerError, status

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most, newest first.")]
CustomerKey = Annotated[str, typer.Argument(help="The customer's key or id.")]

DEAD_REASONS = (*RejectCode, "duplicate_mismatch")
FREE_BYTES_MIN = 1 << 30


def balance(customer: CustomerKey, as_json: Json = False) -> None:
    """
    Show what a customer has left, and whether it may go on, as gateways see it.

    Example: tollway balance acme
    """
    with stores() as (endpoints, connection):
        booked = ledger_reads.balance(connection, customer)
        with redis.Redis.from_url(endpoints.redis_url, decode_responses=True) as client:
            live: Any = client.hgetall(balance_key(booked.customer_key))
    if as_json:
        print_json({"customer": booked.customer_key, "visible": live, "ledger": booked})
        return
    print_table(
        f"{booked.customer_key}: {live.get('access', booked.access)} {live.get('reason', booked.reason)}",
        ["", booked.currency],
        [
            ["live", live.get("live", booked.live)],
            ["settled", live.get("settled", booked.settled)],
            ["pending", live.get("pending", booked.pending)],
            ["overage", live.get("overage", booked.overage)],
            ["funded", booked.funded],
            ["consumed", booked.consumed],
            ["expired", booked.expired],
            ["voided", booked.voided],
            ["charged", booked.charged],
            ["uncovered", booked.uncovered],
        ],
    )


def charges(
    customer: CustomerKey,
    windows: Annotated[bool, typer.Option("--windows", help="Show each window of a period.")] = False,
    as_json: Json = False,
) -> None:
    """
    Show what a customer used and was charged, by feature and billing period.

    Example: tollway charges acme --windows --json
    """
    with stores() as (_, connection):
        found = ledger_reads.charges(connection, customer, windows=windows)
    if as_json:
        print_json(found)
        return
    rows: list[list[object]] = []
    for charge in found:
        name = charge.feature_key or charge.card_key
        sums = [charge.usage, charge.amount, charge.commitment, charge.credits, charge.uncovered]
        rows.append([name, charge.period_start, charge.status, *sums])
        for window in charge.windows:
            rows.append(
                [
                    "",
                    window.window_start,
                    "window",
                    window.quantity,
                    window.amount,
                    None,
                    window.credits,
                    window.uncovered,
                ]
            )
    columns = ["feature", "from", "status", "usage", "amount", "commitment", "credits", "uncovered"]
    print_table(f"Charges of {customer}", columns, rows)


def credits_(customer: CustomerKey, as_json: Json = False) -> None:
    """
    Show a customer's grants, and every credit transaction with the balance before and after.

    Example: tollway credits acme
    """
    with stores() as (_, connection):
        grants = ledger_reads.credit_grants(connection, customer)
        transactions = ledger_reads.credit_transactions(connection, customer)
    if as_json:
        print_json({"grants": grants, "transactions": transactions})
        return
    print_table(
        f"Grants of {customer}",
        ["name", "status", "amount", "available", "consumed", "expired", "voided", "expires"],
        [
            [g.name or g.id, g.status, g.amount, g.available, g.consumed, g.expired, g.voided, g.expires_at]
            for g in grants
        ],
    )
    print_table(
        "Transactions",
        ["booked", "type", "feature", "amount", "before", "after"],
        [
            [
                t.booked_at,
                t.type,
                t.feature_key,
                t.amount,
                t.available_balance.before,
                t.available_balance.after,
            ]
            for t in transactions
        ],
    )


def signals(customer: CustomerKey, limit: Limit = 100, as_json: Json = False) -> None:
    """
    Show the signals of a customer: access, thresholds, exhaustion.

    Example: tollway signals acme --json
    """
    with stores() as (_, connection):
        found = ledger_reads.signals(connection, customer, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        f"Signals of {customer}",
        ["raised", "kind", "feature", "reason", "live"],
        [[s.raised_at, s.kind, s.feature_key, s.reason, s.live] for s in found],
    )


def parked(
    reason: Annotated[str | None, typer.Option(help="Only events that wait for this reason.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    Show events that wait: for a customer, a subscription, a feature. They are driven again by themselves.

    Example: tollway parked --reason unknown_subject
    """
    _known(reason, tuple(ParkCode))
    with stores() as (_, connection):
        found = ledger_reads.parked(connection, reason=reason, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        "Parked events",
        ["parked", "reason", "subject", "id", "message"],
        [[p.parked_at, p.reason, p.subject, p.id, p.message] for p in found],
    )


def dead_letters(
    reason: Annotated[str | None, typer.Option(help="Only events refused for this reason.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """
    Show events that were refused, with the reason, the JSON path and the bytes.

    Example: tollway dead-letters --json
    """
    _known(reason, DEAD_REASONS)
    with stores() as (_, connection):
        found = ledger_reads.dead_letters(connection, reason=reason, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        "Dead letters",
        ["recorded", "reason", "path", "message", "raw"],
        [[d.recorded_at, d.reason, d.path, d.message, d.raw[:80].decode(errors="replace")] for d in found],
    )


def _known(reason: str | None, reasons: tuple[str, ...]) -> None:
    if reason is not None and reason not in reasons:
        raise typer.BadParameter(f"`--reason`: expected one of {', '.join(reasons)}, got `{reason[:40]}`")


def doctor(as_json: Json = False) -> None:
    """
    Check settings, servers, schema and ledger, and say what to do about what is wrong.

    The exit code is 2 for a bad setting, 3 for a server that can't be reached, 1 for anything else that is wrong.

    Example: tollway doctor
    """
    checks = _Checks()
    version = ".".join(map(str, sys.version_info[:3]))
    checks.add("python", (3, 11) <= sys.version_info[:2] < (3, 13), f"{version} (3.11 or 3.12 is needed)")
    try:
        chosen = settings()
    except SettingError as failure:
        checks.add("settings", False, str(failure), BAD_INPUT)
    else:
        checks.add("settings", True, f"{len(SETTINGS)} settings, home folder {chosen.home}")
        _check_home(checks, chosen)
        _check_servers(checks, chosen)
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
        checks.add("last end of the dataflow", False, f"a failure: see `{crash}`, then start it again")


def _check_servers(checks: _Checks, chosen: Settings) -> None:
    given = {"Valkey": chosen.redis_url, "PostgreSQL": chosen.postgres_dsn}
    embedded = [server for server in status(chosen.home).servers if given[server.name] is None]
    for server in embedded:
        hint = f": look into `{server.folder / 'server.log'}`" if server.state == "not answering" else ""
        checks.add(f"embedded {server.name}", not hint, server.state + hint, NO_SERVER)
    if any(server.state != "running" for server in embedded):
        checks.add("stores", True, "not looked into: `tollway up` starts the servers")
        return
    try:
        with stores(chosen) as (endpoints, connection):
            checks.add("schema", True, "present")
            _check_ledger(checks, connection)
            _check_durability(checks, endpoints)
    except NothingThere as failure:
        checks.add("schema", False, str(failure))
    except ServerError as failure:
        checks.add("stores", False, str(failure), NO_SERVER)


def _check_ledger(checks: _Checks, connection: psycopg.Connection[Any]) -> None:
    counts = connection.execute(
        "select (select count(*) from parked_events), (select count(*) from dead_letters),"
        " (select count(*) from balances where charged <> consumed + uncovered"
        " or funded <> settled + pending + consumed + expired + voided)"
    ).fetchone()
    assert counts is not None
    parked_count, dead, unbalanced = counts
    checks.add("parked events", True, f"{parked_count} wait" + (": see `tollway parked`" if parked_count else ""))
    checks.add("dead letters", True, f"{dead}" + (": see `tollway dead-letters`" if dead else ""))
    holds = (
        "holds for every customer" if not unbalanced else f"fails for {unbalanced} customers: stop, and ask for help"
    )
    checks.add("conservation", not unbalanced, holds)


def _check_durability(checks: _Checks, endpoints: Endpoints) -> None:
    with redis.Redis.from_url(endpoints.redis_url, decode_responses=True, protocol=3) as client:
        try:
            asked: Any = client.config_get("appendfsync")
        except redis.ResponseError:
            checks.add("event log durability", True, "Redis does not tell: see to it that `appendfsync` is `always`")
            return
    always = asked.get("appendfsync") == "always"
    hint = "an event in the log may be lost when Redis dies: `CONFIG SET appendfsync always`"
    checks.add("event log durability", always, "always" if always else hint)
