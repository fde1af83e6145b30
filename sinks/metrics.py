"""
What the engine counts, for Prometheus. Base units, no customer in a label.

Counters start at zero with the process; the four ends of an event add up to the events read. What is read again after
a crash is counted again. What the ledger holds is told as gauges, read from the ledger itself, and only by the first
process of a cluster: so it is right after a crash, and sums over processes count nothing twice.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Callable, Mapping
from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from rating.outcome import Outcome
from rating.refusals import ParkCode, RejectCode

METERS_MAX = 100
"""So many meters are told apart where a label names one; the others are `OTHER_METERS` together."""
OTHER_METERS = "(others)"
"""No meter can have it for a key."""

SIGNAL_KINDS = (
    "access_blocked",
    "access_allowed",
    "credits_exhausted",
    "balance_low",
    "balance_recovered",
    "feature_blocked",
    "feature_allowed",
)
"""As `balances.lua` raises them."""

_WRITE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

engine_info = Gauge(
    "tollway_engine_info",
    "1, with the version, and which process of how many this is.",
    ["version", "process_id", "processes"],
)
events_total = Counter(
    "tollway_events",
    "Events by how they ended: rated, duplicate, parked or rejected, with the reason.",
    ["end", "reason"],
)
duplicate_mismatches_total = Counter(
    "tollway_duplicate_mismatches", "Duplicates whose content differs from the event that was rated."
)
refused_values_total = Counter(
    "tollway_refused_values",
    "Events that were rated for other meters than this one, for which they have no value, by why.",
    ["meter", "reason"],
)
wrong_lanes_total = Counter(
    "tollway_wrong_lanes",
    "Folds by the fast way that a check found to be wrong, and that went the slow way. Anything but 0 is a defect.",
)
customers_aside = Gauge(
    "tollway_customers_aside",
    "Customers at whose data the engine failed, and whose usage waits. Anything but 0 is a defect.",
    ["key_group"],
)
unpriced_events_total = Counter(
    "tollway_unpriced_events",
    "Events that were rated but for their usage of this meter, which no feature of the customer's plan prices.",
    ["meter"],
)
source_lag_seconds = Gauge(
    "tollway_source_lag_seconds",
    "Time since all of a partition was known to be read, or since the newest entry that was read had been received.",
    ["source", "partition"],
)
source_lag_messages = Gauge(
    "tollway_source_lag_messages",
    "Offsets between what was read of a Kafka partition and its end.",
    ["source", "partition"],
)
watermark_timestamp_seconds = Gauge(
    "tollway_watermark_timestamp_seconds",
    "The newest event time that a key group has seen, or when it got its first, in Unix time; NaN if it has had none.",
    ["key_group"],
)
event_to_balance_seconds = Histogram(
    "tollway_event_to_balance_seconds",
    "From the log taking a batch of events to the balance that shows it, one observation per batch.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
ingest_to_signal_seconds = Histogram(
    "tollway_ingest_to_signal_seconds",
    "From the log taking the batch whose usage changed access to the signals that say so.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
signals_total = Counter("tollway_signals", "Signals raised, by kind.", ["kind"])
ledger_rows_total = Counter(
    "tollway_ledger_rows", "Rows merged into a table of the ledger; one that is told again counts again.", ["table"]
)
sink_seconds = Histogram("tollway_sink_write_seconds", "One write to a store.", ["store"], buckets=_WRITE_SECONDS)
sink_flush_seconds = Histogram(
    "tollway_sink_flush_seconds",
    "At the end of an epoch, waiting until a store has what is left; one observation per sink partition.",
    ["store"],
    buckets=(*_WRITE_SECONDS, 10.0, 30.0),
)
epoch_seconds = Histogram(
    "tollway_epoch_seconds",
    "From one snapshot to the next.",
    buckets=(0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0, 30.0, 60.0),
)
customers = Gauge("tollway_customers", "Customers that have a balance, by access: allowed or blocked.", ["access"])
charged_amount = Gauge("tollway_charged_amount", "What all customers were charged up to now.", ["currency"])
consumed_amount = Gauge("tollway_consumed_amount", "What credits paid of it.", ["currency"])
uncovered_amount = Gauge("tollway_uncovered_amount", "What no credits paid of it.", ["currency"])
live_amount = Gauge("tollway_live_amount", "What all customers have left, overage taken off.", ["currency"])
unbalanced_customers = Gauge(
    "tollway_unbalanced_customers",
    "Customers whose money does not add up to the last digit. Anything but 0 is a defect.",
)
parked_events = Gauge(
    "tollway_parked_events", "Events of which nothing was rated yet, by what they wait for.", ["reason"]
)
parked_parts = Gauge(
    "tollway_parked_parts",
    "Rated events of which the usage of one meter waits, by reason: for a price, or since its billing period closed.",
    ["reason", "meter"],
)
redriven_events_total = Counter("tollway_redriven_events", "Waiting events that were put back into the event log.")
redrive_seconds = Histogram(
    "tollway_redrive_seconds",
    "How long the flow was held up, once, by looking at events that wait.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
)
redrive_failures_total = Counter(
    "tollway_redrive_failures", "Failures to look at events that wait, or at one of them; it is tried again."
)
ledger_read_timestamp_seconds = Gauge(
    "tollway_ledger_read_timestamp_seconds", "When customers, amounts and parked events were read from the ledger."
)
recovery_copied_timestamp_seconds = Gauge(
    "tollway_recovery_copied_timestamp_seconds",
    "When the recovery store was last copied, or copying began; 0 in a process that does not copy it.",
)

# A counter that is there from the start, at 0, shows its first increase.
events_total.labels("rated", "")
events_total.labels("duplicate", "")
for _park_code in ParkCode:
    events_total.labels("parked", _park_code)
for _reject_code in RejectCode:
    events_total.labels("rejected", _reject_code)
for _kind in SIGNAL_KINDS:
    signals_total.labels(_kind)


def count(outcome: Outcome) -> None:
    """Add an outcome's events to the counters."""
    for (end, reason), events in outcome.ended.items():
        events_total.labels(end, reason).inc(events)
    for rejected in outcome.rejected:
        if rejected.meter:
            refused_values_total.labels(_meter_label(rejected.meter), rejected.code).inc()
    if outcome.wrong_lanes:
        wrong_lanes_total.inc(outcome.wrong_lanes)
    for parked in outcome.parked:
        if parked.code is ParkCode.UNPRICED:
            unpriced_events_total.labels(_meter_label(parked.meter)).inc()
    if outcome.mismatches:
        duplicate_mismatches_total.inc(len(outcome.mismatches))


