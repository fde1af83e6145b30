"""
Runs the flow: recovery on, clean stop on SIGTERM.

The order of a commit: (1) rows go to Redis and PostgreSQL as they come; (2) `snapshot()` of each sink
finishes what is left; (3) the engine makes the epoch's snapshot durable; (4) source offsets count as consumed.
A crash between any two only repeats writes, and those are absolute.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from types import FrameType
from typing import Any

from bytewax._bytewax import cluster_main, run_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.recovery import RecoveryConfig

from config.kafka import KafkaSettings
from config.settings import Settings
from dataflows.catalog_view import CatalogView
from dataflows.catching_up import Following
from dataflows.history import LedgerHistory
from dataflows.kafka_topics import KafkaTopics
from dataflows.log_clock import LogClock
from dataflows.pace import EpochPacer
from dataflows.rating_flow import Wiring, rating_flow
from dataflows.recovery.copies import states
from dataflows.recovery.fits import refuse_older_ledger
from dataflows.recovery.store import ALONE, Cluster, expect_all, recovery_store
from dataflows.redrive import Redrive
from dataflows.sources.control import ControlSource
from dataflows.sources.jsonl import FileSource
from dataflows.sources.streams import StreamSource
from rating.time_rules import TimeRules
from sinks.event_log import EventLog
from sinks.postgres.generations import read_rereads
from sinks.postgres.ledger import LedgerSink, WindowLoader, load_seen_ids, sole_writer
from sinks.redis.balances import BalanceSink

EVENTS_STEP = "events"
SINK_PARTITIONS = 4
"""Public, like step ids: recovery knows them."""


class PeerLost(Exception):
    """
    Another process of the cluster ended, and so this one has to.

    Remedy: start all of them again; they go on from the last epoch. `tollway run --processes` does so by itself.
    """


class _Ending(Event):
    """Set when the flow is to end: by somebody outside, or by a source that needs the flow to begin again."""

    def __init__(self, outside: Event) -> None:
        super().__init__()
        self._outside = outside

    def is_set(self) -> bool:
        return super().is_set() or self._outside.is_set()


def rules_of(settings: Settings) -> TimeRules:
    """The core's rules as the settings have them."""
    return TimeRules(
        window_seconds=settings.window_seconds,
        late_windows=settings.late_windows,
        dedup_horizon=timedelta(seconds=settings.dedup_horizon_seconds),
        grace=timedelta(seconds=settings.grace_seconds),
        max_ahead=timedelta(seconds=settings.max_ahead_seconds),
        lane_check_events=settings.lane_check_events,
    )


def stream_source(settings: Settings, redis_url: str, stopping: Event, *, drain: bool) -> StreamSource:
    """The embedded event log as the settings have it."""
    return StreamSource(
        redis_url,
        settings.batch_bytes,
        settings.log_retention_seconds,
        stopping,
        drain=drain,
        accept_gap=settings.log_accept_gap,
    )


