"""
What the API counts, for Prometheus, in a registry of its own: the engine's metrics are the engine's to tell.

Where several workers serve, each writes to files in the folder that `FOLDER` names, and whichever is asked adds them
up. Base units; a route is counted as it is written, so no label has a customer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which the Prometheus client shares metrics; it is read when that is imported."""

PREFIX: Final = "tollway_api_"

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

registry = CollectorRegistry()

requests_total = Counter("tollway_api_requests", "Requests answered.", ["method", "route", "status"], registry=registry)
request_seconds = Histogram(
    "tollway_api_request_seconds",
    "From a request's arrival to the start of its answer.",
    ["method", "route"],
    buckets=_SECONDS,
    registry=registry,
)
refused_total = Counter(
    "tollway_api_refused",
    "Requests that no operation answered: by a wrong name, without a key, not allowed, to nowhere, badly filtered, or"
    " too slow.",
    ["reason"],
    registry=registry,
)
events_total = Counter(
    "tollway_api_events",
    "Events sent to the API: accepted into the log, invalid, or failed because the log did not take them.",
    ["outcome"],
    registry=registry,
)
ingest_seconds = Histogram(
    "tollway_api_ingest_seconds",
    "From a request with events to its end: accepted, invalid, pushed_back for too much at once, or failed.",
    ["outcome"],
    buckets=_SECONDS,
    registry=registry,
)
ingest_bytes_total = Counter(
    "tollway_api_ingest_bytes", "Bytes of the bodies whose events were accepted.", registry=registry
)
ingest_in_flight_bytes = Gauge(
    "tollway_api_ingest_in_flight_bytes",
    "Bytes of events that were received, or announced, and are not in the log yet.",
    registry=registry,
    multiprocess_mode="livesum",
)


def exposition() -> bytes:
    """All of it, in the text format of Prometheus."""
    if FOLDER not in os.environ:
        return generate_latest(registry)
    shared = CollectorRegistry()
    shared.register(_Ours())
    return generate_latest(shared)


class _Ours(Collector):
    """The metrics of all workers, without those of other modules that these happen to load."""

    def __init__(self) -> None:
        self._all = MultiProcessCollector(None, os.environ[FOLDER])  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        for metric in self._all.collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith(PREFIX):
                yield metric
