"""
Plans: written as drafts, published as versions that never change.

A draft is kept as it was sent, in v1's form, and is checked as far as can be; publishing it makes it a version of the
control plane, which checks the rest. A plan that was published elsewhere is shown in the same form.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from ulid import ULID

from rating.catalog import PlanVersion, decode_record
from sinks.postgres.statements import statement
from tollway.api.filters import Asked
from tollway.api.plan_bodies import PlanBody, PlanCreate, StoredPlan, body_v1
from tollway.api.plan_terms import as_body, compiled
from tollway.api.plan_v3 import PlanCreateV3, body_v3, from_v3
from tollway.api.problems import Invalid, Problem, check_choices, conflict, not_found
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import listing, threaded
from tollway.api.wire import (
    PAGE_SIZE,
    Json,
    Page,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    derived_id,
    listed,
    page_v1,
    page_v3,
)
from tollway.control import Changes, ControlCode, ControlError
from tollway.ledger_reads import Connection, is_storable


def stored_plans(connection: Connection, key: str | None = None) -> list[StoredPlan]:
    """All plans in all states, those of one key or of all, by key and version."""
    if key is not None and not is_storable(key):
        return []
    sent: dict[tuple[str, int], tuple[Any, ...]] = {}
    drafts: list[tuple[Any, ...]] = []
    for row in connection.execute(statement("sent_plans"), (key, key)):
        if row[6] is None:
            drafts.append(row)
        else:
            sent[row[0], row[1]] = row
    published = connection.execute(statement("published_plans"), (key, key)).fetchall()
    newest = {row[0]: row[1] for row in published}
    found = [_published(row, sent.get((row[0], row[1])), newest[row[0]] == row[1]) for row in published]
    # What a draft will be when it is published may have moved on since it was made.
    found += [_stored(row, newest.get(row[0], 0) + 1, None, False) for row in drafts]
    return sorted(found, key=lambda plan: (plan.body.key, plan.version))


def _stored(row: tuple[Any, ...], version: int, published_at: datetime | None, is_newest: bool) -> StoredPlan:
    body = msgspec.json.decode(row[3], type=PlanCreate)
    return StoredPlan(row[2], version, body, row[4], row[5], published_at, is_newest)


def _published(row: tuple[Any, ...], sent: tuple[Any, ...] | None, is_newest: bool) -> StoredPlan:
    key, version, body, published_at = row
    if sent is not None:
        return _stored(sent, version, published_at, is_newest)
    plan = decode_record(body)
    assert isinstance(plan, PlanVersion), "the table of plans holds plans"
    plan_id = derived_id(published_at, "plan", key, str(version))
    return StoredPlan(plan_id, version, as_body(plan), published_at, published_at, published_at, is_newest)


def find_plan(connection: Connection, id_or_key: str) -> StoredPlan:
    """A plan by id, or the newest of a key. Raises `Problem`."""
    found = stored_plans(connection)
    for plan in found:
        if plan.id == id_or_key:
            return plan
    if is_storable(id_or_key):
        # Publishing what was published already gives the same version: its second id leads there too.
        for key, version in connection.execute(statement("plan_of_id"), (id_or_key,)):
            for plan in found:
                if (plan.body.key, plan.version) == (key, version):
                    return plan._replace(id=id_or_key)
    newest = [plan for plan in found if plan.body.key == id_or_key]
    if not newest:
        raise not_found("plan", id_or_key)
    return newest[-1]


def _create(stores: ApiStores, body: PlanCreate) -> StoredPlan:
    compiled(body)
    plan_id = str(ULID())
    with stores.plane.changing() as changes:
        if changes.rows("draft_of_plan", body.key):
            raise conflict("key", f"there is a draft of plan `{body.key}` already: publish, change or delete it")
        versions = changes.plan_versions(body.key)
        version = versions[-1].version + 1 if versions else 1
        changes.rows(
            "insert_plan_draft",
            plan_id,
            body.key,
            version,
            msgspec.json.encode(body).decode(),
        )
    with stores.connection() as connection:
        return find_plan(connection, plan_id)


def _draft_id(changes: Changes, id_or_key: str) -> str:
    """The id of the draft that a key has; what is no such key is taken for an id."""
    found = changes.rows("draft_of_plan", id_or_key)
    return str(found[0][0]) if found else id_or_key


def _replace(stores: ApiStores, id_or_key: str, body: PlanBody) -> StoredPlan:
    with stores.plane.changing() as changes:
        plan_id = _draft_id(changes, id_or_key)
        for key, published_at, stored in changes.rows("lock_plan", plan_id):
            if published_at is not None:
                raise conflict("id", f"plan `{key}` is published, and no longer changes: make a draft of the same key")
            known = msgspec.json.decode(stored, type=PlanCreate)
            fields = {name: getattr(body, name) for name in PlanBody.__struct_fields__}
            changed = msgspec.structs.replace(known, **fields)
            compiled(changed)
            changes.rows(
                "replace_plan_draft",
                msgspec.json.encode(changed).decode(),
                plan_id,
            )
            break
        else:
            raise not_found("draft of a plan", plan_id)
    with stores.connection() as connection:
        return find_plan(connection, plan_id)


def _publish(stores: ApiStores, id_or_key: str) -> StoredPlan:
    with stores.changing() as changes:
        plan_id = _draft_id(changes, id_or_key)
        for key, published_at, stored in changes.rows("lock_plan", plan_id):
            if published_at is not None:
                raise conflict("id", f"this version of plan `{key}` is published already")
            try:
                published = changes.publish_plan(compiled(msgspec.json.decode(stored, type=PlanCreate)))
            except ControlError as error:
                if error.code is ControlCode.NOT_FOUND:
                    message = f"{error.what}; {error.hint}"
                    raise Problem(400, message, Invalid(error.path, "not_found", message)) from error
                raise
            changes.rows(
                "publish_plan_draft",
                published.version,
                plan_id,
            )
            break
        else:
            raise not_found("draft of a plan", plan_id)
    with stores.connection() as connection:
        return find_plan(connection, plan_id)


@post("/api/v1/plans", status_code=201, tags=["Set-up"])
@threaded
def create_plan_v1(data: JSONBody[PlanCreate], stores: Stores) -> Json:
    """Create a draft of a plan, or of the next version of one."""
    return body_v1(_create(stores, data))


PLAN_STATUSES = ("draft", "active", "archived", "scheduled")


@get("/api/v1/plans", tags=["Set-up"])
@listing
def list_plans_v1(
    stores: Stores,
    key: FromQuery[list[str] | None] = None,
    status: FromQuery[list[str] | None] = None,
    plan_id: Annotated[list[str] | None, QueryParameter(name="id")] = None,
    currency: FromQuery[list[str] | None] = None,
    page: Page = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Json:
    """List plans, all versions of them."""
    wanted = [(name, listed(values)) for name, values in (("key", key), ("status", status), ("id", plan_id))]
    wanted.append(("currency", listed(currency)))
    check_choices("status", listed(status), PLAN_STATUSES)
    with stores.connection() as connection:
        found = [body_v1(plan) for plan in stored_plans(connection)]
    return page_v1(
        [body for body in found if all(not values or body[name] in values for name, values in wanted)], page, page_size
    )


@get("/api/v1/plans/{plan:str}", tags=["Set-up"])
@listing
def get_plan_v1(plan: FromPath[str], stores: Stores) -> Json:
    """A plan by id, or the newest version of a key."""
    with stores.connection() as connection:
        return body_v1(find_plan(connection, plan))


@put("/api/v1/plans/{plan:str}", tags=["Set-up"])
@threaded
def update_plan_v1(plan: FromPath[str], data: JSONBody[PlanBody], stores: Stores) -> Json:
    """Change a draft."""
    return body_v1(_replace(stores, plan, data))


@delete("/api/v1/plans/{plan:str}", status_code=204, tags=["Set-up"])
@threaded
def delete_plan_v1(plan: FromPath[str], stores: Stores) -> None:
    """Delete a draft; a published version stays."""
    with stores.plane.changing() as changes:
        plan_id = _draft_id(changes, plan)
        if changes.rows("delete_plan_draft", plan_id):
            return
    with stores.connection() as connection:
        found = find_plan(connection, plan)
    raise conflict("id", f"version {found.version} of plan `{found.body.key}` is published, and stays")


@post("/api/v1/plans/{plan:str}/publish", status_code=200, tags=["Set-up"])
@threaded
def publish_plan_v1(plan: FromPath[str], stores: Stores) -> Json:
    """Publish a draft: from now on it can be subscribed to, and never changes."""
    return body_v1(_publish(stores, plan))


@post("/api/v3/openmeter/plans", status_code=201, tags=["Set-up"])
@threaded
def create_plan_v3(data: JSONBody[PlanCreateV3], stores: Stores) -> Json:
    """Create a draft of a plan, or of the next version of one."""
    return body_v3(_create(stores, from_v3(stores, data)))


@get("/api/v3/openmeter/plans", tags=["Set-up"])
@listing
def list_plans_v3(
    stores: Stores,
    asked: Asked,
    number: PageNumberV3 = 1,
    size: PageSizeV3 = PAGE_SIZE,
) -> Json:
    """List plans, all versions of them."""
    with stores.connection() as connection:
        found = asked.chosen([body_v3(plan) for plan in stored_plans(connection)])
    return page_v3(found, number, size)


@get("/api/v3/openmeter/plans/{plan:str}", tags=["Set-up"])
@listing
def get_plan_v3(plan: FromPath[str], stores: Stores) -> Json:
    """A plan by id, or the newest version of a key."""
    with stores.connection() as connection:
        return body_v3(find_plan(connection, plan))


@post("/api/v3/openmeter/plans/{plan:str}/publish", status_code=200, tags=["Set-up"])
@threaded
def publish_plan_v3(plan: FromPath[str], stores: Stores) -> Json:
    """Publish a draft: from now on it can be subscribed to, and never changes."""
    return body_v3(_publish(stores, plan))


ROUTES = [
    create_plan_v1,
    list_plans_v1,
    get_plan_v1,
    update_plan_v1,
    delete_plan_v1,
    publish_plan_v1,
    create_plan_v3,
    list_plans_v3,
    get_plan_v3,
    publish_plan_v3,
]
