"""
May this customer go on? Answered by Redis alone, in one round trip for many customers.

    tollway:{customer}:balance   the dataflow's: access, blocked features, balance, usage of limited features, revision
    tollway:{customer}:gate      a document: which features its plan has with which limits, from when to when
    tollway:gate:features        the set of all features
    tollway:gate:ids             a hash: id to the customer's key, which never changes
    tollway:gate:names           a hash: subject to the customer's key
    tollway:gate:version         the entry of the control log up to which the four above are complete, after the
                                 generation of the ledger and a colon: entries begin again from an older one when it is
                                 restored

A name is looked for as an id, then as a key, then as a subject: each in a place of its own, so that what one customer
is called by can't stand before what another one is.

`Projector` writes the last five from PostgreSQL as the control log grows, whoever wrote it, and from the start where
Redis lost them. The documents say what holds when, so nothing has to be written when an instant passes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final, Literal

import msgspec
import psycopg
import redis
import redis.asyncio
from msgspec import Struct

from rating.catalog import NEVER, Catalog, Customer, PlanVersion, Subscription, decode_record
from rating.entitlements import Entitlement, MeteredEntitlement
from rating.money import ZERO
from rating.outcome import PeriodUsage
from sinks.postgres.pool import Busy, Pool
from sinks.postgres.statements import statement
from sinks.redis.keys import (
    GATE_DOCUMENTS,
    GATE_FEATURES,
    GATE_IDS,
    GATE_NAMES,
    GATE_VERSION,
    balance_key,
    customer_key_of,
    gate_key,
)

CHUNK_ENTRIES: Final = 5000
CHUNK_KEYS: Final = 1000
POLL_SECONDS: Final = 0.2

USAGE_LIMIT_REACHED: Final = "usage_limit_reached"
NO_CREDIT_AVAILABLE: Final = "no_credit_available"
FEATURE_NOT_FOUND: Final = "feature_not_found"
FEATURE_UNAVAILABLE: Final = "feature_unavailable"

Reason = Literal["usage_limit_reached", "no_credit_available", "feature_not_found", "feature_unavailable"]
REASONS: Final[Mapping[Reason, str]] = {
    USAGE_LIMIT_REACHED: "the customer has used all that its plan gives of this feature in the billing period",
    NO_CREDIT_AVAILABLE: "the customer has no credit left that pays for this feature",
    FEATURE_NOT_FOUND: "there is no such feature",
    FEATURE_UNAVAILABLE: "the customer has no subscription in force to a plan with this feature",
}
"""Why a customer may not use a feature, as people read it."""

_BALANCE_FIELDS: Final = (
    "access", "reason", "blocked_features", "currency", "settled", "live", "pending", "overage", "revision", "as_of",
    "usage",
)  # fmt: skip
_PUT: Final = (Path(__file__).parent / "projection.lua").read_text()
_UPWARDS: Final = """
-- The version only rises within a generation, and the generation only rises.
local generation, version = string.match(redis.call('get', KEYS[1]) or '0', '^(%d-):?(%d+)$')
generation = tonumber(generation) or 0
if tonumber(ARGV[1]) > generation or (tonumber(ARGV[1]) == generation and tonumber(ARGV[2]) > tonumber(version)) then
  redis.call('set', KEYS[1], ARGV[1] .. ':' .. ARGV[2])
end
"""
_usage = msgspec.json.Decoder(tuple[PeriodUsage, ...])
_log = logging.getLogger(__name__)


class Stretch(Struct, frozen=True, array_like=True):
    """From `start` up to, not including, `end` (None: for good), these features are in the customer's plan."""

    start: datetime
    end: datetime | None
    features: tuple[str, ...]
    entitlements: dict[str, Entitlement] = {}
    """By feature, what the plan gives of it; nothing said: all that is paid for."""


