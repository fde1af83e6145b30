"""
The whole pipeline on one screen: from usage events and the control log to balances and the ledger.

Step ids are public: recovery and metrics use them. The key of the keyed step is the key group of the customer.
"""

from __future__ import annotations

from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink
from msgspec import Struct

from dataflows.backlog import Backlog
from dataflows.beats import FlowLoad
from dataflows.catalog_view import CatalogView
from dataflows.log_clock import LogClock
from dataflows.messages import RawBatch
from dataflows.pace import EpochPacer
from dataflows.rate import RateLogic, Shared
from dataflows.route import Router
from dataflows.sources.control import ControlSource
from dataflows.sources.signals import SignalSource
from rating.dedup import LoadSegments, Reread
from rating.outcome import Outcome
from rating.time_rules import TimeRules
from rating.windows import LoadWindows
from sinks.kafka.outcomes import ChargesSent
from sinks.kafka.signals import KafkaSignalSink


class KafkaOutputs(Struct, frozen=True):
    """Topics that are written."""

    outcomes: FixedPartitionedSink[Outcome, ChargesSent]
    """Access, charges and dead letters."""
    signals: tuple[SignalSource, KafkaSignalSink] | None
    """From the stream where they are raised to their topic."""


class Wiring(Struct, frozen=True):
    """What the pipeline is connected to."""

    view: CatalogView
    usage: dict[str, FixedPartitionedSource[RawBatch, object]]
    """Sources of usage by step id."""
    control: ControlSource
    pace: EpochPacer
    clock: LogClock
    rules: TimeRules
    beat: timedelta
    load_segments: LoadSegments
    load_windows: LoadWindows
    rereads: tuple[Reread, ...]
    balances: FixedPartitionedSink[Outcome, None]
    ledger: FixedPartitionedSink[Outcome, int]
    kafka: KafkaOutputs | None = None


def rating_flow(wiring: Wiring) -> Dataflow:
    """Usage → route → rate (decode, attribute, RATE, SETTLE) → balances and ledger, and topics if there are any."""
    flow = Dataflow("tollway")
    backlog = Backlog()
    usage = [
        op.input(step_id, flow, wiring.pace.keeping(backlog.holding(source)))
        for step_id, source in wiring.usage.items()
    ]
    messages = op.flat_map("route", op.merge("usage", *usage), Router(wiring.view, wiring.clock).route)
    notices = op.input("control", flow, wiring.pace.keeping(wiring.control))
    keyed = op.merge("by_key_group", messages, notices)
    shared = Shared(
        view=wiring.view,
        rules=wiring.rules,
        beat=wiring.beat,
        load_segments=wiring.load_segments,
        load_windows=wiring.load_windows,
        rereads=wiring.rereads,
        clock=wiring.clock,
        backlog=backlog,
        load=FlowLoad(),
    )
    outcomes = op.stateful_batch("rate", keyed, lambda snapshot: RateLogic(shared, snapshot or None))
    op.output("balances", outcomes, wiring.balances)
    op.output("ledger", outcomes, wiring.ledger)
    if wiring.kafka is not None:
        op.output("kafka", outcomes, wiring.kafka.outcomes)
        if wiring.kafka.signals is not None:
            source, sink = wiring.kafka.signals
            op.output("kafka_signals", op.input("signals", flow, wiring.pace.keeping(source)), sink)
    return flow
