"""`tollway rate` on a large and messy file: nothing is lost, and the good events are billed to the last digit."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from tests import oracle
from tests.e2e.command import Home
from tests.world import FEATURES, PRICES, customer_by_subject, events, line

CASES = Path(__file__).parents[1] / "cases"
LINES = 100_000
CUSTOMERS = 40
AS_OF = "2026-04-20T00:00:00Z"
START = datetime(2026, 3, 30, tzinfo=UTC)
"""The events are of four days from then on, of two billing periods."""
SECONDS_MAX = 60

BROKEN: list[tuple[str, dict[str, Any] | bytes]] = [
    ("malformed", b'{"specversion": "1.0", "id": "cut off'),
    ("malformed", b'{"subject": "\xff\xfe"}'),
    ("malformed", b"hello"),
    ("invalid_envelope", {"subject": ""}),
    ("invalid_envelope", {"specversion": "0.3"}),
    ("invalid_envelope", {"time": "yesterday"}),
    ("invalid_envelope", {"data": [1]}),
    ("time_in_future", {"time": "2026-04-21T00:00:00Z"}),
    ("value_missing", {"data": {"kind": "input"}}),
    ("value_not_a_number", {"data": {"kind": "input", "tokens": "many"}}),
    ("value_negative", {"data": {"kind": "input", "tokens": -1}}),
    ("unknown_subject", {"subject": "nobody"}),
    ("no_feature", {"type": "unheard_of"}),
    ("no_subscription", {"time": "2025-01-01T00:00:00Z"}),
]
"""What an event can be made into, and how it then ends."""

PARKED = ("unknown_subject", "no_feature", "no_subscription")


def catalog() -> bytes:
    """The world of the tests as a catalog file; JSON is YAML too."""
    meters: list[dict[str, Any]] = [
        {"key": "tokens", "event_type": "prompt", "aggregation": "SUM", "value_property": "$.tokens"},
        {"key": "calls", "event_type": "call", "aggregation": "COUNT"},
        {"key": "storage", "event_type": "store", "aggregation": "SUM", "value_property": "$.gigabytes"},
    ]
    meters[0]["group_by"] = {"kind": "$.kind"}
    meter_of = {"prompt": "tokens", "call": "calls", "store": "storage"}
    customers = [
        {
            "key": f"c{number}",
            "subjects": [f"s{number}a", f"s{number}b"],
            "subscription": {"plan": "pro", "from": "2026-03-01T00:00:00Z", "anchor": "2026-03-01T00:00:00Z"},
            "grants": [{"key": "first", "amount": number * 10, "effective_at": "2026-03-01T00:00:00Z"}]
            if number
            else [],
        }
        for number in range(CUSTOMERS)
    ]
    return msgspec.json.encode(
        {
            "meters": meters,
            "features": [
                {"key": key, "meter": meter_of[kind], "filters": filters}
                for key, (kind, _, filters) in FEATURES.items()
            ],
            "plans": [
                {
                    "key": "pro",
                    "currency": "USD",
                    "cadence": "P1M",
                    "rate_cards": [{"feature": key, "price": price} for key, price in PRICES.items()],
                }
            ],
            "customers": customers,
        }
    )


def messy_lines(random_: random.Random) -> tuple[list[bytes], list[dict[str, Any]], Counter[str]]:
    """Lines of a file in no order, the good events among them in that order, and how the others have to end."""
    good = list(events(random_, LINES * 8 // 10, CUSTOMERS, START, timedelta(days=4)))
    again = [random_.choice(good) for _ in range(LINES // 10)]
    ends: Counter[str] = Counter()
    stream: list[tuple[bytes, dict[str, Any] | None]] = [(line(event), event) for event in [*good, *again]]
    while len(stream) < LINES:
        end, change = random_.choice(BROKEN)
        ends[end] += 1
        if isinstance(change, bytes):
            stream.append((change, None))
            continue
        prompt = {"type": "prompt", "data": {"kind": "input", "tokens": 5}, "id": f"broken-{len(stream)}"}
        stream.append((line(random_.choice(good) | prompt | change), None))
    random_.shuffle(stream)
    return [text for text, _ in stream], [event for _, event in stream if event is not None], ends


def test_a_hundred_thousand_messy_lines_are_rated_exactly(tmp_path: Path) -> None:
    """Every line read ends once, counted under its reason, and charges and credits are what the oracle says."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    lines, stream, ends = messy_lines(random.Random(seed))
    (tmp_path / "catalog.yaml").write_bytes(catalog())
    (tmp_path / "usage.jsonl").write_bytes(b"\n\r\n".join(lines))
    arguments = ("rate", str(tmp_path / "usage.jsonl"), "--catalog", str(tmp_path / "catalog.yaml"), "--as-of", AS_OF)
    home = Home(tmp_path / "home")
    started = os.times()
    result = home.run(*arguments, "--json")
    ended = os.times()
    used = ended.children_user + ended.children_system - started.children_user - started.children_system
    assert used < SECONDS_MAX, "of the processor's time, so that it may be busy with others"
    assert result.code == 1, result.err
    assert not home.path.exists(), "no server was started"

    bill = oracle.rate(stream, customer_by_subject(CUSTOMERS), FEATURES)
    found = result.json
    counted = found["events"]
    assert counted["read"] == LINES
    assert counted["rated"] == bill.rated
    assert counted["duplicate"] == bill.duplicates
    assert counted["reasons"]["parked"] | counted["reasons"]["rejected"] == ends
    assert counted["parked"] == sum(ends[reason] for reason in PARKED)
    assert counted["rated"] + counted["duplicate"] + counted["parked"] + counted["rejected"] == LINES
    assert f"{LINES} events: {bill.rated} rated" in result.err

    periods = {
        (f"customer-{row['customer'][1:]}", row["feature_key"], datetime.fromisoformat(row["period_start"])): row
        for row in found["charges"]
    }
    assert {key: Fraction(row["usage"]) for key, row in periods.items()} == dict(bill.usage)
    assert {key: Fraction(row["amount"]) for key, row in periods.items()} == bill.amounts(PRICES)
    charged = bill.charged(PRICES)
    for row in found["credits"]:
        number = int(row["customer_key"][1:])
        total = charged.get(f"customer-{number}", Fraction(0))
        assert Fraction(row["charged"]) == total
        consumed = min(total, Fraction(number * 10))
        assert Fraction(row["consumed"]) == consumed
        assert Fraction(row["settled"]) == number * 10 - consumed
    for invoice in found["invoices"]:
        exact = charged[f"customer-{invoice['customer']['key'][1:]}"]
        details = sum(len(invoice_line["children"]) for invoice_line in invoice["lines"])
        assert abs(Fraction(invoice["totals"]["amount"]) - exact) <= Fraction(details, 200), "half a cent a detail"