class Document(Struct, frozen=True):
    """What the gate knows of a customer, as of an entry of the control log."""

    version: int
    id: str
    key: str
    name: str
    currency: str
    subjects: tuple[str, ...]
    created_at: datetime
    names: tuple[str, ...]
    """The names in the hash of names that lead to this customer."""
    stretches: tuple[Stretch, ...]
    generation: int = 0
    """Of the ledger: of two documents, the one of the greater holds, then the one of the greater version."""

    def in_force(self, at: datetime) -> dict[str, Entitlement | None]:
        """The features in the customer's plan at an instant, with what it gives of each, by the newest plan."""
        found: dict[str, Entitlement | None] = {}
        for stretch in sorted(self.stretches, key=lambda stretch: stretch.start):
            if stretch.start <= at and (stretch.end is None or at < stretch.end):
                found |= dict.fromkeys(stretch.features) | stretch.entitlements
        return found


class VisibleBalance(Struct, frozen=True, kw_only=True):
    """A customer's balance as Redis has it."""

    access: Literal["allowed", "blocked"] = "allowed"
    reason: str = ""
    blocked_features: tuple[str, ...] = ()
    currency: str = ""
    settled: Decimal = ZERO
    live: Decimal = ZERO
    pending: Decimal = ZERO
    overage: Decimal = ZERO
    revision: int = 0
    """0: the dataflow has not told of this customer yet."""
    as_of: datetime | None = None
    usage: tuple[PeriodUsage, ...] = ()
    """Of features whose usage the plan limits."""


class Seen(Struct, frozen=True):
    """A customer as the gate sees it."""

    document: Document
    balance: VisibleBalance

    def at(self, instant: datetime) -> Standing:
        """How the customer stands at an instant."""
        used: dict[str, Decimal] = {}
        for usage in self.balance.usage:
            if usage.period_start <= instant < usage.period_end:
                used[usage.feature_key] = used.get(usage.feature_key, ZERO) + usage.quantity
        return Standing(self.balance, self.document.in_force(instant), used)


class Standing(Struct, frozen=True):
    """What a customer may use at an instant, and why not."""

    balance: VisibleBalance
    given: dict[str, Entitlement | None]
    """By feature in its plan, what that gives of it."""
    used: dict[str, Decimal]
    """By limited feature, what was used in the billing period, as far as has been told."""

    def reason(self, feature_key: str, known: bool, with_credits: bool = True) -> Reason | None:
        """Why the customer may not use a feature; None: it may."""
        if not known:
            return FEATURE_NOT_FOUND
        if feature_key not in self.given:
            return FEATURE_UNAVAILABLE
        given = self.given[feature_key]
        limit = given.limit if isinstance(given, MeteredEntitlement) and not given.is_soft else None
        if limit is not None and self.used.get(feature_key, ZERO) >= limit:
            return USAGE_LIMIT_REACHED
        blocked = self.balance.access == "blocked" or feature_key in self.balance.blocked_features
        return NO_CREDIT_AVAILABLE if with_credits and blocked else None


