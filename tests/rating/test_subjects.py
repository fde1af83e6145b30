"""Whose a subject was at an instant, as the control log tells it: against a plain list of who took it when."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from rating.catalog import ALWAYS, Catalog, Customer, Record, decode_record, encode_record
from tests.world import START

HOUR = timedelta(hours=1)
SUBJECTS = ("s", "t")
CUSTOMERS = ("a", "b", "c")


def customer(customer_id: str, *subjects: str, at: int | None = None, deleted: bool = False) -> Customer:
    """A record made so many hours after the start."""
    recorded_at = None if at is None else START + at * HOUR
    return Customer(
        customer_id,
        f"key-{customer_id}",
        "",
        "USD",
        subjects,
        recorded_at=recorded_at,
        deleted_at=recorded_at if deleted else None,
    )


def catalog_of(*records: Record) -> Catalog:
    catalog = Catalog()
    for record in records:
        catalog.apply(catalog.version + 1, record)
    return catalog


def owners(catalog: Catalog, subject: str, *hours: int) -> list[str | None]:
    """Whose a subject was so many hours after the start."""
    return [catalog.customer_id_at(subject, START + hour * HOUR) for hour in hours]


def test_the_first_owner_has_a_subject_all_time_before() -> None:
    """Usage may be older than the record of its customer."""
    catalog = catalog_of(customer("a", "s", at=5))
    assert owners(catalog, "s", -1000, 4, 5, 6) == ["a"] * 4
    assert owners(catalog, "key-a", -1000) == ["a"]
    assert owners(catalog, "t", 5) == [None]
    assert not catalog.has_moved("s")
    assert catalog.owned_span("s", START) == ALWAYS


def test_a_subject_that_moves_is_the_next_owners_from_that_instant_on() -> None:
    """The instant itself belongs to the next one."""
    catalog = catalog_of(customer("a", "s", at=0), customer("a", at=3), customer("b", "s", at=3))
    just_before = START + 3 * HOUR - timedelta.resolution
    assert catalog.customer_id_at("s", just_before) == "a"
    assert owners(catalog, "s", -9, 3, 99) == ["a", "b", "b"]
    assert catalog.customer_id_by_subject["s"] == "b"
    assert catalog.owned_span("s", just_before) == (ALWAYS[0], START + 3 * HOUR)
    assert catalog.owned_span("s", START + 3 * HOUR) == (START + 3 * HOUR, ALWAYS[1])


def test_the_order_of_the_two_records_of_a_move_does_not_matter() -> None:
    """The next owner's record may come before that of the one who lets go."""
    catalog = catalog_of(customer("a", "s", at=0), customer("b", "s", at=3), customer("a", at=3))
    assert owners(catalog, "s", 2, 3) == ["a", "b"]


def test_a_gap_is_the_next_owners_and_without_one_nobodys() -> None:
    """A subject that was let go is unknown from then on, until somebody takes it: the gap is then his."""
    catalog = catalog_of(customer("a", "s", at=0), customer("a", at=3))
    assert owners(catalog, "s", 2, 3, 4) == ["a", None, None]
    assert "s" not in catalog.customer_id_by_subject
    catalog.apply(catalog.version + 1, customer("b", "s", at=7))
    assert owners(catalog, "s", 2, 3, 6, 7) == ["a", "b", "b", "b"]


def test_a_subject_that_comes_back_was_never_away() -> None:
    """A gap before the same owner is his too, and nothing is left to look up."""
    catalog = catalog_of(customer("a", "s", at=0), customer("a", at=3), customer("a", "s", at=5))
    assert owners(catalog, "s", 2, 3, 4, 5) == ["a"] * 4
    assert not catalog.has_moved("s")


def test_a_deleted_customer_has_no_subjects_from_then_on() -> None:
    """Its key included; what was used before stays its own, and the key may become another's."""
    catalog = catalog_of(customer("a", "s", at=0), customer("a", "s", at=4, deleted=True))
    assert owners(catalog, "s", 3, 4) == ["a", None]
    assert owners(catalog, "key-a", 3, 4) == ["a", None]
    catalog.apply(catalog.version + 1, customer("b", "key-a", at=6))
    assert owners(catalog, "key-a", 3, 4, 6) == ["a", "b", "b"]


def test_old_records_without_an_instant_hold_for_all_time() -> None:
    """They are read as they were when they were written: the newest owner has a subject all time."""
    old = decode_record(
        b'{"kind":"customer","id":"a","key":"key-a","name":"","currency":"USD","subjects":["s"],'
        b'"block_when_exhausted":false,"low_balance_thresholds":[],"currency_open":false}'
    )
    catalog = catalog_of(old, customer("a"), customer("b", "s"))
    assert owners(catalog, "s", -9, 0, 9) == ["b"] * 3
    catalog.apply(catalog.version + 1, customer("b", at=4))
    catalog.apply(catalog.version + 1, customer("c", "s", at=4))
    assert owners(catalog, "s", -9, 3, 4) == ["b", "b", "c"]


def test_clocks_that_disagree_leave_nobody_without_what_he_has_now() -> None:
    """A later record with an earlier instant takes over where the one before it began."""
    catalog = catalog_of(customer("a", "s", at=0), customer("b", "s", at=5), customer("c", "s", at=4))
    assert owners(catalog, "s", 4, 5, 6) == ["a", "c", "c"]


changes = st.lists(
    st.tuples(
        st.sampled_from(CUSTOMERS), st.sets(st.sampled_from(SUBJECTS)), st.integers(1, 3), st.booleans(), st.booleans()
    ),
    max_size=12,
)


@given(changes=changes)
def test_any_history_is_that_of_a_plain_list(changes: list[tuple[str, set[str], int, bool, bool]]) -> None:
    """Each instant's owner is who had it last by then; before the first owner and in gaps, who takes it next."""
    catalog = Catalog()
    at = 0
    has: dict[str, tuple[str, ...]] = {}
    told: dict[str, list[tuple[datetime, str | None]]] = {subject: [] for subject in SUBJECTS}
    for customer_id, wanted, step, taker_first, deleted in changes:
        at += step
        has.setdefault(customer_id, ())
        records: list[Record] = [customer(customer_id, *sorted(wanted), at=at, deleted=deleted)]
        for other in CUSTOMERS:
            kept = tuple(s for s in has.get(other, ()) if s not in wanted or deleted)
            if other != customer_id and kept != has.get(other, ()):
                records.insert(len(records) if taker_first else 0, customer(other, *kept, at=at))
                has[other] = kept
        has[customer_id] = () if deleted else tuple(sorted(wanted))
        for record in records:
            catalog.apply(catalog.version + 1, decode_record(encode_record(record)))
        for subject in SUBJECTS:
            told[subject].append((START + at * HOUR, next((c for c in CUSTOMERS if subject in has.get(c, ())), None)))
    for subject, history in told.items():
        for hour in range(-1, at + 2):
            instant = START + hour * HOUR
            before = [owner for since, owner in history if since <= instant]
            after = [owner for since, owner in history if since > instant]
            first = next((owner for owner in (before[-1:] + after) if owner is not None), None)
            assert catalog.customer_id_at(subject, instant) == first
            start, end = catalog.owned_span(subject, instant)
            assert start <= instant < end
            assert catalog.customer_id_at(subject, start) == first
            assert catalog.customer_id_at(subject, end - timedelta.resolution) == first
            if end != ALWAYS[1]:
                assert catalog.customer_id_at(subject, end) != first
        now = history[-1][1] if history else None
        assert catalog.customer_id_by_subject.get(subject) == now
