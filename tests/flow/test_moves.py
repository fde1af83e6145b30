"""A subscription moves to other versions of its plan, on real servers: by the file and the command, over a rebuild."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from threading import Event
from typing import Any

import msgspec
import psycopg

from dataflows.engine import stream_source
from dataflows.recovery.rebuild import rebuild
from rating.catalog import Subscription, decode_record
from tests.conftest import Stores
from tests.e2e.command import Home
from tests.engine_runs import append, drain, engine_process, query, visible, wait_for
from tests.plane import Plane
from tests.waiting import PATIENCE_SECONDS
from tests.world import line
from tollway import invoicing
from tollway.batch import rate_file
from tollway.catalog_file import apply, read_catalog

D = Decimal
NOW = datetime.now(UTC)
START = NOW - timedelta(days=5)

FILE = f"""
meters: [{{key: tokens, event_type: llm, aggregation: SUM, value_property: $.tokens, group_by: {{model: $.model}}}}]
features:
  - {{key: large, meter: tokens, filters: {{model: large}}}}
  - {{key: huge, meter: tokens, filters: {{model: huge}}}}
plans:
  - key: pro
    cadence: P1M
    rate_cards:
      - {{key: base, price: {{type: flat, amount: BASE}}}}
      - feature: large
        discounts: {{usage: 10}}
        price: {{type: graduated, tiers: [{{up_to_amount: 100, unit_price: FIRST}}, {{unit_price: NEXT}}]}}
customers:
  - key: acme
    subscription: {{plan: pro, from: {START.isoformat()}}}
    grants: [{{key: welcome, amount: 100, effective_at: {START.isoformat()}}}]