class GateReader:
    """Reads the gate. Raises `redis.RedisError` where Redis is away."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def read(
        self, names: Sequence[str], feature_keys: Sequence[str] | None
    ) -> tuple[list[Seen | None], dict[str, bool]]:
        """
        Customers by name, and which features there are.

        One round trip where the names are customer keys; another one resolves ids and subjects.

        Returns:
            A customer or None for each name; for each feature that is asked for whether it exists, or all that exist.
        """
        async with self._client.pipeline(transaction=False) as pipeline:
            self._ask(pipeline, names)
            if feature_keys is None:
                pipeline.smembers(GATE_FEATURES)
            elif feature_keys:
                pipeline.smismember(GATE_FEATURES, list(feature_keys))
            if names:
                pipeline.hmget(GATE_IDS, list(names))
                pipeline.hmget(GATE_NAMES, list(names))
            answers: Any = await pipeline.execute()
        found = _seen(answers[: 2 * len(names)])
        rest = answers[2 * len(names) :]
        if feature_keys is None:
            known = {key.decode(): True for key in sorted(rest[0])}
        else:
            known = dict(zip(feature_keys, map(bool, rest[0] if feature_keys else ()), strict=True))
        elsewhere: dict[int, str] = {}
        for index, (by_id, by_subject) in enumerate(zip(*rest[-2:], strict=True) if names else ()):
            key = by_id or (by_subject if found[index] is None else None)
            if key is not None:
                elsewhere[index] = key.decode()
        if elsewhere:
            async with self._client.pipeline(transaction=False) as pipeline:
                self._ask(pipeline, list(elsewhere.values()))
                for index, seen in zip(elsewhere, _seen(await pipeline.execute()), strict=True):
                    found[index] = seen
        return found, known

    async def customer(self, name: str) -> Seen | None:
        """A customer by id, key or subject."""
        found, _ = await self.read([name], [])
        return found[0]

    @staticmethod
    def _ask(pipeline: Any, keys: Sequence[str]) -> None:
        for key in keys:
            pipeline.hmget(balance_key(key), _BALANCE_FIELDS)
            pipeline.get(gate_key(key))


def _seen(answers: list[Any]) -> list[Seen | None]:
    found: list[Seen | None] = []
    for fields, document in zip(answers[::2], answers[1::2], strict=True):
        if document is None:
            found.append(None)
            continue
        read = msgspec.json.decode(document, type=Document)
        found.append(Seen(read, _balance(fields, read.currency)))
    return found


def _balance(fields: list[bytes | None], currency: str) -> VisibleBalance:
    given = {name: value.decode() for name, value in zip(_BALANCE_FIELDS, fields, strict=True) if value is not None}
    blocked = tuple(part for part in given.pop("blocked_features", "").split(",") if part)
    usage = _usage.decode(given.pop("usage", "[]"))
    parts = {"currency": currency} | given | {"blocked_features": blocked, "usage": usage}
    return msgspec.convert(parts, VisibleBalance, strict=False)


class Projector:
    """
    Keeps what the gate reads in step with the control log.

    Any number of processes may do so at the same time: a document gives way to a newer one only.
    """

    def __init__(self, pool: Pool, client: redis.Redis) -> None:
        self._pool = pool
        self._client = client
        self._put = client.register_script(_PUT)
        self._upwards = client.register_script(_UPWARDS)
        self._lock = Lock()
        self._ended = Event()
        self._has_ids = False
        self._thread: Thread | None = None
        self._plans: dict[tuple[str, int], PlanVersion] = {}

    def start(self) -> None:
        """Follow the control log until `close`."""
        self._thread = Thread(target=self._follow, name="gate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        away = False
        while not self._ended.is_set():
            try:
                self.catch_up()
                away = False
            except (redis.RedisError, psycopg.Error, Busy) as error:
                if not away:
                    _log.warning("the gate waits for a store: %s", type(error).__name__)
                away = True
            except Exception:
                _log.exception("the gate could not read the control log")
            self._ended.wait(POLL_SECONDS)

    def tell(self) -> None:
        """Catch up after a change, so that the next reader sees it; a store that is away is caught up with later."""
        try:
            self.catch_up()
        except (redis.RedisError, psycopg.Error, Busy) as error:
            _log.warning("the gate is told later: %s", type(error).__name__)

    def catch_up(self) -> None:
        """Write all that the control log has and Redis has not. Raises `redis.RedisError` or `psycopg.Error`."""
        with self._lock:
            told_in, version = _version(self._client.get(GATE_VERSION))
            if not self._has_ids:
                # An earlier version kept ids among the names: all is written again, once.
                version = version if self._client.exists(GATE_IDS) else 0
                self._has_ids = True
            with self._pool.connection() as connection:
                (found,) = connection.execute(statement("ledger_generation")).fetchall()
                generation: int = found[0]
                if generation < told_in:
                    # The ledger was restored. As soon as the dataflow is started, its generation is above this one.
                    return
                anew = generation > told_in
                if anew:
                    version = 0
                    self._plans.clear()
                while True:
                    entries = connection.execute(
                        statement("control_entries_for_gate"), (version, CHUNK_ENTRIES)
                    ).fetchall()
                    if not entries:
                        break
                    version = entries[-1][0]
                    customer_ids = sorted({entry[2] for entry in entries if entry[2]})
                    # (1) Documents are read after the entries, so they are at least as new as `version` says.
                    self._write_customers(connection, generation, version, customer_ids)
                    features = [entry[4] for entry in entries if entry[4]]
                    if features:
                        self._client.sadd(GATE_FEATURES, *features)
                    # (2) Only then is the version raised: what came before it is there. In another generation all has
                    # to be there, or whoever goes on with the rest would find the generation told.
                    if not anew:
                        self._upwards(keys=[GATE_VERSION], args=[generation, version])
                if anew:
                    if version:  # a ledger of nobody is a new one, or an address mistaken
                        self._remove_others(connection, generation)
                    self._upwards(keys=[GATE_VERSION], args=[generation, version])

    def _remove_others(self, connection: psycopg.Connection[Any], generation: int) -> None:
        """All that exists was told in a generation: what an earlier one left besides does not exist."""
        cursor = 0
        while True:
            scanned: Any = self._client.scan(cursor, match=GATE_DOCUMENTS, count=CHUNK_KEYS)
            cursor, keys = scanned
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                customer_key = customer_key_of(key)
                self._put(keys=[key, GATE_NAMES, GATE_IDS], args=[generation, 0, "", customer_key], client=pipeline)
            pipeline.execute()
            if cursor == 0:
                break
        told: Any = self._client.smembers(GATE_FEATURES)
        exist = {key for (key,) in connection.execute(statement("feature_keys")).fetchall()}
        gone = [key for key in told if key.decode() not in exist]
        if gone:
            self._client.srem(GATE_FEATURES, *gone)

    def _write_customers(
        self, connection: psycopg.Connection[Any], generation: int, version: int, customer_ids: list[str]
    ) -> None:
        if not customer_ids:
            return
        by_customer: dict[str, list[Subscription]] = {customer_id: [] for customer_id in customer_ids}
        for _, _, body in connection.execute(statement("subscriptions_of_customers"), (customer_ids,)):
            subscription = decode_record(body)
            assert isinstance(subscription, Subscription), "the table of subscriptions holds subscriptions"
            by_customer[subscription.customer_id].append(subscription)
        self._read_plans(connection, [found for held in by_customer.values() for found in held])
        pipeline = self._client.pipeline(transaction=False)
        for body, created_at in connection.execute(statement("customers_of_ids"), (customer_ids,)):
            customer = decode_record(body)
            assert isinstance(customer, Customer), "the table of customers holds customers"
            stretches = [
                stretch
                for subscription in by_customer[customer.id]
                for stretch in stretches_of(subscription, self._plans)
            ]
            document = Document(
                version=version,
                id=customer.id,
                key=customer.key,
                name=customer.name,
                currency=customer.currency,
                subjects=customer.subjects,
                created_at=created_at.astimezone(UTC),
                names=customer.subjects,
                stretches=tuple(stretches),
                generation=generation,
            )
            self._put(
                keys=[gate_key(customer.key), GATE_NAMES, GATE_IDS],
                args=[generation, version, msgspec.json.encode(document), customer.key],
                client=pipeline,
            )
        pipeline.execute()

    def _read_plans(self, connection: psycopg.Connection[Any], subscriptions: list[Subscription]) -> None:
        wanted = {(found.plan_key, version) for found in subscriptions for version in found.versions}
        missing = wanted.difference(self._plans)
        if not missing:
            return
        keys = [key for key, _ in missing]
        for (body,) in connection.execute(statement("plans_of_keys"), (keys,)):
            plan = decode_record(body)
            assert isinstance(plan, PlanVersion), "the table of plans holds plans"
            self._plans[plan.key, plan.version] = plan


def _version(told: Any) -> tuple[int, int]:
    """Generation and entry up to which the gate was told; one that was written without a generation is of the first."""
    generation, _, version = (told or b"0").decode().rpartition(":")
    return int(generation or 0), int(version)


def stretches_of(subscription: Subscription, plans: dict[tuple[str, int], PlanVersion]) -> Iterator[Stretch]:
    """Which features a subscription gives when: a stretch for each phase of its plan and each version in force."""
    catalog = Catalog()
    catalog.plans = plans
    at, ends_at = subscription.active_from, subscription.active_to or NEVER
    while at < ends_at:
        found = catalog.phase_at(subscription, at)
        until = min(ends_at, subscription.version_span(at).end)
        if found is not None:
            _, phase, _, phase_end = found
            until = min(until, phase_end or NEVER)
            cards = {card.feature_key: card.entitlement for card in phase.rate_cards if card.feature_key is not None}
            given = {key: entitlement for key, entitlement in cards.items() if entitlement is not None}
            yield Stretch(at, None if until == NEVER else until, tuple(cards), given)
        at = until
