"""Signals, access, charges and dead letters to Kafka."""
