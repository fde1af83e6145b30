"""What waiting events are asked is what the keyed step decides; a change is looked through only where it concerns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.waits import Look, Looks, Wait, WaitKind, concerned
from rating.catalog import Catalog, Customer, FeatureSet, Grant, MeterSet, PlanVersion, Record, Subscription, key_group
from rating.events import EventDecoder
from rating.meters import Aggregation, Feature, Meter
from rating.placing import EventStanding, metered_fields, place, place_unread
from rating.refusals import ParkCode, Rejected
from rating.time_rules import TimeRules
from tests.repeats import repeats
from tests.simulation.settling import DAY, HOUR, World, card, customer, grant, plan, subscription
from tests.world import START, line

RULES = TimeRules(grace=HOUR, lane_check_events=1)
AT = START + 2 * DAY + timedelta(microseconds=7)

METERS = (
    Meter("tokens", "use", Aggregation.SUM, "$.n", {"kind": "$.kind", "deep": "$.a.b"}),
    Meter("calls", "use", Aggregation.COUNT, None, {"kind": "$.kind"}),
    Meter("users", "use", Aggregation.UNIQUE_COUNT, "$.who", {"kind": "$.kind"}),
    Meter("other", "other", Aggregation.SUM, "$.n"),
)
FEATURES = (
    Feature("small", "", "tokens", {"kind": ("small",)}),
    Feature("deep", "", "tokens", {"kind": ("small", "large"), "deep": ("1", "true")}),
    Feature("rest", "", "tokens", others=True),
    Feature("calls", "", "calls"),
    Feature("users", "", "users", {"kind": ("large",)}),
    Feature("other", "", "other"),
    Feature("flag"),
)
CARDS = (
    card("small"),
    card("deep", cadence="P1D"),
    card("rest"),
    card("calls", cadence="P1W"),
    card("users", cadence="P1D"),
    card("other"),
    card(None),
)
HELD = [("x",), (), ("x", "y"), ("y",)]

records: st.SearchStrategy[Record] = st.one_of(
    st.sampled_from([MeterSet(meter) for meter in METERS]),
    st.sampled_from([FeatureSet(feature) for feature in FEATURES]),
    st.builds(
        lambda key, cards: plan(*cards, key=key),
        st.sampled_from(["plan", "more"]),
        st.lists(st.sampled_from(CARDS), min_size=1, max_size=5, unique_by=lambda found: found.key),
    ),
    st.builds(
        lambda name, subjects, since, deleted: customer(
            subjects, f"id-{name}", name, recorded_at=since, deleted_at=since if deleted else None
        ),
        st.sampled_from(["p", "q"]),
        st.sampled_from(HELD),
        st.sampled_from([None, AT - DAY, AT + DAY]),
        st.sampled_from([False, False, False, True]),
    ),
    st.builds(
        lambda customer_id, key, start, end, name: subscription(
            start=start, end=end, name=name, plan_key=key, customer_id=customer_id
        ),
        st.sampled_from(["id-p", "id-q"]),
        st.sampled_from(["plan", "more"]),
        st.sampled_from([START, AT - HOUR, AT + HOUR]),
        st.sampled_from([None, AT + 2 * HOUR, AT + 40 * DAY]),
        st.sampled_from(["s1", "s2"]),
    ),
    st.just(grant("g", 5, customer_id="id-p")),
)
catalogs = st.lists(records, max_size=14)
events = st.fixed_dictionaries(
    {"subject": st.sampled_from(["x", "y", "p"]), "type": st.sampled_from(["use", "use", "use", "other", "none"])},
    optional={
        "data": st.fixed_dictionaries(
            {},
            optional={
                "n": st.sampled_from([1, 0, "2.5", -1, "x", None, 10**120]),
                "kind": st.sampled_from(["small", "large", "huge", 1]),
                "a": st.sampled_from([{"b": 1}, {"b": True}, {}, 5]),
                "who": st.sampled_from(["z", None, 5]),
            },
        )
    },
)
only = st.sampled_from(["", "", "", "tokens", "calls", "users"])
receipts = st.sampled_from([AT, AT + DAY, AT + 5 * DAY, AT + 70 * DAY])

ORDER = (MeterSet, FeatureSet, PlanVersion, Customer, Subscription, Grant)


def in_order(found: list[Record]) -> list[Record]:
    """Records as the control plane could have made them: none names what is not there, and nobody is made twice."""
    kept: list[Record] = []
    meters, features, plans, customers = set(), set(), set(), set()
    for record in sorted(found, key=lambda record: ORDER.index(type(record))):
        match record:
            case MeterSet(meter):
                meters.add(meter.key)
            case FeatureSet(feature):
                if feature.meter_key not in meters | {None}:
                    continue
                features.add(feature.key)
            case PlanVersion():
                cards = [card for phase in record.phases for card in phase.rate_cards]
                if record.key in plans or any(card.feature_key not in features | {None} for card in cards):
                    continue
                plans.add(record.key)
            case Customer():
                customers.add(record.id)
            case Subscription():
                if record.plan_key not in plans or record.customer_id not in customers:
                    continue
            case Grant():
                if record.customer_id not in customers:
                    continue
        kept.append(record)
    return kept


def told(event: dict[str, Any]) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "s", "time": AT.isoformat(), **event}


def standing(catalog: Catalog, event: dict[str, Any], received: Any, meter: str) -> EventStanding:
    decoded = EventDecoder(metered_fields(catalog)).decode(line(told(event)))
    if isinstance(decoded, Rejected):
        return EventStanding(catalog.owner_of_usage(event["subject"], AT, received), None)
    found = place(catalog, RULES, decoded, AT, received, meter)
    unread = place_unread(catalog, event["subject"], event["type"], AT, received, meter)
    assert unread in (found, EventStanding(found.customer_id, None)), "what the data does not change was told before"
    return found


@given(found=catalogs, event=events, received=receipts, meter=only)
@settings(max_examples=repeats(600), deadline=None)
def test_an_event_is_parked_exactly_for_the_reason_that_is_given(
    found: list[Record], event: dict[str, Any], received: Any, meter: str
) -> None:
    """Filters, values and closed periods included; where none is given it is rated or rejected."""
    catalog = Catalog()
    known = in_order(found)
    for version, record in enumerate(known, 1):
        catalog.apply(version, record)
    given_ = standing(catalog, event, received, meter)
    world = World(rules=RULES, number=key_group(given_.customer_id or event["subject"]))
    world.now = received
    world.apply(*known)
    world.group.fold(line(told(event)), received, received, world.out, meter=meter)
    ends = [(end, reason) for (end, reason), count in world.out.ended.items() if count]
    if given_.code is None:
        assert ends in ([("rated", "")], [("rejected", ends[0][1])])
        return
    assert ends == [("parked", given_.code)]
    (parked,) = world.out.parked
    assert (parked.code, parked.customer, parked.meter) == (given_.code, given_.customer_id, meter)


@given(before=catalogs, change=records, event=events, received=receipts, meter=only)
@settings(max_examples=repeats(600), deadline=None)
def test_a_change_is_looked_through_wherever_it_concerns(
    before: list[Record], change: Record, event: dict[str, Any], received: Any, meter: str
) -> None:
    """Where an event stands otherwise after an entry, it is among the rows of one of the entry's waits."""
    catalog = Catalog()
    for version, record in enumerate(before, 1):
        catalog.apply(version, record)
    first = standing(catalog, event, received, meter)
    catalog.apply(len(before) + 1, change)
    if standing(catalog, event, received, meter) == first:
        return
    rows = {Wait(WaitKind.SUBJECT, event["subject"])}
    if first.customer_id is not None:
        rows.add(Wait(WaitKind.CUSTOMER, first.customer_id))
    waits = [*concerned(catalog, change)]
    by_meter = first.code in (ParkCode.NO_FEATURE, ParkCode.UNPRICED) and any(
        wait.kind is WaitKind.METER and wait.key == event["type"] and meter in ("", wait.meter) for wait in waits
    )
    settled = first.code is None
    assert settled or by_meter or rows & {*waits}, (first, waits)


def test_looks_are_done_oldest_first_and_once_for_many_entries() -> None:
    """Of one wait there is one look, for its newest entry; how far all was looked at is told all the while."""
    looks = Looks(10)
    assert (looks.looked_to, bool(looks)) == (10, False)
    a, b, other = (Wait(WaitKind.CUSTOMER, "a"), Wait(WaitKind.CUSTOMER, "b"), Wait(WaitKind.SUBJECT, "a"))
    for entry_id, waits in ((11, [a]), (12, [b, other]), (13, [a])):
        looks.note(entry_id, iter(waits))
    assert looks.looked_to == 10
    first = looks.oldest(5)
    assert first == [Look(a, 13), Look(b, 12)]
    looks.note(14, iter([a]))
    looks.done(first)
    assert looks.looked_to == 11, "the subject is still to be looked at, and so is what 14 asked for"
    assert looks.oldest(5) == [Look(other, 12)]
    looks.done(looks.oldest(5))
    assert looks.oldest(5) == [Look(a, 14)]
    assert looks.looked_to == 13
    looks.done(looks.oldest(5))
    assert (looks.looked_to, bool(looks)) == (14, False)
