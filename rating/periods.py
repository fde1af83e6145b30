"""
Billing periods and windows: which stretch of time an instant belongs to.

Every stretch includes its start and not its end. Periods follow a cadence from an anchor and are computed
from the anchor by number, never from the period before, so that a month's end does not drift: after
January 31 they start on February 28, then on March 31. All is UTC, where a day has 24 hours, in whole
microseconds.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from msgspec import Struct

from rating.refusal import Refusal

CADENCE_MONTHS_MAX: Final = 1200
"""A cadence is at most 100 years, so that a period's end stays a date."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_MONTH_MEAN: Final = timedelta(seconds=2_629_746)  # of 400 years
_CADENCE_MAX: Final = CADENCE_MONTHS_MAX * _MONTH_MEAN
_MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART: Final = "([0-9]{1,9})"
_DURATION: Final = re.compile(
    rf"P(?:{_PART}Y)?(?:{_PART}M)?(?:{_PART}W)?(?:{_PART}D)?(?:T(?=[0-9])(?:{_PART}H)?(?:{_PART}M)?(?:{_PART}S)?)?"
)
_HINT: Final = "write an ISO 8601 duration such as P1M, P1Y, P2W, P1D or PT1H"


class CadenceError(Refusal, ValueError):
    """A duration that cannot be a cadence; it does not know the field that has it."""

    def __init__(self, expected: str, text: str) -> None:
        super().__init__(f"expected {expected}, got `{text[:40]}`", "", _HINT)

    @property
    def message(self) -> str:
        return f"Bad duration: {self.what}"


class Cadence(Struct, frozen=True):
    """How long a period is: calendar months, and a span of fixed length on top. At least one is above 0."""

    months: int = 0
    span: timedelta = timedelta()

    @property
    def length(self) -> timedelta:
        """How long a period is on average."""
        return self.months * _MONTH_MEAN + self.span

    @staticmethod
    def parse(text: str) -> "Cadence":
        """
        Read an ISO 8601 duration in whole numbers: years, months, weeks, days, hours, minutes, seconds.

        Raises:
            CadenceError: It is no such duration, is zero, or is longer than 100 years.
        """
        return _parse(text)


CADENCE_MAX: Final = Cadence(CADENCE_MONTHS_MAX)


class Period(Struct, frozen=True):
    """From `start` up to, not including, `end`; both in UTC."""

    start: datetime
    end: datetime


def add_duration(instant: datetime, cadence: Cadence) -> datetime:
    """The instant that is one cadence later; a day the month does not have becomes its last."""
    return _start(_utc(instant), cadence, 1)


def period_at(anchor: datetime, cadence: Cadence, at: datetime) -> Period:
    """
    The period that an instant falls in, before the anchor too.

    Periods follow each other without a gap, and one starts at the anchor.
    """
    anchor, at = _utc(anchor), _utc(at)
    number = (at - anchor) // cadence.length
    period = _period(anchor, cadence, number)
    while period.start > at:
        number -= 1
        period = _period(anchor, cadence, number)
    while period.end <= at:
        number += 1
        period = _period(anchor, cadence, number)
    return period


def window_at(at: datetime, seconds: int) -> tuple[datetime, datetime]:
    """The tumbling window of `seconds` that an instant falls in: start and end, aligned to the Unix epoch."""
    return _window((_utc(at) - EPOCH) // timedelta(seconds=seconds), seconds)


@lru_cache(maxsize=1024)
def _window(number: int, seconds: int) -> tuple[datetime, datetime]:
    size = timedelta(seconds=seconds)
    return EPOCH + number * size, EPOCH + (number + 1) * size


@lru_cache(maxsize=65_536)
def _period(anchor: datetime, cadence: Cadence, number: int) -> Period:
    return Period(_start(anchor, cadence, number), _start(anchor, cadence, number + 1))


@lru_cache(maxsize=1024)
def _parse(text: str) -> Cadence:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise CadenceError("whole years, months, weeks, days, hours or minutes", text)
    years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    months += 12 * years
    if months > CADENCE_MONTHS_MAX or max(weeks, days) > _CADENCE_MAX.days:
        raise CadenceError("at most 100 years", text)
    span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    length = months * _MONTH_MEAN + span
    if not length:
        raise CadenceError("more than zero", text)
    if length > _CADENCE_MAX:
        raise CadenceError("at most 100 years", text)
    return Cadence(months, span)


def _utc(instant: datetime) -> datetime:
    assert instant.tzinfo is not None, "an instant without an offset is none"
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def _start(anchor: datetime, cadence: Cadence, number: int) -> datetime:
    """Where period `number` starts; period 0 starts at the anchor."""
    start = anchor
    if cadence.months:
        year, month = divmod(anchor.year * 12 + anchor.month - 1 + number * cadence.months, 12)
        start = anchor.replace(year=year, month=month + 1, day=min(anchor.day, _days_in(year, month + 1)))
    return start + number * cadence.span


def _days_in(year: int, month: int) -> int:
    if month == 2 and year % 4 == 0 and (year % 100 or year % 400 == 0):
        return 29
    return _MONTH_DAYS[month - 1]
