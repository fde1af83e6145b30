"""Quoting one JSON object."""

from decimal import Decimal
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.charge import commitment, total
from rating.prices import Pricing, conversion_to_v1, discounts_to_v1, price_to_v1
from rating.quote import quote, quote_line
from tests.rating.strategies import pricings, quantities, usage_prices

UNIT: dict[str, Any] = {"type": "unit", "amount": "0.05"}
SAMPLE = b'{"price":{"type":"unit","amount":"0.05","minimumAmount":1},"usage":"12.5","discounts":{"usage":"2"}}'


def test_a_quote_shows_the_exact_amount_and_its_details() -> None:
    """Exact before rounding, and rounded on each detail."""
    assert quote({"price": UNIT, "usage": "12.5"}) == {
        "amount": "0.625",
        "details": [
            {
                "name": "unit-price-usage",
                "quantity": "12.5",
                "unit_price": "0.05",
                "flat_price": None,
                "amount": "0.625",
                "rounded": "0.63",
            }
        ],
        "total_rounded": "0.63",
    }


@pytest.mark.parametrize(
    ("change", "amount", "rounded"),
    [
        ({}, "5", "5"),
        ({"usage": 100}, "5", "5"),
        ({"used_before": "0.5", "usage": "0.5"}, "0.025", "0.02"),
        ({"currency": "JPY", "usage": "10"}, "0.5", "1"),
        ({"discounts": {"percentage": "10", "usage": "20"}}, "3.6", "3.6"),
        (
            {"unitConfig": {"operation": "divide", "conversionFactor": "30", "rounding": "ceiling"}},
            "0.2",
            "0.2",
        ),
        ({"price": UNIT | {"minimumAmount": "9"}}, "9", "9"),
        ({"price": UNIT | {"minimumAmount": "9"}, "period_closed": False}, "5", "5"),
        ({"price": UNIT | {"maximumAmount": "3"}}, "3", "3"),
        ({"price": {"type": "flat", "amount": "7", "paymentTerm": "in_arrears"}}, "7", "7"),
        ({"price": {"type": "free"}}, "0", "0"),
    ],
)
def test_each_field_of_a_quote_counts(change: Any, amount: str, rounded: str) -> None:
    """A hundred units at 0.05, and one thing different."""
    result = quote({"price": UNIT, "usage": "100"} | change)
    assert (result["amount"], result["total_rounded"]) == (amount, rounded)


def test_the_largest_and_the_smallest_numbers_are_priced_exactly() -> None:
    """A hundred digits before and after the point, in every factor of the amount, need no rounding."""
    big, small = f"{'9' * 100}.{'9' * 100}", f"0.{'0' * 99}1"
    for amount, factor in product((big, small), repeat=2):
        result = quote(
            {
                "price": {"type": "unit", "amount": amount},
                "usage": big,
                "used_before": small,
                "discounts": {"percentage": f"99.{'9' * 100}", "usage": small},
                "unit_config": {"operation": "multiply", "conversion_factor": factor},
            }
        )
        assert "." in str(result["amount"])


def test_numbers_are_read_from_the_text() -> None:
    """Neither a long integer nor a long fraction passes through a float."""
    raw = b'{"price":{"type":"unit","amount":0.1},"usage":123456789012345678901234567890.123456789}'
    assert quote_line(raw)[0]["amount"] == "12345678901234567890123456789.0123456789"


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", "$"),
        (b"nope", "$"),
        (b"[]", "$"),
        (b"\xff", "$"),
        (b'"\xff"', "$"),
        (b"[" * 100_000, "$"),
        (b"1" * 10_000, "$"),
        (b"1e99999999999999999999", "$"),
        (b'{"usage":"1"}', "$.price"),
        (b'{"price":{"type":"unit","amount":"1"}}', "$.usage"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":-1}', "$.usage"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":1e999999}', "$.usage"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":NaN}', "$"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":"NaN"}', "$.usage"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":1,"used_before":"-1"}', "$.used_before"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":1,"period":1}', "$.period"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":1,"currency":""}', "$.currency"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":1,"period_closed":1}', "$.period_closed"),
        (b'{"price":{"type":"unit","amount":"1"},"usage":1,"unit_config":{}}', "$.unit_config.operation"),
        (
            b'{"price":{"type":"unit","amount":"1"},"usage":1,"discounts":{"percentage":101}}',
            "$.discounts.percentage",
        ),
        (
            b'{"price":{"type":"unit","amount":"1"},"usage":1,"discounts":{"percentage":{"percentage":"101"}}}',
            "$.discounts.percentage.percentage",
        ),
        (
            b'{"price":{"type":"unit","amount":"1","minimum_amount":"5","maximum_amount":"4"},"usage":1}',
            "$.price.minimum_amount",
        ),
    ],
)
def test_a_bad_line_names_its_path(raw: bytes, path: str) -> None:
    """The error is a value, so that the lines after it are still quoted."""
    result, good = quote_line(raw)
    assert not good
    assert result["error"]["path"] == path  # type: ignore[index]


spoilt_samples = st.builds(
    lambda cut, noise: SAMPLE[:cut] + noise + SAMPLE[cut + len(noise) :],
    st.integers(0, len(SAMPLE)),
    st.binary(),
)


@given(st.binary() | spoilt_samples)
def test_no_bytes_raise(raw: bytes) -> None:
    """Whatever the line, there is an answer, and it can be written as JSON."""
    result, good = quote_line(raw)
    assert good is ("error" not in result)
    msgspec.json.encode(result)


words = st.sampled_from(["type", "unit", "amount", "tiered", "tiers", "mode", "percentage", "1", "-1", "1e9", ""])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
anything = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=5)
names = st.sampled_from(["price", "usage", "used_before", "discounts", "unit_config", "currency", "period_closed"])


@given(st.dictionaries(names, anything))
def test_no_object_raises(obj: Any) -> None:
    """Whatever the fields hold."""
    quote_line(msgspec.json.encode(obj))


@given(pricings(usage_prices), quantities)
def test_a_quote_is_what_the_stream_charges(pricing: Pricing, usage: Decimal) -> None:
    """The amount is the running total with the commitment of a closed period."""
    result = quote(
        {
            "price": price_to_v1(pricing.price),
            "usage": str(usage),
            "currency": pricing.currency,
            "discounts": discounts_to_v1(pricing.discounts),
            "unit_config": conversion_to_v1(pricing.conversion),
        }
    )
    assert Decimal(str(result["amount"])) == total(pricing, usage) + commitment(pricing, usage)


def test_an_unknown_field_is_told_which_fields_there_are() -> None:
    """By the names that a quote has, not by those that the v1 API would give them."""
    error, priced = quote_line(b'{"price": {"type": "unit", "amount": "1"}, "usage": "1", "used_befor": "1"}')
    assert not priced
    known = msgspec.convert(error["error"], dict[str, str])["message"].partition("known here: ")[2]
    assert known == "price, usage, used_before, currency, unit_config, discounts, period_closed"
