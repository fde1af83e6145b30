"""
Tallies: what an aggregation has to remember of the events of a billing period.

Tallies are exact and do not depend on the order in which events come; call `rating.money.use_exact` first. Only an
average is rounded: once, when it is read, half up to `AVERAGE_DIGITS`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from rating.meters import Aggregation
from rating.money import ZERO, quotient

AVERAGE_DIGITS: Final = 18
"""Digits after the point that an average keeps."""


class SumTally(Struct, tag="sum", array_like=True, gc=False):
    """The total."""

    total: Decimal = ZERO


class CountTally(Struct, tag="count", array_like=True, gc=False):
    """How many events."""

    count: int = 0


class AverageTally(Struct, tag="avg", array_like=True, gc=False):
    """The total, and of how many."""

    total: Decimal = ZERO
    count: int = 0


class LowestTally(Struct, tag="min", array_like=True, gc=False):
    """The lowest value, None before the first."""

    lowest: Decimal | None = None


class HighestTally(Struct, tag="max", array_like=True, gc=False):
    """The highest value."""

    highest: Decimal = ZERO


class LatestTally(Struct, tag="latest", array_like=True, gc=False):
    """Time, id and value of the latest event. The value decides between two sources that used the same id."""

    latest: tuple[datetime, str, Decimal] | None = None


DIGEST_BYTES: Final = 16
"""
Of each different text this much is kept. With 128 bits, any two of a million texts have the same digest once in 10^26
times; and nobody can look for two that have, to be charged for one: of a cryptographic hash that takes 2^64 tries.
"""
UNIQUE_MAX: Final = 250_000
"""At most this many different texts are counted for a customer and billing period."""


class UniqueTally(Struct, tag="unique", array_like=True, dict=True):
    """The texts seen, as digests."""

    texts: set[str] = set()
    """In a snapshot of old: the texts themselves."""
    digests: bytearray = msgspec.field(default_factory=bytearray)
    """One after the other, as they came: so a snapshot takes them as they are."""

    def __post_init__(self) -> None:
        packed = bytes(self.digests)
        self.__dict__["known"] = {packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES)}
        for text in sorted(self.texts):
            self.add(text)
        self.texts = set()

    @property
    def known(self) -> set[bytes]:
        """The digests, to be looked up."""
        known: set[bytes] = self.__dict__["known"]
        return known

    def __len__(self) -> int:
        return len(self.known)

    def has(self, text: str) -> bool:
        """Whether a text was seen."""
        return _digest(text) in self.known

    def add(self, text: str) -> None:
        """A text was seen."""
        digest = _digest(text)
        if digest not in self.known:
            self.known.add(digest)
            self.digests += digest

    def discard_last(self, text: str) -> None:
        """The text that was added last was not seen after all."""
        self.known.discard(_digest(text))
        del self.digests[-DIGEST_BYTES:]


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def is_beyond(tally: "Tally | None", text: str) -> bool:
    """Whether a text is one too many different ones."""
    return isinstance(tally, UniqueTally) and len(tally) >= UNIQUE_MAX and not tally.has(text)


Tally = SumTally | CountTally | AverageTally | LowestTally | HighestTally | LatestTally | UniqueTally

_TALLIES: Final[dict[Aggregation, Callable[[], Tally]]] = {
    Aggregation.SUM: SumTally,
    Aggregation.COUNT: CountTally,
    Aggregation.AVG: AverageTally,
    Aggregation.MIN: LowestTally,
    Aggregation.MAX: HighestTally,
    Aggregation.LATEST: LatestTally,
    Aggregation.UNIQUE_COUNT: UniqueTally,
}


def new_tally(aggregation: Aggregation) -> Tally:
    """The tally of nothing."""
    return _TALLIES[aggregation]()


def add(tally: Tally, value: Decimal | str, time: datetime, event_id: str) -> None:
    """Add one event: `value` is what `quantity` gave for the tally's aggregation."""
    if isinstance(value, str):
        assert isinstance(tally, UniqueTally)
        tally.add(value)
        return
    match tally:
        case SumTally():
            tally.total += value
        case CountTally():
            tally.count += 1
        case AverageTally():
            tally.total += value
            tally.count += 1
        case LowestTally():
            tally.lowest = value if tally.lowest is None else min(tally.lowest, value)
        case HighestTally():
            tally.highest = max(tally.highest, value)
        case LatestTally():
            candidate = (time, event_id, value)
            tally.latest = candidate if tally.latest is None else max(tally.latest, candidate)
        case UniqueTally():
            raise AssertionError("UNIQUE_COUNT adds texts")
        case _:
            assert_never(tally)


def tally_value(tally: Tally) -> Decimal:
    """What the events come to; 0 without any."""
    match tally:
        case SumTally():
            return tally.total
        case CountTally():
            return Decimal(tally.count)
        case AverageTally():
            return quotient(tally.total, Decimal(tally.count), AVERAGE_DIGITS) if tally.count else ZERO
        case LowestTally():
            return ZERO if tally.lowest is None else tally.lowest
        case HighestTally():
            return tally.highest
        case LatestTally():
            return ZERO if tally.latest is None else tally.latest[2]
        case UniqueTally():
            return Decimal(len(tally))
        case _:
            assert_never(tally)


def merged_value(tallies: Sequence[Tally]) -> Decimal:
    """What the events of several tallies of one aggregation come to together."""
    whole = msgspec.structs.replace(tallies[0])
    for tally in tallies[1:]:
        match whole, tally:
            case SumTally(), SumTally():
                whole.total += tally.total
            case CountTally(), CountTally():
                whole.count += tally.count
            case AverageTally(), AverageTally():
                whole.total += tally.total
                whole.count += tally.count
            case LowestTally(), LowestTally():
                found = [one.lowest for one in (whole, tally) if one.lowest is not None]
                whole.lowest = min(found, default=None)
            case HighestTally(), HighestTally():
                whole.highest = max(whole.highest, tally.highest)
            case LatestTally(), LatestTally():
                latest = [one.latest for one in (whole, tally) if one.latest is not None]
                whole.latest = max(latest, default=None)
            case UniqueTally(), UniqueTally():
                whole.__dict__["known"] = whole.known | tally.known
            case _:
                raise AssertionError("tallies of different aggregations")
    return tally_value(whole)