def test_a_file_without_trouble_ends_with_code_0_and_tables(tmp_path: Path) -> None:
    """People get an invoice and balances; standard input will do for a file."""
    (tmp_path / "catalog.yaml").write_bytes(catalog())
    event = {"specversion": "1.0", "id": "1", "source": "t", "subject": "s1a", "type": "call", "data": {}}
    arguments = ("rate", "-", "--catalog", str(tmp_path / "catalog.yaml"), "--as-of", AS_OF)
    result = Home(tmp_path / "home").ok(*arguments, stdin=line(event | {"time": "2026-04-01T00:00:00Z"}))
    assert "Invoice of c1: 0.00 USD to pay after credits" in result.out
    assert "1 events: 1 rated, 0 duplicate, 0 parked, 0 rejected" in result.err


def test_overage_has_a_column_where_there_is_some(tmp_path: Path) -> None:
    """Under `credit_only` the table shows what no credit covered; elsewhere it is not in the way."""
    found = []
    for name in ("i12-overage-of-credit-only", "i11-a-fee-that-a-discount-takes-off"):
        files = str(CASES / name / "events.jsonl"), "--catalog", str(CASES / name / "catalog.yaml")
        found.append(Home(tmp_path).here("rate", *files, "--as-of", "2026-02-10T00:00:00Z").out)
    with_overage, without = found
    assert ("overage" in with_overage, "65.60" in with_overage) == (True, True)
    assert "overage" not in without


def test_what_of_rated_events_has_no_price_or_no_value_is_said_by_meter(tmp_path: Path) -> None:
    """A catalog is checked with it: a model that no feature takes must not pass for rated."""
    meters = [
        {
            "key": "tokens",
            "event_type": "p",
            "aggregation": "SUM",
            "value_property": "$.n",
            "group_by": {"model": "$.m"},
        },
        {"key": "bytes", "event_type": "p", "aggregation": "SUM", "value_property": "$.bytes"},
    ]
    features: list[dict[str, Any]] = [
        {"key": "small", "meter": "tokens", "filters": {"model": "small"}},
        {"key": "bytes", "meter": "bytes"},
    ]
    cards = [{"feature": feature["key"], "price": {"type": "unit", "amount": 1}} for feature in features]
    subscription = {"plan": "pro", "from": "2026-03-01T00:00:00Z"}
    file = tmp_path / "catalog.yaml"
    file.write_bytes(
        msgspec.json.encode(
            {
                "meters": meters,
                "features": features,
                "plans": [{"key": "pro", "cadence": "P1M", "rate_cards": cards}],
                "customers": [{"key": key, "subscription": subscription} for key in ("zed", "acme")],
            }
        )
    )
    common = {"specversion": "1.0", "source": "g", "type": "p", "time": "2026-03-02T00:00:00Z"}
    events = [
        {**common, "id": "1", "subject": "acme", "data": {"n": 3, "bytes": 1, "m": "huge"}},
        {**common, "id": "2", "subject": "zed", "data": {"n": 3, "m": "small"}},
    ]
    lines = b"\n".join(map(msgspec.json.encode, events))
    rated = Home(tmp_path / "home").run(
        "rate", "-", "--catalog", str(file), "--as-of", "2026-03-03T00:00:00Z", "--json", stdin=lines
    )
    assert "  parked of rated events, meter tokens: 1 unpriced\n" in rated.err
    assert "  rejected of rated events, meter bytes: 1 value_missing\n" in rated.err
    assert rated.json["events"]["rated"] == 2
    assert rated.json["parts"] == {"parked": {"tokens": {"unpriced": 1}}, "rejected": {"bytes": {"value_missing": 1}}}
    assert [(one["meter"], one["dimensions"]) for one in rated.json["parked"]] == [("tokens", {"model": "huge"})]
    assert [one["meter"] for one in rated.json["rejected"]] == ["bytes"]
    assert [row["customer_key"] for row in rated.json["credits"]] == ["acme", "zed"]
