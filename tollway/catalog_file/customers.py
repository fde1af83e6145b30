"""The customers of a catalog file, each with its subscription and its grants."""

from __future__ import annotations

from typing import Final

from rating.fields import read_decimal, unexpected
from tollway.catalog_file.fields import (
    as_fields,
    take_each,
    take_instant,
    take_integer,
    take_mode,
    take_moment,
    take_text,
    take_text_or_none,
    take_texts,
    take_truth,
)
from tollway.control import CustomerDraft, GrantDraft, SubscriptionDraft

DEFAULT_SUBSCRIPTION_KEY: Final = "default"
"""The key of a subscription that has none in the file: a customer's subscription is the same one each time."""

LEFT_AS_IS: Final = frozenset({"name", "currency", "subjects", "block_when_exhausted", "low_balance_thresholds"})
"""Fields that a customer keeps, as others have set them, where a file leaves them out."""


def read_customer(value: object, path: str) -> CustomerDraft:
    """A customer with all that sets it up."""
    fields = as_fields(value, path)
    given = {name for name in LEFT_AS_IS if isinstance(value, dict) and value.get(name) is not None}
    draft = CustomerDraft(
        left_as_is=LEFT_AS_IS - given,
        key=take_text(fields, "key"),
        name=take_text_or_none(fields, "name") or "",
        currency=take_text_or_none(fields, "currency") or "USD",
        subjects=take_texts(fields, "subjects"),
        block_when_exhausted=take_truth(fields, "block_when_exhausted"),
        low_balance_thresholds=take_each(fields, "low_balance_thresholds", read_decimal),
        subscription=_subscription(*fields.take("subscription")),
        grants=take_each(fields, "grants", _grant),
    )
    fields.end()
    return draft


def _subscription(value: object, path: str) -> SubscriptionDraft | None:
    if value is None:
        return None
    fields = as_fields(value, path)
    draft = SubscriptionDraft(
        plan=take_text(fields, "plan"),
        version=take_integer(fields, "version"),
        active_from=take_instant(fields, "from"),
        anchor=take_instant(fields, "anchor"),
        settlement_mode=take_mode(fields),
        key=take_text_or_none(fields, "key") or DEFAULT_SUBSCRIPTION_KEY,
        version_from=take_moment(fields, "version_from"),
    )
    fields.end()
    if draft.version_from is not None and draft.version is None:
        raise unexpected(f"{path}.version", "the version to move to", None, "write it, or remove `version_from`")
    return draft


def _grant(value: object, path: str) -> GrantDraft:
    fields = as_fields(value, path)
    priority = take_integer(fields, "priority")
    draft = GrantDraft(
        key=take_text(fields, "key"),
        amount=fields.positive("amount"),
        currency=take_text_or_none(fields, "currency"),
        priority=10 if priority is None else priority,
        features=take_texts(fields, "features"),
        effective_at=take_instant(fields, "effective_at"),
        expires_at=take_instant(fields, "expires_at"),
        expires_after=take_text_or_none(fields, "expires_after"),
        name=take_text_or_none(fields, "name") or "",
    )
    fields.end()
    return draft
