"""
Runs the flow: recovery on, clean stop on SIGTERM.

The order of a commit: (1) rows go to Redis and PostgreSQL as they come; (2) `snapshot()` of each sink
finishes what is left; (3) the engine makes the epoch's snapshot durable; (4) source offsets count as consumed.
A crash between any two only repeats writes, and those are absolute.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType

from bytewax._bytewax import run_main
from bytewax.recovery import RecoveryConfig, init_db_dir

from config.settings import Settings
from dataflows.catalog_view import CatalogView
from dataflows.rating_flow import Wiring, rating_flow
from dataflows.redrive import Redrive
from dataflows.sources.control import ControlSource
from dataflows.sources.jsonl import FileSource
from dataflows.sources.streams import StreamSource
from rating.group import Rules
from sinks.event_log import EventLog
from sinks.postgres.ledger import LedgerSink, load_seen_ids
from sinks.redis.balances import BalanceSink

SINK_PARTITIONS = 4
"""Public, like step ids: recovery knows it."""


def rules_of(settings: Settings) -> Rules:
    """The core's rules as the settings have them."""
    return Rules(
        window_seconds=settings.window_seconds,
        late_windows=settings.late_windows,
        dedup_horizon=timedelta(seconds=settings.dedup_horizon_seconds),
        grace=timedelta(seconds=settings.grace_seconds),
        max_ahead=timedelta(seconds=settings.max_ahead_seconds),
    )


def run_engine(
    settings: Settings,
    redis_url: str,
    postgres_dsn: str,
    *,
    files: list[Path] | None = None,
    drain: bool = False,
    stopping: Event | None = None,
) -> None:
    """
    Run until `stopping` is set or SIGTERM or SIGINT arrives; with `drain`, until the log has been read.

    Raises whatever a step raised, once the flow has ended; the next run goes on from the last epoch.
    """
    stopping = stopping or Event()
    log = EventLog(redis_url, settings.partitions)
    view = CatalogView(postgres_dsn)
    view.catch_up()
    usage: dict[str, object] = {
        "events": StreamSource(redis_url, settings.batch_bytes, settings.log_retention_seconds, stopping, drain)
    }
    if files:
        usage["files"] = FileSource(files, settings.batch_bytes, view, stopping)
    flow = rating_flow(
        Wiring(
            view=view,
            usage=usage,  # type: ignore[arg-type]
            control=ControlSource(view, Redrive(postgres_dsn, log, view), stopping, drain),
            rules=rules_of(settings),
            beat=timedelta(milliseconds=settings.beat_ms),
            load_segments=partial(load_seen_ids, postgres_dsn),
            balances=BalanceSink(redis_url, postgres_dsn, SINK_PARTITIONS),
            ledger=LedgerSink(postgres_dsn, SINK_PARTITIONS),
        )
    )
    recovery = None
    if settings.recovery:
        recovery = RecoveryConfig(str(recovery_store(settings)))
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    try:
        with stopping_on_signals(stopping):
            run_main(flow, epoch_interval=timedelta(milliseconds=settings.epoch_ms), recovery_config=recovery)
    finally:
        view.close()


def recovery_store(settings: Settings) -> Path:
    """The folder of the recovery store, made where there is none."""
    path = settings.home / "recovery"
    if not path.exists():
        path.mkdir(parents=True)
        init_db_dir(path, settings.recovery_partitions)
    return path


@contextmanager
def stopping_on_signals(stopping: Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set a flag: the sources then end, and everything drains and is snapshotted."""
    if current_thread() is not main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
