"""
Access, charges and dead letters as Kafka messages.

Rows are absolute, so only the newest of each key is sent, once an epoch; where access changes, it goes out at
once. After a crash, what was sent since the last epoch is sent again: of two rows with one key the later holds.
A charge that was sent then is undone first, as the ledger deletes its row: the usage may fall into other windows now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import Message

from config.kafka import KafkaSettings
from rating.money import plain
from rating.outcome import BalanceRow, ChargeRow, Outcome
from sinks.catching_up import CatchingUp
from sinks.kafka.client import admin, partitions_of
from sinks.kafka.deliver import Delivery, Headers
from sinks.kafka.sent import Ends, SentTo, ends_of, read_back
from sinks.postgres.ledger import DUPLICATE_MISMATCH, MISMATCH_MESSAGE

DEAD_LETTER_BYTES_MAX = 900_000
"""A dead letter that is longer is cut: the ledger has it whole."""

CustomerKey = Callable[[str], str]
"""A customer's key by its id."""

SENT_BY = "sink_part"
"""The header of a charge that says which partition of the sink sent it."""

_json = msgspec.json.Encoder().encode

ChargesSent = tuple[str, Ends]
"""What the recovery store keeps: the topic of charges, and where its partitions ended with the epoch."""


def access_message(row: BalanceRow, generation: int) -> tuple[bytes, bytes]:
    """Key and value: whether a customer may go on, and what it has left."""
    value = {
        "customer": row.customer_key,
        "customer_id": row.customer_id,
        "access": row.access,
        "reason": row.reason,
        "blocked_features": row.blocked_features,
        "currency": row.currency,
        "live": plain(row.live),
        "generation": generation,
        "revision": row.revision,
        "as_of": row.as_of,
    }
    return row.customer_key.encode(), _json(value)


def charge_message(row: ChargeRow, customer_key: str, generation: int) -> tuple[bytes, bytes]:
    """Key and value: what a rate card cost within a window, as the ledger has it, amounts as text."""
    value: dict[str, Any] = {"customer": customer_key}
    value |= row._asdict()
    # What they say is for the dataflow itself.
    del value["parts"], value["was_left"]
    for name in ("quantity", "late_quantity", "amount", "commitment", "credits", "uncovered"):
        value[name] = plain(value[name])
    value["paid"] = {grant: plain(amount) for grant, amount in row.paid.items()}
    value["generation"] = generation
    return customer_key.encode(), _json(value)


def undoing(
    messages: Iterable[Message], sent_by: str, knows: Callable[[str], bool], generation: int
) -> Iterator[tuple[bytes, bytes]]:
    """
    Key and value of what undoes charges: their own rows with nothing in them, and `undone`.

    Args:
        messages: What is in the topic, in the order of each customer; what somebody else sent is passed over.
        sent_by: Undo only what this partition of the sink sent,
        knows: and of these customers: others are another ledger's.
        generation: The ledger's, in which they are undone.
    """
    newest: dict[tuple[str, ...], tuple[bytes, dict[str, Any]]] = {}
    for message in messages:
        if (SENT_BY, sent_by.encode()) in (message.headers() or []):
            row = msgspec.json.decode(message.value() or b"")
            newest[tuple(row[name] for name in ChargeRow._fields[:5])] = message.key() or b"", row
    nothing = dict.fromkeys(("quantity", "late_quantity", "amount", "commitment", "credits", "uncovered"), "0")
    for key, row in newest.values():
        if "undone" not in row and knows(row["customer_id"]):
            yield key, _json(row | nothing | {"events": 0, "paid": {}, "generation": generation, "undone": True})


def dead_letter_messages(outcome: Outcome) -> Iterator[tuple[bytes, bytes, Headers]]:
    """Key, value and headers: the bytes as they came, and why they were refused. The key is their digest."""
    letters = [(letter.code, letter.message, letter.path, letter.raw, letter.meter) for letter in outcome.rejected]
    letters += [(DUPLICATE_MISMATCH, MISMATCH_MESSAGE, "$", mismatch.raw, "") for mismatch in outcome.mismatches]  # type: ignore[misc]
    for code, message, path, raw, meter in letters:
        headers = [("code", code.encode()), ("message", message.encode()), ("path", path.encode())]
        if meter:
            headers.append(("meter", meter.encode()))
        if len(raw) > DEAD_LETTER_BYTES_MAX:
            headers.append(("cut_from_bytes", str(len(raw)).encode()))
        yield hashlib.sha256(raw).hexdigest().encode(), raw[:DEAD_LETTER_BYTES_MAX], headers


