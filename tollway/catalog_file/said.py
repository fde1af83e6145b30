"""
What catalog files said before, and what applying one comes to.

A file is no stranger to what it once said: where it says the same of a subscription or a plan again, it asks for
nothing, whatever became of that by other ways.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from psycopg.types.json import Jsonb

from rating.catalog import PlanVersion, decode_record, encode_record
from sinks.postgres.statements import statement
from tollway.control import Changes, CustomerDraft, PlanDraft, SubscriptionDraft, version_of

Terms = dict[str, Any]
"""The terms of a subscription as a file says them; what it leaves out is not there."""


class Change(Struct, frozen=True):
    """What applying a file did about one thing in it."""

    kind: str
    key: str
    action: str
    """created, updated, unchanged, or published with a version."""
    detail: str = ""


def terms_of(draft: SubscriptionDraft) -> Terms:
    """What a file says of a subscription, but its key."""
    terms: Terms = msgspec.to_builtins(draft)
    return {name: value for name, value in terms.items() if name != "key" and value is not None}


class SaidTerms:
    """
    What files last said about subscriptions, by the customer's id and the subscription's key.

    Args:
        changes: The transaction that the file is applied in.
        drafts: The customers of the file.
    """

    def __init__(self, changes: Changes, drafts: Collection[CustomerDraft]) -> None:
        known = [changes.find_customer_by_key(draft.key) for draft in drafts if draft.subscription is not None]
        ids = [customer.id for customer in known if customer is not None]
        rows = changes.rows("terms_said", ids) if ids else []
        self._said: dict[tuple[str, str], Terms] = {(customer_id, key): terms for customer_id, key, terms in rows}
        self._changed: dict[tuple[str, str], Terms] = {}

    def last(self, customer_id: str, key: str) -> Terms | None:
        """What was said last; None if nothing was, or if it is not remembered."""
        return self._said.get((customer_id, key))

    def say(self, customer_id: str, key: str, terms: Terms) -> None:
        """Remember what is said now."""
        if self._said.get((customer_id, key)) != terms:
            self._said[customer_id, key] = self._changed[customer_id, key] = terms

    def write(self, changes: Changes) -> None:
        """Write what was said now and not before, in the transaction; a file alone has nowhere to write it to."""
        if not self._changed or changes.connection is None:
            return
        changes.flush()  # the customers that are referred to
        rows = [(*place, Jsonb(terms)) for place, terms in self._changed.items()]
        changes.connection.execute(statement("say_terms"), [list(column) for column in zip(*rows, strict=True)])


class SaidPlans:
    """
    What files last said about plans, each as a version without a number.

    Args:
        changes: The transaction that the file is applied in.
        drafts: The plans of the file.
    """

    def __init__(self, changes: Changes, drafts: Collection[PlanDraft]) -> None:
        keys = [draft.key for draft in drafts]
        rows = changes.rows("plans_said", keys) if keys else []
        self._said = {key: decode_record(body) for key, body in rows}
        self._changed: dict[str, PlanVersion] = {}

    def is_new(self, draft: PlanDraft, versions: Sequence[PlanVersion]) -> bool:
        """
        Whether a file says what it did not say when it was last applied.

        Where that is not remembered, what any of the versions there are says counts as said.
        """
        said = self._said.get(draft.key)
        if said is not None:
            return said != version_of(draft, 0)
        return not any(version == version_of(draft, version.version) for version in versions)

    def say(self, draft: PlanDraft) -> None:
        """Remember what is said now."""
        plan = version_of(draft, 0)
        if self._said.get(draft.key) != plan:
            self._said[draft.key] = self._changed[draft.key] = plan

    def write(self, changes: Changes) -> None:
        """Write what was said now and not before, in the transaction; a file alone has nowhere to write it to."""
        if not self._changed or changes.connection is None:
            return
        rows = [(key, encode_record(plan).decode()) for key, plan in self._changed.items()]
        changes.connection.execute(statement("say_plans"), [list(column) for column in zip(*rows, strict=True)])
