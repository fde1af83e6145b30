"""Which events were rated: ids against a plain dict, whoever has them, sealed, forgotten, or back from a snapshot."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating import dedup
from rating.dedup import SeenEvents, SeenState, mark_of, pack_ids, part_of
from tests.world import START

HORIZON = timedelta(hours=1)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SeenState).decode


class Model:
    """What is remembered, as a plain dict: by source, id and customer the fingerprint; forgotten in segments."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.known: dict[tuple[str, str, int], int] = {}
        self.open: list[tuple[str, str, int]] = []
        self.sealed: list[tuple[int, list[tuple[str, str, int]]]] = []

    def add(self, key: tuple[str, str, int], fingerprint: int) -> None:
        self.known[key] = fingerprint
        self.open.append(key)

    def seal(self, hour: int) -> None:
        if len(self.open) < self.size:
            return
        self.sealed.append((hour, self.open))
        self.open = []
        while self.sealed[0][0] < hour - 1:
            for key in self.sealed.pop(0)[1]:
                del self.known[key]


class Seen:
    """`SeenEvents` as the fold uses it."""

    def __init__(self) -> None:
        self.segments: dict[int, bytes] = {}
        self.events = self.opened(SeenState())

    def opened(self, state: SeenState) -> SeenEvents:
        return SeenEvents(0, state, HORIZON, lambda _, numbers: [self.segments[number] for number in numbers])

    def find(self, source: str, event_id: str, number: int) -> int | None:
        known = self.events.of_source(source).get(event_id)
        return None if known is None else self.events.fingerprint(source, event_id, known, number)

    def add(self, source: str, event_id: str, number: int, fingerprint: int) -> None:
        prints = self.events.of_source(source)
        if event_id in prints:
            self.events.add_beside(source, event_id, mark_of(number) + fingerprint)
        else:
            prints[event_id] = mark_of(number) + fingerprint

    def seal(self, added: int, hour: int) -> None:
        self.events.newest_event = START + hour * HORIZON
        sealed = self.events.seal(added, START + hour * HORIZON)
        if sealed is not None:
            self.segments[sealed.segment] = sealed.ids

    def restart(self) -> None:
        self.events = self.opened(_decode(_encode(self.events.snapshot())))


@pytest.fixture(autouse=True, scope="module")
def small_segments() -> object:
    """Segments of a few ids, so that all that happens to one happens soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "SEGMENT_IDS", 4)
        yield


adds = st.tuples(st.sampled_from("ab"), st.sampled_from("123"), st.integers(1, 4), st.integers(0, 2**32 - 1))
steps = st.lists(st.one_of(st.lists(adds, max_size=4), st.just("hour"), st.just("restart")), max_size=60)


@given(steps=steps)
def test_ids_are_those_of_a_plain_dict(steps: list[list[tuple[str, str, int, int]] | str]) -> None:
    """However customers share ids, and whatever was sealed, forgotten or resumed in between."""
    seen, model, hour = Seen(), Model(size=4), 0
    for step in steps:
        if step == "hour":
            hour += 1
        elif step == "restart":
            seen.restart()
        elif isinstance(step, list):
            added = 0
            for source, event_id, number, fingerprint in step:
                known = model.known.get((source, event_id, number))
                assert seen.find(source, event_id, number) == known
                if known is None:
                    seen.add(source, event_id, number, fingerprint)
                    model.add((source, event_id, number), fingerprint)
                    added += 1
            seen.seal(added, hour)
            model.seal(hour)
        assert len(seen.events) == len(model.known)
        for source in "ab":
            for event_id in "123":
                for number in range(1, 5):
                    assert seen.find(source, event_id, number) == model.known.get((source, event_id, number))
    open_ids = seen.events.snapshot().open_ids
    assert sum(len(ids) for ids, _ in open_ids.values()) == len(model.open)


def test_an_id_that_its_first_customer_has_no_more_is_still_that_of_the_others() -> None:
    """Forgetting it for the one leaves it for the other, until that is forgotten too; nothing stays behind."""
    seen = Seen()
    seen.add("s", "shared", 1, 11)
    for number in range(3):
        seen.add("s", f"early-{number}", 1, 0)
    seen.seal(4, 0)
    seen.add("s", "shared", 2, 22)
    for number in range(3):
        seen.add("s", f"late-{number}", 1, 0)
    seen.seal(4, 2)
    assert [seen.find("s", "shared", number) for number in (1, 2, 3)] == [None, 22, None]
    seen.restart()
    assert [seen.find("s", "shared", number) for number in (1, 2, 3)] == [None, 22, None]
    seen.add("s", "shared", 1, 12)
    for number in range(3):
        seen.add("t", f"last-{number}", 1, 0)
    seen.seal(4, 4)
    assert [seen.find("s", "shared", number) for number in (1, 2)] == [12, None]
    for number in range(4):
        seen.add("t", f"very-last-{number}", 1, 0)
    seen.seal(4, 6)
    assert len(seen.events) == 4
    assert not seen.events.of_source("s")


def test_ids_that_were_kept_before_it_was_known_whose_are_everybodys() -> None:
    """A snapshot and segments of before hold fingerprints alone: such an id is a duplicate for every customer."""
    seen = Seen()
    seen.segments[1] = pack_ids({"s": (["sealed"], [7])})
    state = SeenState({"s": (["open"], [8])}, [dedup.SealedSegment(1, START, START)], 2, START)
    seen.events = seen.opened(_decode(_encode(state)))
    assert [seen.find("s", "sealed", 1), seen.find("s", "open", 5), seen.find("s", "other", 1)] == [7, 8, None]


def test_the_usage_of_one_meter_is_told_apart_from_its_event() -> None:
    """No source holds the character between the two."""
    assert part_of("source", "") == "source"
    assert part_of("source", "meter") == "source\0meter"
