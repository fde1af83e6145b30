"""Of several contents under one id the first received is rated, whenever it can be, however late the log is read."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.catalog import FeatureSet, Record, SettlementMode
from rating.meters import Feature
from rating.prints import content_of_all
from rating.refusals import Parked
from tests.simulation.settling import DAY, HOUR, World, card, customer, event, metered, plan, subscription
from tests.world import START, line
from tollway.batch import rate_file

SUBSCRIBED = subscription(SettlementMode.CREDIT_THEN_INVOICE)
UNMETERED = [*metered("a"), *metered("b")[:1], FeatureSet(Feature("b"))]
CATALOGS: dict[str, tuple[list[Record], list[Record]]] = {
    "a subscription": ([*metered("a"), *metered("b"), plan(card("a")), customer()], [SUBSCRIBED]),
    "a feature": ([*UNMETERED, plan(card("a"), card("b")), customer(), SUBSCRIBED], metered("b")),
    "both": ([*UNMETERED, plan(card("a"), card("b")), customer()], [*metered("b"), SUBSCRIBED]),
}
"""What is recorded first, and what comes later and makes more usage one that can be rated."""
AT = START + DAY


def content(amount: int, feature: str, hours: int = 0) -> dict[str, Any]:
    """One of the contents of the one id."""
    return event("1", feature, amount, AT + hours * HOUR)


def used(world: World) -> dict[tuple[Any, ...], object]:
    """What was used by rate card and window."""
    return {key: row.quantity for key, row in world.charges.items() if row.quantity}


def read(world: World, events: list[dict[str, Any]], is_back: bool = False) -> list[Parked]:
    """Use, one by one, each a second after the one before. Returns what of it waits."""
    world.now = max(world.now, AT + DAY)
    told = len(world.outs)
    for one in events:
        world.now += timedelta(seconds=1)
        world.use(one, is_back=is_back)
        world.restart()
    return [parked for out in world.outs[told:] for parked in out.parked]


contents = st.builds(content, st.integers(1, 9), st.sampled_from("ab"), st.integers(0, 3))


@given(st.lists(contents, min_size=2, max_size=4), st.integers(1, 4), st.sampled_from(sorted(CATALOGS)))
def test_it_does_not_depend_on_when_the_log_is_read(events: list[dict[str, Any]], known: int, name: str) -> None:
    """Read as it comes, read anew with all that was recorded since, and as a file."""
    before, later = CATALOGS[name]
    world = World(*before)
    waits = read(world, events[:known])
    assert len(waits) <= 1, "one of them has the id"
    world.apply(*later)
    read(world, [json.loads(parked.raw) for parked in waits] * 2, is_back=True)
    read(world, events[known:])

    again = World(*before, *later)
    read(again, events)
    file = rate_file([*before, *later], io.BytesIO(b"\n".join(map(line, events))), world.now)
    found = used(world)
    assert found == used(again)
    assert found == {key: row.quantity for key, row in file.charges.items() if row.quantity}
    assert len(found) <= 1


def test_what_waits_has_its_id_to_itself() -> None:
    """Also beside another customer's event, and after its own came back it is a duplicate."""
    before, later = CATALOGS["a feature"]
    world = World(*before, customer(customer_id="other", key="o"), number=World(*before).number)
    (first,) = read(world, [content(5, "b")])
    read(world, [content(3, "a"), content(5, "b")])
    assert world.ended == {("parked", "no_feature"): 1, ("duplicate", ""): 2}
    assert [found.raw for out in world.outs for found in out.mismatches] == [line(content(3, "a"))]
    world.apply(*later)
    # A copy is not what comes back: that has the time of its first receipt.
    read(world, [content(5, "b")])
    assert used(world) == {}
    read(world, [json.loads(first.raw)] * 2, is_back=True)
    assert list(used(world).values()) == [5]
    assert world.ended["duplicate", ""] == 4


@pytest.mark.parametrize("name", sorted(CATALOGS))
def test_a_copy_in_another_spelling_of_what_waits_is_told_as_the_same(name: str) -> None:
    world = World(*CATALOGS[name][0])
    text = line(content(5, "b")).decode()
    copies = [json.dumps(json.loads(text), sort_keys=True, indent=1).replace("\n", ""), text.replace(":5}", ":5.0}")]
    assert text not in copies
    read(world, [content(5, "b")])
    for copy in copies:
        world.group.fold(copy.encode(), world.now, world.now, world.out)
    assert world.out.ended["duplicate", ""] == len(copies)
    assert world.out.mismatches == []


SAME = ["1", "1.0", "10e-1", "1E0", "0.1e+1", "1.000"]
OTHERS = ["1.1", "-1", "true", '"1"', "null", "[1]", "1e400", "10"]


def test_content_is_what_an_event_says() -> None:
    """Numbers by their value, whatever their exponent; objects whatever the order of their keys; texts as they are."""
    digests = {content_of_all(START, b'{"data":{"n":%s,"m":"x"},"id":"1"}' % number.encode()) for number in SAME}
    digests.add(content_of_all(START, b' { "id" : "1" , "data" : { "m" : "\\u0078" , "n" : 1 } }'))
    assert len(digests) == 1
    others = {content_of_all(START, b'{"data":{"n":%s,"m":"x"},"id":"1"}' % number.encode()) for number in OTHERS}
    assert len(others - digests) == len(OTHERS)
    zone = (b'{"time":"2026-03-01T00:00:00Z"}', b'{"time":"2026-03-01T01:00:00.0+01:00"}')
    assert len({content_of_all(START, found) for found in zone}) == 1
    assert content_of_all(START, zone[0]) != content_of_all(START + HOUR, zone[0])


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.just(b"[" * 5000))
def test_content_is_told_of_whatever_bytes(raw: bytes) -> None:
    """None raises, and the same bytes are the same."""
    assert content_of_all(None, raw) == content_of_all(None, raw)
