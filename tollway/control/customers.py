"""
Customers: who is charged, in which currency, and by which subjects its usage is known.

A customer keeps its id and its key. Its currency stays as soon as a subscription or a grant is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from config.limits import CUSTOMER_SUBJECTS, CUSTOMER_THRESHOLDS
from rating.catalog import Customer
from rating.events import ATTRIBUTE_LENGTH_MAX
from tollway.control.checks import (
    check_count,
    check_currency,
    check_customer_key,
    check_described,
    check_positive,
    check_text,
)
from tollway.control.currency import DEFAULT_CURRENCY
from tollway.control.deletion import check_not_deleted
from tollway.control.drafts import CustomerDraft
from tollway.control.errors import conflict, within
from tollway.control.grants import grant
from tollway.control.subscriptions import subscribe
from tollway.control.transaction import Transaction


def put_customer(changes: Transaction, draft: CustomerDraft) -> Customer:
    """Make the customer of a key, or change it to be as the draft says; then subscribe it, and grant."""
    customer = _put_customer(changes, draft)
    if draft.subscription is not None:
        with within("subscription"):
            subscribe(changes, customer, draft.subscription)
    for index, grant_draft in enumerate(draft.grants):
        with within(f"grants[{index}]"):
            grant(changes, customer.id, grant_draft)
    return changes.customer(customer.id)


def _put_customer(changes: Transaction, draft: CustomerDraft) -> Customer:
    known = changes.find_customer_by_key(draft.key)
    if known is not None:
        check_not_deleted(known, "key")
        draft = _with_what_it_has(draft, known)
    _check_fields(draft)
    subjects = tuple(dict.fromkeys(draft.subjects))
    if known is None or len(subjects) > len(known.subjects):
        check_count(len(subjects), "subjects", CUSTOMER_SUBJECTS)
    _check_subjects_are_free(changes, draft.key, subjects, known)
    currency = draft.currency or (DEFAULT_CURRENCY if known is None else known.currency)
    if known is not None and known.currency != currency and changes.has_dealings(known.id):
        what = f"expected `{known.currency}`, got `{currency}`: there are subscriptions or grants"
        hint = "keep the currency, or make a customer with a key of its own for the other one"
        raise conflict("currency", what, hint)
    now = changes.now()
    customer = Customer(
        id=_new_id(changes, now, draft.key) if known is None else known.id,
        key=draft.key,
        name=draft.name or draft.key,
        currency=currency,
        subjects=subjects,
        block_when_exhausted=draft.block_when_exhausted,
        low_balance_thresholds=_from_high_to_low(draft.low_balance_thresholds),
        currency_open=draft.currency is None and (known is None or known.currency_open),
        recorded_at=now,
    )
    if known is not None and replace(customer, recorded_at=known.recorded_at) == known:
        return known
    changes.record(customer)
    return customer


def _with_what_it_has(draft: CustomerDraft, known: Customer) -> CustomerDraft:
    """The draft, with what the customer has of the fields that the draft leaves as they are."""
    kept = {name: getattr(known, name) for name in draft.left_as_is}
    if known.currency_open and "currency" in kept:
        kept["currency"] = None
    return replace(draft, **kept)


def _check_fields(draft: CustomerDraft) -> None:
    check_customer_key(draft.key, "key")
    check_described(draft.name, "name")
    check_count(len(draft.low_balance_thresholds), "low_balance_thresholds", CUSTOMER_THRESHOLDS)
    if draft.currency is not None:
        check_currency(draft.currency, "currency")
    for index, subject in enumerate(draft.subjects):
        check_text(subject, f"subjects[{index}]", ATTRIBUTE_LENGTH_MAX)
    for index, threshold in enumerate(draft.low_balance_thresholds):
        hint = "write a balance at which to signal; running out is signalled in any case"
        check_positive(threshold, f"low_balance_thresholds[{index}]", hint)


def _check_subjects_are_free(
    changes: Transaction, key: str, subjects: Sequence[str], customer: Customer | None
) -> None:
    """Check that no other customer has the key, which is a subject too, or one of the subjects."""
    for index, subject in enumerate((key, *subjects)):
        field = "key" if index == 0 else f"subjects[{index - 1}]"
        if customer is None or subject not in customer.names():
            _check_is_no_id(changes, subject, field, customer)
        owner_id = changes.subjects.owner_id(subject)
        if owner_id is None or (customer is not None and owner_id == customer.id):
            continue
        owner = changes.customer(owner_id)
        what = f"expected a subject that is free, got `{subject}`, which customer `{owner.key}` has"
        hint = f"remove it from `{owner.key}` first, or choose another; a customer's key is a subject too"
        raise conflict(field, what, hint)


def _check_is_no_id(changes: Transaction, subject: str, field: str, customer: Customer | None) -> None:
    """Check that a key or a subject is not another customer's id, by which that one is asked for. Its own it may be."""
    meant = changes.find_customer_by_id(subject)
    if meant is not None and (customer is None or meant.id != customer.id):
        what = f"expected a name that is no customer's id, got that of customer `{meant.key}`"
        raise conflict(field, what, "choose another: who asks for an id means the customer that has it")


def _new_id(changes: Transaction, now: datetime, key: str) -> str:
    """An id that is nobody's key or subject."""
    while True:
        made = changes.identify(now, "customer", key)
        if made != key and changes.subjects.owner_id(made) is None:
            return made


def _from_high_to_low(thresholds: Sequence[Decimal]) -> tuple[Decimal, ...]:
    return tuple(sorted(set(thresholds), reverse=True))
