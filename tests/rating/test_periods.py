"""Billing periods and windows, against worked examples of others and against their laws."""

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.periods import EPOCH, Cadence, CadenceError, Period, add_duration, period_at, window_at

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "peers.json").read_text())["vectors"]
MONTH = Cadence.parse("P1M")

instants = st.timedeltas(timedelta(days=3650), timedelta(days=55_000)).map(lambda since: EPOCH + since)
month_ends = st.builds(
    lambda year, month: datetime(year, month, 1, tzinfo=UTC) - timedelta(hours=5),
    st.integers(2019, 2030),
    st.integers(1, 12),
)
anchors = instants | month_ends
cadences = st.one_of(
    st.sampled_from(["P1M", "P3M", "P1Y", "P5M", "P13M"]),
    st.sampled_from(["P1W", "P1D", "P30D", "PT1H", "PT7M", "PT90S"]),
    st.sampled_from(["P1M1D", "P1Y6M", "P1M15DT12H", "P1DT1H", "P1M70D"]),
).map(Cadence.parse)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def starts(anchor: datetime, cadence: Cadence, until: datetime) -> list[datetime]:
    """The starts of the periods from the anchor up to, not including, an instant."""
    found = [anchor]
    while (end := period_at(anchor, cadence, found[-1]).end) < until:
        found.append(end)
    return found


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v["model"] == "month_anchor_windows"], ids=lambda v: v["name"]
)
def test_months_start_where_others_start_them(vector: dict[str, Any]) -> None:
    """Worked examples: a month's end is clamped, and the anchor's day comes back."""
    found = starts(day(vector["params"]["start"]), MONTH, day(vector["params"]["end"]))
    assert ",".join(f"{start:%Y-%m-%d}" for start in found) == vector["expected_total"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["model"] == "window_count"], ids=lambda v: v["name"])
def test_usage_falls_in_the_month_others_count_it_in(vector: dict[str, Any]) -> None:
    """Worked examples: the month starts at the customer's midnight, to the microsecond."""
    offset = timezone(timedelta(hours=-4))  # New York in both months; our periods follow UTC
    anchor = datetime.fromisoformat(vector["params"]["period"] + "-01").replace(tzinfo=offset)
    usage = [datetime.fromisoformat(text) for text in vector["usage"]]
    inside = [at for at in usage if period_at(anchor, MONTH, at).start == anchor]
    assert len(inside) == int(vector["expected_total"])