_meters: set[str] = set()


def _meter_label(meter: str) -> str:
    """A meter as a label has it: the first `METERS_MAX` of this process by their keys."""
    if meter not in _meters:
        if len(_meters) >= METERS_MAX:
            return OTHER_METERS
        _meters.add(meter)
    return meter


def tell_parked(counts: list[tuple[str, str, int]]) -> None:
    """
    Tell how many events wait.

    Args:
        counts: By reason and meter, the most first; the meter is empty for whole events.
    """
    whole = {reason: count for reason, meter, count in counts if not meter}
    for code in ParkCode:
        parked_events.labels(code).set(whole.get(code, 0))
    parts: Counts[tuple[str, str]] = Counts()
    named: set[str] = set()
    for reason, meter, count in counts:
        if not meter:
            continue
        if meter in named or len(named) < METERS_MAX:
            named.add(meter)
            parts[reason, meter] += count
        else:
            parts[reason, OTHER_METERS] += count
    for gone in _told_parts - parts.keys():
        parked_parts.remove(*gone)
        _told_parts.discard(gone)
    for (reason, meter), count in parts.items():
        parked_parts.labels(reason, meter).set(count)
        _told_parts.add((reason, meter))


_told_parts: set[tuple[str, str]] = set()


def count_signals(kinds: list[bytes]) -> None:
    """Add signals that were raised just now to the counters."""
    for kind in kinds:
        signals_total.labels(kind.decode()).inc()


class SourceLag:
    """
    How far one partition of a source is behind at most; asked at each scrape, from another thread.

    Args:
        source: How metrics name the source.
        partition: How they name the partition.
        received_at: When what was read last had been received, in Unix time; None where that is not known.
    """

    def __init__(self, source: str, partition: str, received_at: float | None) -> None:
        self._labels = (source, partition)
        self._at_end = 0.0
        self._behind_since = time.time() if received_at is None else received_at
        source_lag_seconds.labels(*self._labels).set_function(self.seconds)

    def read(self, received_at: float) -> None:
        """Something was read that had been received at an instant, in Unix time."""
        self._behind_since = max(received_at, self._at_end)

    def read_all(self) -> None:
        """There is nothing more to read now."""
        self._behind_since = self._at_end = time.time()

    def seconds(self) -> float:
        """Time since all was known to be read, or since the newest that was read had been received."""
        return max(time.time() - self._behind_since, 0.0)

    def messages(self, behind: int) -> None:
        """So many offsets are there to be read."""
        source_lag_messages.labels(*self._labels).set(behind)

    def close(self) -> None:
        """The partition ended: it has no lag any more."""
        source_lag_seconds.remove(*self._labels)
        source_lag_messages.remove(*self._labels)


def watch_watermark(key_group: int, seconds: Callable[[], float]) -> None:
    """Let a key group be asked for the newest event time it has seen, NaN for none, at each scrape."""
    watermark_timestamp_seconds.labels(str(key_group)).set_function(seconds)


_aside: dict[int, Callable[[], Mapping[str, str]]] = {}
"""Of each key group of this process what it set aside, as `watch_aside` was told."""


def watch_aside(key_group: int, customers: Callable[[], Mapping[str, str]]) -> None:
    """Let a key group be asked which customers are set aside, and why: how many, at each scrape."""
    _aside[key_group] = customers
    customers_aside.labels(str(key_group)).set_function(lambda: len(customers()))


def set_aside() -> dict[str, str]:
    """By the id of each customer that is set aside in this process now, what failed at its data."""
    return {customer_id: how for customers in [*_aside.values()] for customer_id, how in dict(customers()).items()}


def serve(host: str, port: int, process_id: int, processes: int) -> None:
    """
    Serve the metrics over HTTP until the process ends.

    Raises:
        OSError: The address is not one of this machine, or somebody has the port.
    """
    engine_info.labels(version("tollway"), str(process_id), str(processes)).set(1)
    start_http_server(port, addr=host)
