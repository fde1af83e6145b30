"""The period that these tests run in: none begins or ends beside them, whenever they run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.oracle import month_of
from tests.world import period_around

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def test_the_present_period_has_room_on_each_day_of_four_years() -> None:
    """Ten days of it are over, and two weeks are to come; the oracle counts in it, also at its end."""
    for number in range(4 * 366):
        for now in (
            datetime(2026, 1, 1, tzinfo=UTC) + number * DAY,
            datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC) + number * DAY,
        ):
            start = period_around(now)
            end = (start.replace(day=1) + 31 * DAY).replace(day=start.day)
            assert start + 10 * DAY <= now <= end - 14 * DAY
            ats = [start - DAY, start, now, end - DAY, end]
            assert [month_of(at, start.day) == start for at in ats] == [False, True, True, True, False]
