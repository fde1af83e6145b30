"""
What the engine counts, for Prometheus. Base units, no customer in a label.

Counters start at zero with the process; the four ends of an event add up to the events read.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from rating.rows import Outcome

events_total = Counter(
    "tollway_events",
    "Events by how they ended: rated, duplicate, parked or rejected, with the reason.",
    ["end", "reason"],
)
event_to_balance_seconds = Histogram(
    "tollway_event_to_balance_seconds",
    "From the log taking a batch of events to the balance that shows it, one observation per batch.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
sink_seconds = Histogram(
    "tollway_sink_write_seconds",
    "One write to a store.",
    ["store"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


def count(outcome: Outcome) -> None:
    """Add an outcome's events to the counters."""
    for (end, reason), events in outcome.ended.items():
        events_total.labels(end, reason).inc(events)
