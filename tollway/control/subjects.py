"""
Who has which subject. A subject is one customer's at a time, and a customer's key is a subject of its own.

What changed hands is kept apart in what was let go and what was taken: a subject can only go to another
customer after the one that had it has let it go, in whatever order the two are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rating.catalog import Customer


class SubjectOwners:
    """
    The owners of subjects as one transaction sees them.

    Args:
        rows: Asks the database, see `Transaction.rows`.
    """

    def __init__(self, rows: Callable[..., list[tuple[Any, ...]]]) -> None:
        self.taken: dict[str, str] = {}
        """The new owner's id by subject, to be written after `released`."""
        self.released: set[str] = set()
        self._rows = rows
        self._owner_ids: dict[str, str | None] = {}

    def owner_id(self, subject: str) -> str | None:
        """The id of the customer that has a subject, None if it is free."""
        if subject not in self._owner_ids:
            found = self._rows("owner_of_subject", subject)
            self._owner_ids[subject] = found[0][0] if found else None
        return self._owner_ids[subject]

    def prefetch(self, subjects: Iterable[str]) -> None:
        """Read the owners of many subjects in one query."""
        unknown = [subject for subject in subjects if subject not in self._owner_ids]
        self._owner_ids.update(dict.fromkeys(unknown))
        self._owner_ids.update(self._rows("owners_of_subjects", unknown))

    def change_hands(self, before: Customer | None, after: Customer) -> None:
        """
        Let a customer have the subjects it now names and not those it named before; they have to be free.

        A customer that is deleted has none, and not its key either.
        """
        subjects = after.names()
        for subject in () if before is None else set(before.names()).difference(subjects):
            self._owner_ids[subject] = None
            self.taken.pop(subject, None)
            self.released.add(subject)
        for subject in subjects:
            if self.owner_id(subject) is None:
                self._owner_ids[subject] = self.taken[subject] = after.id

    def forget_changes(self) -> None:
        """Begin anew with nothing to write."""
        self.taken = {}
        self.released = set()
