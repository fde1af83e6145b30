"""
The demo: credits run out while usage streams in, the customer is blocked, and a top-up lets it go on.

Everything is real: embedded servers, the dataflow as a process of its own, events through the log. At the
end all figures are compared with `expected`, a plain calculation over the same events that shares no code
with the engine.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import redis
from msgspec import Struct

import config
from config.settings import Settings
from sinks.event_log import EventLog
from sinks.postgres.connecting import connect
from sinks.postgres.migrate import migrate
from sinks.postgres.statements import statement
from sinks.redis.keys import SIGNALS, balance_key
from tollway import invoicing, ledger_reads
from tollway.catalog_file import apply, load_catalog_file
from tollway.child import start_child
from tollway.control import ControlPlane, GrantDraft
from tollway.embedded import Endpoints, servers, stop_servers

CUSTOMER = "acme"
WELCOME = Decimal(20)
TOP_UP = Decimal(50)
TIER_TOP = 1_000_000
CATALOG = Path(config.__file__).parent / "catalog" / "demo.yaml"
MARK = "made_by_demo"
"""The file that says that the demo's folder may be made anew."""

TICK_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
PAUSE_BEFORE_TOP_UP_SECONDS = 1.5


class DemoFailed(Exception):
    """The demo did not get to its end; the message says where, and where the engine's log is."""


class Picture(Struct):
    """What a view of the demo shows. Written by the demo, read by the view."""

    step: str = "starting"
    sent: int = 0
    rated: int = 0
    live: Decimal = Decimal(0)
    access: str = "–"
    input_tokens: int = 0
    output_tokens: int = 0
    funded: Decimal = WELCOME
    signals: list[dict[str, Any]] = msgspec.field(default_factory=list)
    event_to_block_ms: float | None = None


class Sent(Struct):
    """A batch of events, and when it was handed to the log."""

    at: float
    events: list[dict[str, Any]]


class Expected(Struct):
    """What the plain calculation comes to, exact; amounts on an invoice in cents."""

    input_amount: Decimal
    output_amount: Decimal
    invoice_lines: dict[str, Decimal]

    @property
    def charged(self) -> Decimal:
        """All charges."""
        return self.input_amount + self.output_amount


def expected(tokens_in: int, tokens_out: int) -> Expected:
    """Price sums of tokens in the plainest way there is."""
    first = min(tokens_in, TIER_TOP) * Decimal("0.000003")
    second = max(tokens_in - TIER_TOP, 0) * Decimal("0.0000015")
    output = tokens_out * Decimal("0.000012")
    cents = [part.quantize(Decimal("0.01"), ROUND_HALF_UP, Context(prec=50)) for part in (first, second, output)]
    return Expected(first + second, output, {"input_tokens": cents[0] + cents[1], "output_tokens": cents[2]})


def tokens(events: list[dict[str, Any]]) -> tuple[int, int]:
    """The sums over events: input and output tokens."""
    data = [event["data"] for event in events]
    return sum(used["input_tokens"] for used in data), sum(used["output_tokens"] for used in data)


def spends_welcome_at(batches: list[Sent]) -> float:
    """When the batch was handed to the log whose usage takes the first credits to zero or below."""
    tokens_in = tokens_out = 0
    for batch in batches:
        more_in, more_out = tokens(batch.events)
        tokens_in, tokens_out = tokens_in + more_in, tokens_out + more_out
        if expected(tokens_in, tokens_out).charged >= WELCOME:
            return batch.at
    raise AssertionError("the credits never ran out")


