"""
What waiting events wait for, and which of them a change of the catalog may concern.

A change is looked through only among the rows that it can place, or about which it can change the reason. The law that
the tests prove: where an event stands otherwise after an entry of the control log than before, it is among the rows of
one of the entry's waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import NamedTuple, assert_never

from rating.catalog import Catalog, Customer, FeatureSet, Grant, MeterSet, PlanVersion, Record, Subscription


class WaitKind(StrEnum):
    """By what rows are found."""

    CUSTOMER = "customer"
    SUBJECT = "subject"
    METER = "meter"
    """Rows that wait for a feature, by the type of the event; parts by their meter too."""


class Wait(NamedTuple):
    """Rows that wait for the same thing."""

    kind: WaitKind
    key: str
    """A customer's id, a subject, or the type of a meter's events."""
    meter: str = ""


class Look(NamedTuple):
    """Rows to be looked at: those of a wait that were last looked at before an entry of the control log."""

    wait: Wait
    before: int


def concerned(catalog: Catalog, record: Record) -> Iterator[Wait]:
    """
    The rows that an entry of the control log may concern.

    Args:
        catalog: It may have folded in the entry, and later ones.
        record: What the entry says.
    """
    match record:
        case Customer():
            yield Wait(WaitKind.CUSTOMER, record.id)
            for subject in record.names():
                yield Wait(WaitKind.SUBJECT, subject)
        case Subscription():
            yield Wait(WaitKind.CUSTOMER, record.customer_id)
        case MeterSet(meter):
            yield Wait(WaitKind.METER, meter.event_type, meter.key)
        case FeatureSet(feature):
            yield from _metered_by(catalog, feature.meter_key)
        case PlanVersion():
            keys = {card.feature_key for phase in record.phases for card in phase.rate_cards}
            known = [catalog.features.get(key) for key in sorted(filter(None, keys))]
            for meter_key in dict.fromkeys(feature.meter_key for feature in known if feature is not None):
                yield from _metered_by(catalog, meter_key)
        case Grant():
            pass
        case _:
            assert_never(record)


def _metered_by(catalog: Catalog, meter_key: str | None) -> Iterator[Wait]:
    meter = catalog.meters.get(meter_key) if meter_key else None
    if meter is not None:
        yield Wait(WaitKind.METER, meter.event_type, meter.key)


class Looks:
    """
    The looks that are to be done, the oldest first; of one wait there is one, for its newest entry.

    Args:
        looked_to: All that the entries of the control log up to here concern has been looked at.
    """

    def __init__(self, looked_to: int) -> None:
        self._entries: dict[Wait, tuple[int, int]] = {}
        """The first entry that asked for it since it was last done, and the last."""
        self.noted_to = looked_to

    def note(self, entry_id: int, waits: Iterator[Wait]) -> None:
        """An entry of the control log concerns some rows."""
        assert entry_id > self.noted_to
        self.noted_to = entry_id
        for wait in waits:
            first, _ = self._entries.get(wait, (entry_id, entry_id))
            self._entries[wait] = (first, entry_id)

    def oldest(self, count: int) -> list[Look]:
        """Some looks of one kind, the oldest first."""
        kind = next((wait.kind for wait in self._entries), None)
        alike = ((wait, last) for wait, (_, last) in self._entries.items() if wait.kind is kind)
        return [Look(wait, last) for wait, last in islice(alike, count)]

    def done(self, looks: list[Look]) -> None:
        """These are done; a wait that an entry asked for again meanwhile is asked for by that one."""
        for wait, before in looks:
            _, last = self._entries[wait]
            del self._entries[wait]
            if last > before:
                self._entries[wait] = (before + 1, last)

    @property
    def looked_to(self) -> int:
        """All that the entries up to here concern has been looked at."""
        return min((first for first, _ in self._entries.values()), default=self.noted_to + 1) - 1

    def __bool__(self) -> bool:
        return bool(self._entries)
