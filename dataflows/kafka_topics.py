"""
All that connects the flow to Kafka: usage from a topic; access, charges, dead letters and signals to theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from config.kafka import KafkaSettings
from dataflows.catalog_view import CatalogView
from dataflows.rating_flow import KafkaOutputs
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.signals import SignalSource, send_rest
from sinks.catching_up import CatchingUp
from sinks.kafka.outcomes import KafkaOutcomeSink
from sinks.kafka.signals import KafkaSignalSink


class KafkaTopics:
    """The source and the sinks of one process."""

    def __init__(
        self,
        kafka: KafkaSettings,
        redis_url: str,
        view: CatalogView,
        *,
        batch_bytes: int,
        sink_partitions: int,
        generation: Callable[[], int],
        catching_up: CatchingUp,
        stopping: Event,
        drain: bool,
    ) -> None:
        self._view = view
        self.source = KafkaSource(kafka, redis_url, batch_bytes, stopping, drain)
        signals = None
        if kafka.topic_signals:
            signals = SignalSource(redis_url, stopping, drain), KafkaSignalSink(kafka)
        outcomes = KafkaOutcomeSink(kafka, self._customer_key, self._knows, sink_partitions, generation, catching_up)
        self.outputs = KafkaOutputs(outcomes, signals)

    def _customer_key(self, customer_id: str) -> str:
        """A customer's key; another process may have rated it by a newer catalog than this one has seen."""
        if customer_id not in self._view.catalog.customers:
            self._view.catch_up()
        return self._view.catalog.customers[customer_id].key

    def _knows(self, customer_id: str) -> bool:
        return customer_id in self._view.catalog.customers

    def finish(self) -> None:
        """
        After a clean end: send the last signals, and mirror where usage was read to.

        Raises:
            PartitionsAdded: The flow ended so as to begin again with partitions that were added.
            DeliveryFailed: A signal was not delivered; the next start sends it.
        """
        if self.outputs.signals is not None:
            send_rest(*self.outputs.signals)
        self.source.finish()

    def close(self) -> None:
        """End what runs beside the flow."""
        self.source.close()
