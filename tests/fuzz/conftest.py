"""The fixtures of the tests with Kafka."""

from tests.kafka.conftest import bootstrap, kafka, own_broker

__all__ = ["bootstrap", "kafka", "own_broker"]