@pytest.mark.parametrize(
    ("anchor", "cadence", "found"),
    [
        ("2025-01-31", "P1M", ["2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30", "2025-05-31"]),
        ("2024-01-30", "P1M", ["2024-01-30", "2024-02-29", "2024-03-30"]),
        ("2024-02-29", "P1Y", ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        ("2100-01-31", "P1M", ["2100-01-31", "2100-02-28", "2100-03-31"]),
        ("2000-02-29", "P12M", ["2000-02-29", "2001-02-28"]),
        ("2025-11-30", "P3M", ["2025-11-30", "2026-02-28", "2026-05-30"]),
        ("2025-12-29", "P1W", ["2025-12-29", "2026-01-05"]),
        ("2025-01-31", "P1M1D", ["2025-01-31", "2025-03-01", "2025-04-02"]),
    ],
)
def test_periods_keep_the_day_of_the_anchor(anchor: str, cadence: str, found: list[str]) -> None:
    """A shorter month ends a period early, and the next one is not moved by it."""
    until = day(found[-1]) + timedelta(microseconds=1)
    assert starts(day(anchor), Cadence.parse(cadence), until) == [day(text) for text in found]


def test_there_are_periods_before_the_anchor() -> None:
    """They end where the anchor's begin."""
    anchor = day("2025-03-31")
    assert period_at(anchor, MONTH, day("2025-03-30")) == Period(day("2025-02-28"), anchor)
    assert period_at(anchor, MONTH, day("2024-02-29")) == Period(day("2024-02-29"), day("2024-03-31"))


@given(anchors, cadences, anchors)
def test_an_instant_is_in_its_period(anchor: datetime, cadence: Cadence, at: datetime) -> None:
    """start <= at < end, and every instant of a period finds the same one."""
    period = period_at(anchor, cadence, at)
    assert period.start <= at < period.end
    assert period_at(anchor, cadence, period.start) == period
    assert period_at(anchor, cadence, period.end - timedelta(microseconds=1)) == period


@given(anchors, cadences, anchors)
def test_periods_follow_each_other(anchor: datetime, cadence: Cadence, at: datetime) -> None:
    """The next period starts where one ends, and the one before ends where it starts: no gap, no overlap."""
    period = period_at(anchor, cadence, at)
    assert period_at(anchor, cadence, period.end).start == period.end
    assert period_at(anchor, cadence, period.start - timedelta(microseconds=1)).end == period.start


@given(anchors, cadences)
def test_the_first_period_starts_at_the_anchor(anchor: datetime, cadence: Cadence) -> None:
    """It is as long as one cadence from there."""
    assert period_at(anchor, cadence, anchor) == Period(anchor, add_duration(anchor, cadence))


@given(anchors, anchors, st.integers(-1439, 1439))
def test_offsets_do_not_matter(anchor: datetime, at: datetime, minutes: int) -> None:
    """An instant is the same in every offset, and what comes out is in UTC."""
    offset = timezone(timedelta(minutes=minutes))
    period = period_at(anchor.astimezone(offset), MONTH, at.astimezone(offset))
    assert period == period_at(anchor, MONTH, at)
    assert period.start.tzinfo is UTC
    assert window_at(at.astimezone(offset), 3600) == window_at(at, 3600)


@given(
    st.timedeltas(timedelta(days=-500_000), timedelta(days=2_000_000)).map(lambda since: EPOCH + since),
    st.integers(1, 10**6),
)
def test_windows_are_aligned_to_the_epoch(at: datetime, seconds: int) -> None:
    """start <= at < end, a whole number of windows from 1970, to the microsecond."""
    start, end = window_at(at, seconds)
    assert start <= at < end
    assert end - start == timedelta(seconds=seconds)
    assert (start - EPOCH) % timedelta(seconds=seconds) == timedelta()
    assert window_at(end, seconds)[0] == end


@pytest.mark.parametrize(
    ("text", "cadence"),
    [
        ("P1Y", Cadence(12)),
        ("P1Y6M", Cadence(18)),
        ("P2W", Cadence(span=timedelta(weeks=2))),
        ("P1M15D", Cadence(1, timedelta(days=15))),
        ("PT1H30M", Cadence(span=timedelta(minutes=90))),
        ("P0M1D", Cadence(span=timedelta(days=1))),
        ("P1DT12H", Cadence(span=timedelta(hours=36))),
        ("P100Y", Cadence(1200)),
    ],
)
def test_a_cadence_is_an_iso_8601_duration(text: str, cadence: Cadence) -> None:
    """Months are kept apart from what has a fixed length."""
    assert Cadence.parse(text) == cadence


@pytest.mark.parametrize(
    "text",
    [
        *("", "P", "PT", "P1", "1M", "P-1M", "-P1M", "P0D", "PT0S", "P0.5M", "P1,5Y", "P1DT", "P1H", "P1D1M"),
        *("p1m", "P1M ", "P1M\n", "P101Y", "P36600D", "P999999999W", "PT999999999H", "P99999999999D"),
        *("P٣M", "month"),
    ],
)
def test_a_bad_duration_says_what_is_expected(text: str) -> None:
    """Zero, negative, fractional, endless and misspelt durations are refused, with a good one to copy."""
    with pytest.raises(CadenceError, match=r"expected (?s:.)+\nhint: .*P1M") as caught:
        Cadence.parse(text)
    assert caught.value.hint.startswith("write")


def test_months_do_not_add_up_by_parts() -> None:
    """Grants expire by one cadence from their own instant."""
    assert add_duration(day("2025-01-31"), MONTH) == day("2025-02-28")
    assert [b - a for a, b in pairwise(starts(day("2025-01-31"), MONTH, day("2025-05-01")))] == [
        timedelta(days=days) for days in (28, 31, 30)
    ]


def test_an_instant_without_an_offset_is_a_bug() -> None:
    """Nobody knows when it is."""
    with pytest.raises(AssertionError):
        window_at(datetime(2026, 1, 1), 60)  # noqa: DTZ001