class _OutcomePartition(StatefulSinkPartition[Outcome, ChargesSent]):
    def __init__(self, sink: KafkaOutcomeSink, part: str, resume: ChargesSent | None) -> None:
        self._sink = sink
        self._headers: Headers = [(SENT_BY, part.encode())]
        self._access: dict[str, BalanceRow] = {}
        self._held = sink.catching_up.keep(self._let_go)
        self._charges: dict[tuple[Any, ...], ChargeRow] = {}
        topic = sink.kafka.topic_charges
        # Without a state no epoch was ever committed: all that was sent for customers of this ledger is undone.
        sent_to, ends = resume or (topic, [])
        if sink.has_charges and sent_to == topic:
            for key, value in undoing(read_back(sink.kafka, topic, dict(ends)), part, sink.knows, sink.generation):
                self._send_charge(key, value)

    def _send_charge(self, key: bytes, value: bytes) -> None:
        sink = self._sink
        sink.delivery.send(sink.kafka.topic_charges, key, value, self._headers, sink.charges_sent_to.arrived)

    def write_batch(self, values: list[Outcome]) -> None:
        sink = self._sink
        kafka, delivery = sink.kafka, sink.delivery
        for outcome in values:
            if kafka.topic_access:
                for row in outcome.balances:
                    if not self._held.is_over and self._held.take(
                        {row.customer_id: access_message(row, sink.generation)}
                    ):
                        continue
                    if outcome.urgent:
                        self._access.pop(row.customer_id, None)
                        delivery.send(kafka.topic_access, *access_message(row, sink.generation))
                    else:
                        self._access[row.customer_id] = row
            if kafka.topic_charges:
                for charge in outcome.charges:
                    self._charges[charge[:5]] = charge
            if kafka.topic_dead_letters:
                for key, raw, headers in dead_letter_messages(outcome):
                    delivery.send(kafka.topic_dead_letters, key, raw, headers)

    def _let_go(self, messages: list[tuple[bytes, bytes]]) -> None:
        for message in messages:
            self._sink.delivery.send(self._sink.kafka.topic_access, *message)

    def close(self) -> None:
        if not self._held.is_over:
            self._held.close()
            self._sink.delivery.flush()

    def snapshot(self) -> ChargesSent:
        sink = self._sink
        self._held.check()
        for row in self._access.values():
            sink.delivery.send(sink.kafka.topic_access, *access_message(row, sink.generation))
        for charge in self._charges.values():
            self._send_charge(*charge_message(charge, sink.customer_key(charge.customer_id), sink.generation))
        sink.delivery.flush()
        self._access.clear()
        self._charges.clear()
        return sink.kafka.topic_charges, sink.charges_sent_to.ends


class KafkaOutcomeSink(FixedPartitionedSink[Outcome, ChargesSent]):
    """
    Sends outcomes to their topics, arrived in `snapshot()`.

    The partitions of one process share a producer.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        customer_key: CustomerKey,
        knows: Callable[[str], bool],
        partitions: int,
        generation: Callable[[], int],
        catching_up: CatchingUp,
    ) -> None:
        self.kafka = kafka
        self.catching_up = catching_up
        self._generation = generation
        self.knows = knows
        self.customer_key = customer_key
        self.delivery = Delivery(kafka)
        self._partitions = partitions

    @property
    def generation(self) -> int:
        """In which all is told."""
        return self._generation()

    def list_parts(self) -> list[str]:
        client = admin(self.kafka)
        for topic in (self.kafka.topic_access, self.kafka.topic_charges, self.kafka.topic_dead_letters):
            if topic:
                partitions_of(client, topic)
        ends = ends_of(self.kafka, self.kafka.topic_charges) if self.kafka.topic_charges else []
        # Whatever is sent from now on comes after this.
        self.charges_sent_to = SentTo(ends)
        self.has_charges = any(end for _, end in ends)
        return [f"{part:02}" for part in range(self._partitions)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: ChargesSent | None) -> _OutcomePartition:
        return _OutcomePartition(self, for_part, resume_state)
