"""
The gate: what is let through, also when the copy is stale or a customer is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import TracebackType
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from tollway.gate.access import AccessCopy

UNKNOWN_CUSTOMER: Final = "unknown_customer"
STALE: Final = "stale"
NO_CREDIT_AVAILABLE: Final = "no_credit_available"


class WhenUnknown(StrEnum):
    """What becomes of a customer that the gate has never heard of."""

    OPEN = "open"
    CLOSED = "closed"


class WhenStale(StrEnum):
    """What becomes of everybody while the copy is older than it may be."""

    LAST_KNOWN = "last_known"
    """Whoever was allowed last is."""
    OPEN = "open"
    CLOSED = "closed"


class Policy(Struct, frozen=True):
    """How to answer for a feature where the copy has no answer."""

    unknown: WhenUnknown = WhenUnknown.CLOSED
    stale: WhenStale = WhenStale.LAST_KNOWN
    stale_after_seconds: float = 10.0


class Answer(NamedTuple):
    """Whether a customer may use a feature, why not, and what the answer rests on."""

    allowed: bool
    reason: str
    """Empty where allowed by the customer's own balance; else why not, or which exception let it through."""
    live: str | None
    """The balance as of then; None where the customer is unknown."""
    revision: int
    stale_seconds: float
    generation: int = 0
    """Of two answers for a customer, the later rests on the greater generation, then on the greater revision."""


class Feed(Protocol):
    """Keeps a copy up, on a thread of its own, until it is closed."""

    def start(self, copy: AccessCopy) -> None: ...

    def close(self) -> None: ...


class Gate:
    """
    Answers from a copy of all customers' access. It may be used by any number of threads.

    Args:
        feed: Where the copy comes from; `from_redis` and `from_kafka` have one.
        policy: For all features.
        policies: For features that are to be treated otherwise, by key.
    """

    def __init__(self, feed: Feed, policy: Policy | None = None, policies: Mapping[str, Policy] | None = None) -> None:
        self._policy = policy or Policy()
        self._policies = dict(policies or {})
        self._copy = AccessCopy()
        self._feed = feed
        feed.start(self._copy)

    @classmethod
    def from_redis(cls, url: str, policy: Policy | None = None, policies: Mapping[str, Policy] | None = None) -> Gate:
        """A gate that reads the balances in Redis once, and follows the stream of signals."""
        from tollway.gate.redis_feed import RedisFeed

        return cls(RedisFeed(url), policy, policies)

    @classmethod
    def from_kafka(
        cls,
        config: Mapping[str, str],
        topic: str = "usage.access",
        policy: Policy | None = None,
        policies: Mapping[str, Policy] | None = None,
    ) -> Gate:
        """A gate that reads the compacted topic; `config` is librdkafka's, with `bootstrap.servers` at least."""
        from tollway.gate.kafka_feed import KafkaFeed

        return cls(KafkaFeed(config, topic), policy, policies)

    @property
    def stale_seconds(self) -> float:
        """How long ago the copy was last known to be complete; infinite until it first is."""
        return self._copy.stale_seconds

    @property
    def customers(self) -> int:
        """How many customers are known."""
        return len(self._copy.known)

    def wait_until_ready(self, seconds: float = 10.0) -> bool:
        """Wait until everybody was read. Returns whether it was in time."""
        return self._copy.ready.wait(seconds)

    def allows(self, customer: str, feature: str = "") -> bool:
        """Whether a customer, by its key, may use a feature, or anything where none is given."""
        return self.ask(customer, feature).allowed

    def ask(self, customer: str, feature: str = "") -> Answer:
        """As `allows`, with the reason, the balance, and how old the copy is."""
        policy = self._policies.get(feature, self._policy)
        stale_seconds = self._copy.stale_seconds
        access = self._copy.known.get(customer)
        live, revision, generation = (
            (None, 0, 0) if access is None else (access.live, access.revision, access.generation)
        )
        if stale_seconds > policy.stale_after_seconds and policy.stale is not WhenStale.LAST_KNOWN:
            return Answer(policy.stale is WhenStale.OPEN, STALE, live, revision, stale_seconds, generation)
        if access is None:
            self._copy.wonder(customer)
            return Answer(policy.unknown is WhenUnknown.OPEN, UNKNOWN_CUSTOMER, None, 0, stale_seconds)
        if not access.allowed:
            return Answer(False, access.reason, live, revision, stale_seconds, generation)
        if feature in access.blocked_features:
            return Answer(False, NO_CREDIT_AVAILABLE, live, revision, stale_seconds, generation)
        return Answer(True, "", live, revision, stale_seconds, generation)

    def close(self) -> None:
        """End the feed. The gate goes on answering, from a copy that gets stale."""
        self._feed.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _failure: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