"""
HUGE = "\n      - {feature: huge, price: {type: unit, amount: PRICE}}\ncustomers:"


def file_of(base: str, first: str, following: str, huge: str | None = None, words: str = "") -> str:
    """The file with prices, and what the subscription says of its version."""
    text = FILE.replace("BASE", base).replace("FIRST", first).replace("NEXT", following)
    if huge is not None:
        text = text.replace("\ncustomers:", HUGE.replace("PRICE", huge))
    return text.replace("plan: pro,", f"plan: pro, {words}" if words else "plan: pro,")


def used(name: str, model: str, tokens: int, at: datetime) -> dict[str, Any]:
    """Usage of a model."""
    return {
        "specversion": "1.0", "id": name, "source": "test", "type": "llm", "subject": "acme",
        "time": at.isoformat(), "data": {"model": model, "tokens": tokens},
    }  # fmt: skip


def ledger(stores: Stores) -> dict[tuple[str, datetime], tuple[Decimal, Decimal]]:
    """Usage and cost by rate card and start of the period, or of its part."""
    rows = query(stores, "select card_key, period_start, usage, amount from usage_periods")
    return {(card, start): (usage, amount) for card, start, usage, amount in rows}


def costs(stores: Stores) -> list[tuple[str, Decimal]]:
    """What each part came to, the oldest first."""
    return [(card, amount) for (card, _), (_, amount) in sorted(ledger(stores).items(), key=lambda one: one[0][::-1])]


def waiting(stores: Stores) -> int:
    return int(query(stores, "select count(*) from parked_events")[0][0])


def test_a_move_that_came_too_late_for_usage_that_waits_is_mended(stores: Stores) -> None:
    """The file moves from now on, as anybody would write it; the command takes that back, and what waited is rated."""
    old = [used(f"huge-{number}", "huge", 1000, START + timedelta(hours=30 * number)) for number in range(3)]
    with Plane(stores.postgres_dsn, stores.redis_url) as plane, engine_process(stores) as process:
        apply(plane, read_catalog(file_of("10", "0.1", "0.05")))
        append(stores, [used("first", "large", 20, START), *old])
        wait_for(lambda: waiting(stores) == 3, "what has no price to wait")
        changes = apply(plane, read_catalog(file_of("10", "0.1", "0.05", "0.001", "version: 2,")))
        (told,) = (change.detail for change in changes if change.kind == "subscription")
        assert "usage of 3 events since" in told
        assert "`tollway move acme --version 2 --at this_billing_cycle` rates it" in told
        now = datetime.now(UTC)
        append(stores, [used("last", "huge", 500, now)])
        wait_for(lambda: costs(stores)[-1:] == [("huge", D("0.5"))], "usage from the move on")
        home = Home(
            stores.settings.home,
            {"TOLLWAY_REDIS_URL": stores.redis_url, "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn},
        )
        again = home.ok("move", "acme", "--json")
        assert "--at this_billing_cycle` rates it" in again.err
        at = msgspec.json.decode(again.out, type=Subscription).moves[0].at
        done = home.ok("move", "acme", "--at", START.isoformat(), "--json")
        assert "warning" not in done.err
        moved = msgspec.json.decode(done.out, type=Subscription)
        assert [(move.at, move.plan_version) for move in moved.moves] == [(START, 2)]
        expected = {
            ("base", START): (D(0), D(10)),
            ("large", START): (D(20), D(1)),
            ("huge", START): (D(3000), D(3)),
            ("huge", at): (D(500), D("0.5")),
        }
        wait_for(lambda: ledger(stores) == expected, "what waited to be rated")
        wait_for(lambda: waiting(stores) == 0, "nothing to wait")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0

    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        drawn = invoicing.draw_up(connection, "acme")
    assert drawn.totals.amount == D("14.5")
    records = [decode_record(body) for (body,) in query(stores, "select body::text from control_log order by id")]
    lines = b"\n".join(line(one) for one in [used("last", "huge", 500, now), *old, used("first", "large", 20, START)])
    rated = rate_file(records, BytesIO(lines), datetime.now(UTC))
    found = {(charge.card_key, charge.period_start): (charge.usage, charge.amount) for charge in rated.periods()}
    assert found == expected


def test_a_new_model_gets_its_price_and_nothing_begins_anew(stores: Stores) -> None:
    """
    Usage without a price waits, the version that has one is moved to from the start of the period, and all is booked.

    Then another one from now on, by the command: usage of before stays at its price. Rating the whole log again, in
    one go or by a rebuild, finds the same.
    """
    old = [used(f"large-{number}", "large", 12, START + timedelta(hours=11 * number)) for number in range(10)]
    new = [used(f"huge-{number}", "huge", 1000, START + timedelta(hours=30 * number)) for number in range(3)]
    with Plane(stores.postgres_dsn, stores.redis_url) as plane, engine_process(stores) as process:
        apply(plane, read_catalog(file_of("10", "0.1", "0.05")))
        append(stores, [*old, *new])
        wait_for(lambda: waiting(stores) == 3, "what has no price to wait")
        wait_for(lambda: costs(stores) == [("base", D(10)), ("large", D("10.5"))], "the first prices")

        second = file_of("12", "0.2", "0.1", "0.001", "version: 2, version_from: this_billing_cycle,")
        changes = {change.kind: change for change in apply(plane, read_catalog(second))}
        assert changes["subscription"].detail == "pro v2, was pro v1"
        expected = [("base", D(12)), ("huge", D(3)), ("large", D(21))]
        wait_for(lambda: costs(stores) == expected, "the period rated anew")
        wait_for(lambda: waiting(stores) == 0, "nothing to wait")
        wait_for(lambda: visible(stores, "acme")["settled"] == "64", "the difference to be booked")
        assert {start for _, start in ledger(stores)} == {START}
        assert {change.action for change in apply(plane, read_catalog(second))} == {"unchanged"}

        apply(plane, read_catalog(file_of("99", "0.4", "0.2", "0.002", "version: 2,")))
        home = Home(
            stores.settings.home,
            {"TOLLWAY_REDIS_URL": stores.redis_url, "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn},
        )
        moved = msgspec.json.decode(home.ok("move", "acme", "--json").out, type=Subscription)
        assert (moved.plan_version, [move.plan_version for move in moved.moves]) == (3, [2, 3])
        assert home.ok("move", moved.id, "--version", "3").out.strip().endswith("is on pro v3 already.")
        refused = home.run("move", "acme", "--version", "2", "--at", (NOW - timedelta(days=1)).isoformat())
        assert refused.code == 1
        assert "`at`" in refused.err
        told = home.ok("move", "acme", "--version", "2", "--at", "next_billing_cycle").out
        assert " is on pro v3, then on v2 from " in told
        ahead = msgspec.json.decode(home.ok("move", "acme", "--version", "3", "--json").out, type=Subscription)
        assert (ahead.plan_version, [move.plan_version for move in ahead.moves]) == (3, [2, 3, 2])
        assert " is on pro v3. Its move to v2 at " in home.ok("move", "acme", "--withdraw").out
        assert home.ok("move", "acme", "--withdraw").out.strip().endswith("is on pro v3 already.")
        beside = home.run("move", "acme", "--withdraw", "--version", "2")
        assert (beside.code, "hint: withdraw first" in beside.err) == (2, True)
        now = datetime.now(UTC)
        last = [used("a", "large", 20, now), used("b", "huge", 100, now)]
        late = used("late", "large", 10, NOW - timedelta(days=1))
        append(stores, last)
        append(stores, [late])
        at = moved.moves[-1].at
        expected_parts = {
            ("base", START): (D(0), D(12)),
            ("huge", START): (D(3000), D(3)),
            ("huge", at): (D(100), D("0.2")),
            ("large", START): (D(130), D(22)),
            ("large", at): (D(20), D(4)),
        }
        wait_for(lambda: ledger(stores) == expected_parts, "the parts of the period")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0

    with psycopg.connect(stores.postgres_dsn, autocommit=True) as connection:
        drawn = invoicing.draw_up(connection, "acme")
    shown = [(found.card_key, found.quantity, found.totals.amount, found.totals.total) for found in drawn.lines]
    assert shown == [
        ("base", D(1), D(12), D(0)),
        ("huge", D(3000), D(3), D(0)),
        ("large", D(120), D(22), D(0)),
        ("huge", D(100), D("0.2"), D(0)),
        ("large", D(20), D(4), D(0)),
    ]
    assert drawn.totals.credits_total == D("41.2")

    records = [decode_record(body) for (body,) in query(stores, "select body::text from control_log order by id")]
    lines = b"\n".join(line(one) for one in [late, *last, *new, *old])
    rated = rate_file(records, BytesIO(lines), datetime.now(UTC))
    found = {(charge.card_key, charge.period_start): (charge.usage, charge.amount) for charge in rated.periods()}
    assert found == expected_parts

    shutil.rmtree(stores.settings.home / "recovery")
    query(stores, "delete from recovery_copies returning 1")
    source = stream_source(stores.settings, stores.redis_url, Event(), drain=True)
    rebuild(stores.settings.home / "recovery", stores.postgres_dsn, {"events": source}, 4)
    drain(stores)
    assert ledger(stores) == expected_parts
    assert visible(stores, "acme")["settled"] == "58.8"
