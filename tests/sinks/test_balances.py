"""What a row replaces in Redis: by generation, then by revision, then by instant; and who is shut out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from rating.outcome import BalanceRow
from sinks.redis.balances import Balances
from sinks.redis.history import RedisHistory
from sinks.redis.keys import SIGNALS, balance_key
from tests.conftest import Stores
from tests.engine_runs import visible

NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)


def row(revision: int, *, blocked: bool = False, as_of: datetime = NOW, customer: int = 1) -> BalanceRow:
    """A balance."""
    live = Decimal(0 if blocked else 10)
    zero = Decimal(0)
    return BalanceRow(
        f"customer-{customer}", f"c{customer}", "USD", live, live, live, zero, zero, zero, zero, zero, zero, zero,
        "blocked" if blocked else "allowed", "no_credit_available" if blocked else "", 0, "", (), (), revision, as_of,
    )  # fmt: skip


def kinds(stores: Stores) -> list[tuple[str, str]]:
    """All signals: customer and kind."""
    with redis.Redis.from_url(stores.redis_url, protocol=3, decode_responses=True) as client:
        found: Any = client.xrange(SIGNALS)
    return [(fields["customer"], fields["kind"]) for _, fields in found]


@pytest.fixture
def older(stores: Stores) -> Iterator[Balances]:
    """Writes in generation 5."""
    found = Balances(stores.redis_url, 5)
    yield found
    found.close()


@pytest.fixture
def newer(stores: Stores) -> Iterator[Balances]:
    """Writes in generation 6."""
    found = Balances(stores.redis_url, 6)
    yield found
    found.close()


def test_a_smaller_revision_of_a_greater_generation_holds(stores: Stores, older: Balances, newer: Balances) -> None:
    """And what it changes is signalled once; nothing of an earlier generation comes back, whatever its revision."""
    older.put([row(900, blocked=True)])
    assert newer.put([row(3)]) == [b"access_allowed"]
    assert newer.put([row(3)]) == []
    older.put([row(901, blocked=True)])
    newer.put([row(2, blocked=True)])
    shown = visible(stores, "c1")
    assert (shown["access"], shown["generation"], shown["revision"]) == ("allowed", "6", "3")
    assert kinds(stores) == [("c1", "access_blocked"), ("c1", "access_allowed")]


def test_a_hash_that_was_written_without_a_generation_is_of_the_first(stores: Stores, older: Balances) -> None:
    """As an earlier release left it."""
    with redis.Redis.from_url(stores.redis_url) as client:
        client.hset(balance_key("c1"), mapping={"revision": "900", "access": "blocked", "as_of": NOW.isoformat()})
    assert older.put([row(3)]) == [b"access_allowed"]
    assert visible(stores, "c1")["access"] == "allowed"


def test_an_older_row_of_the_same_revision_does_not_replace_a_later_one(stores: Stores, older: Balances) -> None:
    """
    A row that waits in the writer may arrive after an urgent one.

    Where a limit in the catalog changed between the two, they have one revision and differ.
    """
    older.put([row(7, blocked=True, as_of=NOW + timedelta(microseconds=1))])
    assert older.put([row(7, as_of=NOW)]) == []
    assert visible(stores, "c1")["access"] == "blocked"
    assert older.put([row(7, as_of=NOW + timedelta(seconds=1))]) == [b"access_allowed"]
    older.put([row(8, blocked=True, as_of=NOW)])
    assert visible(stores, "c1")["access"] == "blocked", "a greater revision holds, whatever its instant"


def at(revision: int, live: int, *thresholds: int) -> BalanceRow:
    """A balance, and which of the thresholds and of 0 it has reached."""
    reached = [limit for limit in sorted({*thresholds, 0}, reverse=True) if live <= limit]
    threshold = str(reached[-1]) if reached else ""
    return row(revision)._replace(live=Decimal(live), level=len(reached), threshold=threshold)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (at(1, 0, 5), at(2, 0, 5, 7), []),
        (at(1, 0, 5, 7), at(2, 0), []),
        (at(1, 4, 5), at(2, 4, 5, 7), []),
        (at(1, 4, 5), at(2, 4, 7), []),
        (at(1, 6, 5), at(2, 6, 5, 7), [b"balance_low"]),
        (at(1, 6, 5, 7), at(2, 6, 5), [b"balance_recovered"]),
        (at(1, 6, 5), at(2, 5, 5), [b"balance_low"]),
        (at(1, 5, 5), at(2, 0, 5), [b"credits_exhausted"]),
        (at(1, 0, 5), at(2, 3, 5), [b"balance_recovered"]),
        (at(1, 0, 5), at(2, 9, 5), [b"balance_recovered"]),
    ],
)
def test_a_change_of_thresholds_alone_exhausts_nothing_again(
    before: BalanceRow, after: BalanceRow, kind: list[bytes], older: Balances
) -> None:
    """What is signalled is that the lowest threshold reached is another one, and not how many there are above it."""
    older.put([before])
    assert older.put([after]) == kind


@pytest.mark.parametrize(
    ("features", "kinds_after"),
    [
        ((), ["feature_allowed"]),
        (("k",), []),
        (("k", "n"), ["feature_blocked"]),
        (("n",), ["feature_blocked", "feature_allowed"]),
    ],
)
def test_a_customer_that_is_blocked_as_a_whole_has_no_feature_that_is_allowed(
    features: tuple[str, ...], kinds_after: list[str], stores: Stores, older: Balances
) -> None:
    """What changed of features is signalled when it goes on, against what was signalled before."""
    older.put([row(1)._replace(blocked_features=("k",))])
    older.put([row(2, blocked=True)])
    older.put([row(3, blocked=True)])
    assert visible(stores, "c1")["blocked_features"] == ""
    assert [kind for _, kind in kinds(stores)] == ["feature_blocked", "access_blocked"]
    older.put([row(4)._replace(blocked_features=features)])
    assert [kind for _, kind in kinds(stores)][2:] == ["access_allowed", *kinds_after]
    older.put([row(5)._replace(blocked_features=features)])
    assert len(kinds(stores)) == 3 + len(kinds_after)


def test_who_is_only_in_an_earlier_history_is_shut_out_once(stores: Stores, older: Balances, newer: Balances) -> None:
    """It is signalled where it could go on; who is told in this generation, or is known, stays as it is."""
    older.put([row(900), row(900, customer=2), row(900, blocked=True, customer=3), row(900, customer=4)])
    newer.put([row(1, customer=4)])
    record = RedisHistory(stores.redis_url)

    def unknown(ids: Any) -> set[str]:
        return set(ids) - {"customer-2"}

    assert sorted(record.shut(6, unknown)) == ["c1", "c3"]
    assert record.shut(6, unknown) == []
    record.close()
    shown = {key: visible(stores, key) for key in ("c1", "c2", "c3", "c4")}
    assert {key: (found["access"], found["reason"], found["live"]) for key, found in shown.items()} == {
        "c1": ("blocked", "unknown_customer", "0"),
        "c2": ("allowed", "", "10"),
        "c3": ("blocked", "unknown_customer", "0"),
        "c4": ("allowed", "", "10"),
    }
    assert kinds(stores) == [("c3", "access_blocked"), ("c1", "access_blocked")]
    assert newer.put([row(1)]) == [b"access_allowed"], "who is made again goes on, and that is told"
