"""
Applying a catalog file: the catalog becomes what the file says, and what the file does not mention stays.

A file is applied all of it or, on any error, nothing; applied again, it changes nothing. In an empty catalog
it comes to control records, which is how usage is rated from a file alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from typing import Final, TypeVar

from msgspec.structs import replace
from ulid import ULID

from rating.catalog import Customer, Record
from tollway.catalog_file.customers import LEFT_AS_IS
from tollway.catalog_file.places import line_of, name_in_file
from tollway.catalog_file.reading import CatalogFile
from tollway.catalog_file.said import Change, SaidPlans, SaidTerms
from tollway.catalog_file.subscribing import bring_about
from tollway.control import (
    Changes,
    ControlError,
    ControlPlane,
    CustomerDraft,
    GrantDraft,
    PlanDraft,
    check_not_deleted,
    version_of,
)

_T = TypeVar("_T")

DELETED_HINT: Final = (
    "take this customer out of the file; its ledger stays, and so its key: one who comes back gets another key"
)


def apply(plane: ControlPlane, file: CatalogFile, *, overwrite: bool = False) -> list[Change]:
    """
    Bring the catalog to what a file says, all of it or, on any error, nothing.

    What the file does not mention stays. Done again, it changes nothing. Raises `ControlError`.

    Args:
        plane: The control plane.
        file: What is to be.
        overwrite: Whether plans of which the file says nothing new are published over what was published elsewhere.
    """
    with plane.changing() as changes:
        changes.prefetch(file.customers)
        return _apply(changes, file, overwrite=overwrite)


def records(file: CatalogFile, now: datetime) -> list[Record]:
    """
    A file as the control records that it comes to in an empty catalog, with the same ids every time.

    Raises `ControlError` where the file does not stand on its own.
    """
    file = replace(file, customers=tuple(_without_versions(draft) for draft in file.customers))
    changes = Changes(None, lambda: now, _stable_ids())
    _apply(changes, file)
    return changes.records


def _without_versions(draft: CustomerDraft) -> CustomerDraft:
    """A customer of a file that stands on its own: it knows of each plan the one version that it has."""
    held = draft.subscription
    return draft if held is None else replace(draft, subscription=replace(held, version=None, version_from=None))


def _stable_ids() -> Callable[..., str]:
    """Ids by what a thing is called. A customer's grants rise in the order of the file, as they burn."""
    numbers: Counter[tuple[str, ...]] = Counter()

    def identify(_at: datetime, *parts: str) -> str:
        numbers[parts[:2]] += 1
        digest = sha256("\x00".join(parts).encode()).digest()
        return str(ULID.from_bytes(numbers[parts[:2]].to_bytes(6, "big") + digest[:10]))

    return identify


def _apply(changes: Changes, file: CatalogFile, *, overwrite: bool = False) -> list[Change]:
    done: list[Change] = []
    said_plans = SaidPlans(changes, file.plans)
    for index, meter in enumerate(file.meters):
        with _at(file, f"$.meters[{index}]"):
            known_meter = changes.find_meter(meter.key)
            if known_meter is not None:
                # What a file leaves out stays as others have set it.
                name, description = meter.name or known_meter.name, meter.description or known_meter.description
                meter = replace(meter, name=name, description=description)
            done.append(_change("meter", meter.key, known_meter, changes.put_meter(meter)))
    for index, feature in enumerate(file.features):
        with _at(file, f"$.features[{index}]"):
            known_feature = changes.find_feature(feature.key)
            if known_feature is not None:
                feature = replace(feature, name=feature.name or known_feature.name)
            done.append(_change("feature", feature.key, known_feature, changes.put_feature(feature)))
    for index, plan in enumerate(file.plans):
        with _at(file, f"$.plans[{index}]"):
            done.append(_publish(changes, plan, said_plans, overwrite=overwrite))
    said = SaidTerms(changes, file.customers)
    known_customers = [changes.find_customer_by_key(draft.key) for draft in file.customers]
    _let_go_of_moving_subjects(changes, file)
    for index, (draft, known) in enumerate(zip(file.customers, known_customers, strict=True)):
        path = f"$.customers[{index}]"
        with _at(file, path):
            if known is not None:
                check_not_deleted(known, "key", DELETED_HINT)
            customer = changes.put_customer(replace(draft, subscription=None, grants=()))
            done.append(_change("customer", draft.key, known, customer))
        if draft.subscription is not None:
            with _at(file, f"{path}.subscription"):
                done.append(bring_about(changes, customer, draft.subscription, said))
        for position, grant in enumerate(draft.grants):
            with _at(file, f"{path}.grants[{position}]"):
                done.append(_grant(changes, customer, grant))
    said.write(changes)
    said_plans.write(changes)
    return done


def _change(kind: str, key: str, before: _T | None, after: _T, detail: str = "") -> Change:
    action = "created" if before is None else "unchanged" if before == after else "updated"
    return Change(kind, key, action, detail)


def _publish(changes: Changes, draft: PlanDraft, said: SaidPlans, *, overwrite: bool) -> Change:
    """Publish a plan as its file says, unless it says nothing new and another version was published elsewhere since."""
    before = list(changes.plan_versions(draft.key))
    newest = before[-1] if before else None
    is_new = overwrite or said.is_new(draft, before)
    said.say(draft)
    if newest is not None and not is_new and newest != version_of(draft, newest.version):
        detail = (
            f"v{newest.version}, published elsewhere, stays the newest; the file says what it said before: take the new"
            " prices over into the file, or publish its own with `--overwrite`"
        )
        return Change("plan", draft.key, "unchanged", detail)
    plan = changes.publish_plan(draft)
    if plan.version > len(before):
        detail = ""
        for former in before[:-1]:
            if replace(former, version=plan.version) == plan:
                detail = f"as v{former.version} was: who subscribes from now on no longer gets v{before[-1].version}"
        return Change("plan", draft.key, f"published v{plan.version}", detail)
    return Change("plan", draft.key, "unchanged", f"v{plan.version}")


def _let_go_of_moving_subjects(changes: Changes, file: CatalogFile) -> None:
    """Take from its customer each subject that the file gives to another: their order must not matter."""
    claimed = {draft.key: draft.key for draft in file.customers}
    claimed |= {subject: draft.key for draft in file.customers for subject in draft.subjects}
    for draft in file.customers:
        known = changes.find_customer_by_key(draft.key)
        if known is not None and known.deleted_at is None:
            kept = tuple(s for s in known.subjects if claimed.get(s, draft.key) == draft.key)
            if kept != known.subjects:
                changes.put_customer(CustomerDraft(key=known.key, subjects=kept, left_as_is=LEFT_AS_IS - {"subjects"}))


def _grant(changes: Changes, customer: Customer, draft: GrantDraft) -> Change:
    assert draft.key is not None
    known = changes.grant_by_key(customer.id, draft.key)
    made = changes.grant(customer, draft)
    voided = "" if made.voided_at is None else "it was voided"
    return _change("grant", f"{customer.key}/{draft.key}", known, made, voided)


@contextmanager
def _at(file: CatalogFile, path: str) -> Iterator[None]:
    """Tell where in the file an error of the control plane came from."""
    try:
        yield
    except ControlError as error:
        inner = name_in_file(error.path)
        if path in file.bare_plans:
            inner = inner.removeprefix("phases[0].")
        where = f"{path}.{inner}"
        raise ControlError(error.code, error.what, where, error.hint, line_of(where, file.lines)) from error