class Demo:
    """
    One run of the demo, in a folder of its own under the home folder.

    Args:
        home: Settings of the process; the demo's data go to `<home>/demo`, made anew.
        count: How many events to send.
        rate: How many a second.
    """

    def __init__(self, chosen: Settings, count: int, rate: int, seed: int) -> None:
        self.settings = msgspec.structs.replace(
            chosen, home=chosen.home / "demo", redis_url=None, postgres_dsn=None, window_seconds=60
        )
        self.count = count
        self.rate = rate
        self.picture = Picture()
        self.engine_log = self.settings.home / "engine.log"
        self._random = random.Random(seed)  # noqa: S311 usage, not secrets
        self._batches: list[Sent] = []
        self._top_ups = 0
        self._over = threading.Event()
        self._blocked_seen_at: float | None = None
        self._failure: BaseException | None = None

    def run(self, report: Any) -> dict[str, Any]:
        """Run it all. Returns the final object, as `--json` prints it. Raises `DemoFailed`."""
        self._clear()
        with servers(self.settings, report=report) as endpoints:
            migrate(endpoints.postgres_dsn)
            plane = ControlPlane(endpoints.postgres_dsn, endpoints.redis_url)
            for change in apply(plane, load_catalog_file(CATALOG)):
                report(f"{change.kind} {change.key}: {change.action}")
            with self._engine(endpoints):
                client = redis.Redis.from_url(endpoints.redis_url, decode_responses=True, protocol=3)
                self._wait_for(lambda: client.hget(balance_key(CUSTOMER), "access") == "allowed", "the first balance")
                watchers = [
                    threading.Thread(target=self._guarded, args=(step, endpoints), daemon=True)
                    for step in (self._watch_signals, self._watch_balance)
                ]
                for watcher in watchers:
                    watcher.start()
                self.picture.step = "usage streams in"
                self._send(endpoints, plane, client)
                self.picture.step = "waiting for the ledger"
                with connect(endpoints.postgres_dsn, autocommit=True) as ledger:
                    self._wait_for(lambda: self._is_settled(ledger), "the ledger")
                time.sleep(2 * TICK_SECONDS)
                self._over.set()
                for watcher in watchers:
                    watcher.join(PATIENCE_SECONDS)
                client.close()
            with connect(endpoints.postgres_dsn, autocommit=True) as ledger:
                self.picture.step = "drawing up the invoice"
                return self._result(ledger)

    def _clear(self) -> None:
        """Make room, and remove nothing but what an earlier demo left."""
        home = self.settings.home
        stop_servers(home)
        if home.exists() and not (home / MARK).exists():
            raise DemoFailed(
                f"`{home}` is there, and is not from a demo: it is left alone\n"
                "hint: move it away, or set `TOLLWAY_HOME` to another folder"
            )
        shutil.rmtree(home, ignore_errors=True)
        # Marked before anything else is in it: a run that ends early leaves what the next one may make anew.
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / MARK).touch()

    @contextmanager
    def _engine(self, endpoints: Endpoints) -> Iterator[None]:
        """The dataflow as a process of its own; it must end well on SIGTERM."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
        environment = {
            "TOLLWAY_HOME": str(self.settings.home),
            "TOLLWAY_WINDOW_SECONDS": str(self.settings.window_seconds),
        }
        with self.engine_log.open("wb") as log:
            process = start_child("run", environment=environment, inherited=inherited, stdout=log, stderr=log)
            self._process = process
            try:
                yield
                process.send_signal(signal.SIGTERM)
                if process.wait(PATIENCE_SECONDS) != 0:
                    raise self._ended(process.returncode)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                if process.stdin is not None:
                    process.stdin.close()

    def _ended(self, code: int) -> DemoFailed:
        return DemoFailed(f"the dataflow ended with exit code {code}\nhint: see `{self.engine_log}`")

    def _send(self, endpoints: Endpoints, plane: ControlPlane, client: Any) -> None:
        """Send events at the chosen rate while the gate is open; top up once it shut."""
        log = EventLog(endpoints.redis_url, self.settings.partitions)
        key = balance_key(CUSTOMER)
        started, paused = time.monotonic(), 0.0
        while self.picture.sent < self.count:
            self._check()
            if client.hget(key, "access") == "blocked":
                pause = time.monotonic()
                self.picture.step = "blocked: the gateway stops serving"
                self._wait_for(lambda: self._blocked_seen_at is not None, "the signal that access is blocked")
                self.picture.event_to_block_ms = self._event_to_block_ms()
                time.sleep(PAUSE_BEFORE_TOP_UP_SECONDS)
                self._top_ups += 1
                with plane.changing() as changes:
                    changes.grant(CUSTOMER, GrantDraft(amount=TOP_UP, key=f"top-up-{self._top_ups}", name="Top-up"))
                self.picture.funded += TOP_UP
                self._wait_for(lambda: client.hget(key, "access") == "allowed", "the top-up to open the gate")
                self.picture.step = "topped up: usage goes on"
                paused += time.monotonic() - pause
            due = int((time.monotonic() - started - paused) * self.rate) + 1
            batch = [self._event() for _ in range(min(due, self.count) - self.picture.sent)]
            if batch:
                handed_over = time.monotonic()
                log.append([msgspec.json.encode(event) for event in batch])
                self._batches.append(Sent(handed_over, batch))
                self.picture.sent += len(batch)
            time.sleep(TICK_SECONDS)
        log.close()

    def _event(self) -> dict[str, Any]:
        data = {
            "input_tokens": self._random.randint(100, 900),
            "output_tokens": self._random.randint(50, 350),
        }
        self.picture.input_tokens += data["input_tokens"]
        self.picture.output_tokens += data["output_tokens"]
        return {
            "specversion": "1.0",
            "id": f"{self._random.getrandbits(96):024x}",
            "source": "demo",
            "type": "prompt",
            "subject": "acme-gateway",
            "time": datetime.now(UTC).isoformat(),
            "data": data,
        }

    def _watch_signals(self, endpoints: Endpoints) -> None:
        client = redis.Redis.from_url(endpoints.redis_url, decode_responses=True)
        subscription = client.pubsub()
        subscription.subscribe(SIGNALS)
        while not self._over.is_set():
            message = subscription.get_message(ignore_subscribe_messages=True, timeout=0.05)
            if message is None:
                continue
            raised = msgspec.json.decode(message["data"])
            if raised["kind"] == "access_blocked" and self._blocked_seen_at is None:
                self._blocked_seen_at = time.monotonic()
            self.picture.signals.append(raised)
        subscription.close()
        client.close()

    def _watch_balance(self, endpoints: Endpoints) -> None:
        client = redis.Redis.from_url(endpoints.redis_url, decode_responses=True)
        first: int | None = None
        while not self._over.wait(TICK_SECONDS):
            found: Any = client.hmget(balance_key(CUSTOMER), "revision", "live", "access")
            revision, live, access = found
            first = int(revision) if first is None else first
            # A revision also counts top-ups.
            self.picture.rated = min(max(int(revision) - first, 0), self.picture.sent)
            self.picture.live = Decimal(live)
            self.picture.access = access
        client.close()

    def _guarded(self, step: Any, endpoints: Endpoints) -> None:
        try:
            step(endpoints)
        except BaseException as failure:
            self._failure = failure

    def _check(self) -> None:
        if self._failure is not None:
            kind = type(self._failure).__name__
            raise DemoFailed(f"watching Redis failed: {kind}\nhint: see `{self.engine_log}`") from self._failure
        if self._process.poll() is not None:
            raise self._ended(self._process.returncode)

    def _wait_for(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {PATIENCE_SECONDS:.0f} s for {what}\nhint: see `{self.engine_log}`")
            time.sleep(TICK_SECONDS / 4)

    def _is_settled(self, ledger: psycopg.Connection[Any]) -> bool:
        found = ledger.execute(statement("events_rated_at_least")).fetchone()
        return found is not None and found[0] >= self.picture.sent

    def _event_to_block_ms(self) -> float | None:
        """From handing over the batch that spent the first credits to the signal; None if they last."""
        if self._blocked_seen_at is None:
            return None
        return round((self._blocked_seen_at - spends_welcome_at(self._batches)) * 1000, 1)

    def _result(self, ledger: psycopg.Connection[Any]) -> dict[str, Any]:
        invoice = invoicing.draw_up(ledger, CUSTOMER)
        balance = ledger_reads.balance(ledger, CUSTOMER)
        charges = ledger_reads.charges(ledger, CUSTOMER)
        transactions = ledger_reads.credit_transactions(ledger, CUSTOMER)
        plain = expected(*tokens([event for batch in self._batches for event in batch.events]))
        funded = WELCOME + self._top_ups * TOP_UP
        consumed = min(plain.charged, funded)
        turns = ["access_blocked", "access_allowed"] * self._top_ups
        if self._top_ups == 0 or plain.charged >= funded:
            turns.append("access_blocked")
        checks = {
            "charges": {charge.feature_key: charge.amount for charge in charges}
            == {"input_tokens": plain.input_amount, "output_tokens": plain.output_amount},
            "credits": (balance.funded, balance.consumed, balance.settled) == (funded, consumed, funded - consumed),
            "transactions": sum(t.amount for t in transactions) == balance.settled,
            "invoice": {line.feature_key: line.totals.amount for line in invoice.lines} == plain.invoice_lines
            and invoice.totals.amount == sum(plain.invoice_lines.values()),
            "signals": [s["kind"] for s in self.picture.signals if s["kind"].startswith("access")] == turns,
        }
        return {
            "events": self.picture.sent,
            "charges": charges,
            "invoice": {"number": invoice.number, "total": invoice.totals.total, "lines": invoice.lines},
            "credits": {
                "funded": balance.funded,
                "consumed": balance.consumed,
                "available": balance.settled,
                "transactions": transactions,
            },
            "signals": self.picture.signals,
            "event_to_block_ms": self._event_to_block_ms(),
            "checks": checks,
            "verified": all(checks.values()) and self._blocked_seen_at is not None,
        }
