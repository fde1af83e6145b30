"""The public codes of events that are not rated."""

import re
from datetime import UTC, datetime

import msgspec
import pytest

from rating.refusals import ParkCode, Parked, RejectCode, Rejected

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("code", [*RejectCode, *ParkCode])
def test_a_code_is_a_metric_label(code: str) -> None:
    """Codes are lower-case words with underscores, and equal their text."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)


def test_a_code_says_how_an_event_ended() -> None:
    """No code stands both for a rejection and for parking."""
    assert not {*map(str, RejectCode)} & {*map(str, ParkCode)}


def test_codes_are_in_order_of_precedence() -> None:
    """What the bytes are comes before what they say, and that before what a meter makes of it."""
    codes = [*RejectCode]
    assert codes[:4] == ["too_large", "malformed", "invalid_envelope", "number_unreadable"]
    assert codes[4:6] == ["time_in_future", "value_missing"]
    assert [*ParkCode] == ["unknown_subject", "no_subscription", "no_feature", "period_closed", "unpriced"]


@pytest.mark.parametrize(
    "outcome",
    [
        Rejected(RejectCode.VALUE_MISSING, "expected a number", "$.data.tokens", b"\xff"),
        Parked(ParkCode.NO_FEATURE, "none yet", "s", "1", "u", None, MARCH, b"{}", MARCH),
    ],
)
def test_an_outcome_survives_a_round_trip(outcome: Rejected | Parked) -> None:
    """Outcomes travel as MessagePack, bytes and all."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=type(outcome)) == outcome