def run_engine(
    settings: Settings,
    redis_url: str,
    postgres_dsn: str,
    *,
    files: list[Path] | None = None,
    kafka: KafkaSettings | None = None,
    drain: bool = False,
    stopping: Event | None = None,
    cluster: Cluster = ALONE,
) -> None:
    """
    Run until `stopping` is set or SIGTERM or SIGINT arrives; with `drain`, until the log has been read.

    As one process of a cluster it waits for the others to start, and ends as soon as one of them does.
    Raises whatever a step raised, once the flow has ended; the next run goes on from the last epoch.
    `PartitionsAdded` is raised after a clean end: all that is needed is another run.
    """
    stopping = _Ending(stopping or Event())
    log = EventLog(redis_url, settings.partitions)
    view = CatalogView(postgres_dsn)
    view.catch_up()
    history = LedgerHistory(postgres_dsn, redis_url, kafka)
    catching_up = history.catching_up
    clock = LogClock(alone=cluster.size == 1)
    stream = stream_source(settings, redis_url, stopping, drain=drain)
    usage: dict[str, object] = {EVENTS_STEP: Following(stream, EVENTS_STEP, catching_up, clock)}
    sources: dict[str, FixedPartitionedSource[Any, Any]] = {EVENTS_STEP: stream}
    if files:
        usage["files"] = sources["files"] = FileSource(files, settings.batch_bytes, view, stopping)
    topics = None
    if kafka is not None:
        topics = KafkaTopics(
            kafka,
            redis_url,
            view,
            batch_bytes=settings.batch_bytes,
            sink_partitions=SINK_PARTITIONS,
            generation=history.generation,
            catching_up=catching_up,
            stopping=stopping,
            drain=drain,
        )
        step_id = topics.source.step_id
        usage[step_id] = Following(topics.source, step_id, catching_up, clock)
        sources[step_id] = topics.source
    rules = rules_of(settings)
    redrive = Redrive(postgres_dsn, log, view, rules, settings.redrive_memory_percent)
    control = ControlSource(view, redrive, stopping, drain)
    windows = WindowLoader(postgres_dsn)
    epoch = timedelta(milliseconds=settings.epoch_ms)
    flow = rating_flow(
        Wiring(
            view=view,
            usage=usage,  # type: ignore[arg-type]
            control=control,
            pace=EpochPacer(epoch, alone=cluster.size == 1),
            clock=clock,
            rules=rules,
            beat=timedelta(milliseconds=settings.beat_ms),
            load_segments=partial(load_seen_ids, postgres_dsn),
            load_windows=windows,
            rereads=read_rereads(postgres_dsn),
            balances=BalanceSink(redis_url, postgres_dsn, SINK_PARTITIONS, history.generation, catching_up),
            ledger=LedgerSink(postgres_dsn, SINK_PARTITIONS),
            kafka=None if topics is None else topics.outputs,
        )
    )
    _spare_garbage_collector()
    try:
        store = _recovery(settings, cluster, sources)
        recovery = None if store is None else RecoveryConfig(str(store))
        with sole_writer(postgres_dsn, cluster.process_id), stopping_on_signals(stopping):
            refuse_older_ledger(store, postgres_dsn, SINK_PARTITIONS)
            history.begin(accepts_gaps=settings.log_accept_gap or bool(kafka is not None and kafka.begin_at))
            # One process of a cluster is enough to look after what Redis remembers.
            with history.keeping() if cluster.process_id == 0 else nullcontext():
                if cluster.size == 1:
                    run_main(flow, epoch_interval=epoch, recovery_config=recovery)
                else:
                    with ending_while_waiting(control.begun):
                        if not stopping.is_set():
                            _run_as_one_of(cluster, flow, epoch, recovery)
        if topics is not None:
            topics.finish()
    finally:
        if topics is not None:
            topics.close()
        windows.close()
        view.close()


def _recovery(
    settings: Settings, cluster: Cluster, sources: dict[str, FixedPartitionedSource[Any, Any]]
) -> Path | None:
    """
    The folder of the recovery store, once it is known that the flow goes on with all that it has read from.

    None: no store is kept.
    """
    if not settings.recovery:
        return None
    store = recovery_store(settings.home, settings.recovery_partitions, cluster, shared=settings.recovery_shared)
    for step_id, source in sources.items():
        # Before the flow has the store open: its locks are the process's.
        expect_all(step_id, states(store, step_id), source.list_parts())
    return store


def _spare_garbage_collector() -> None:
    """What was made up to now stays, and need not be looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def _run_as_one_of(cluster: Cluster, flow: Dataflow, epoch: timedelta, recovery: RecoveryConfig | None) -> None:
    addresses = list(cluster.addresses)
    try:
        cluster_main(flow, addresses, cluster.process_id, epoch_interval=epoch, recovery_config=recovery)
    except BaseException as failure:
        # The runtime panics as it loses a connection; the type can't be imported.
        if type(failure).__name__ != "PanicException":
            raise
        raise PeerLost(
            "another process of the cluster ended, and so did this one\n"
            "hint: start all of them again: they go on from the last epoch"
        ) from failure


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


@contextmanager
def ending_while_waiting(begun: Event) -> Iterator[None]:
    """
    Let SIGTERM and SIGINT end this process at once as long as the flow has not begun.

    It waits then for the other processes of its cluster in code that does not return to Python, so the handlers above
    are not called. Nothing was read yet.
    """
    if current_thread() is not main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while numbers := os.read(reader, 64):
            if not begun.is_set() and {*numbers} & {signal.SIGTERM, signal.SIGINT}:
                sys.stderr.write("Stopped: the other processes of the cluster were not there yet.\n")
                sys.stderr.flush()
                os._exit(0)
        os.close(reader)

    Thread(target=watch, name="waiting", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
