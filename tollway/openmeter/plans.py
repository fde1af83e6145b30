"""
Plans: written as drafts, published as versions that never change.

A draft is kept in v1's form, and is checked as far as can be; publishing it makes it a version of the control plane,
which checks the rest. A plan that was published elsewhere is shown in the same form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec.structs import asdict, replace
from ulid import ULID

from rating.catalog import PlanVersion, SettlementMode, decode_record
from sinks.postgres.statements import statement
from tollway.control import Changes, ControlCode, ControlError
from tollway.ledger_reads import Connection, is_storable
from tollway.openmeter.codec import decode_v1, encode_v1
from tollway.openmeter.entitlements import Template, template
from tollway.openmeter.filters import Asked
from tollway.openmeter.plan_bodies import (
    AlignmentCreate,
    CardType,
    PhaseCreate,
    PlanBody,
    PlanCreate,
    ProRatingConfig,
    RateCardCreate,
    as_body,
    compiled,
    compiled_card,
    settled,
)
from tollway.openmeter.prices import (
    Commitments,
    PriceV1,
    PriceV3,
    UnitConfig,
    commitments,
    price_v1,
    price_v3,
    unit_config,
)
from tollway.openmeter.problems import Invalid, Problem, check_choices, conflict, not_found
from tollway.openmeter.routes import both, v1, v3
from tollway.openmeter.shapes import NumberedPage, Page, View
from tollway.openmeter.stores import ApiStores, Stores
from tollway.openmeter.threads import listing
from tollway.openmeter.wire import (
    PAGE_SIZE,
    Json,
    Metadata,
    PageNumberV3,
    PageSizeV1,
    PageSizeV3,
    derived_id,
    listed,
)
from tollway.openmeter.wire import Page as PageV1

TAGS = ["Set-up"]
PlanStatus = Literal["draft", "active", "archived"]
STATUSES = ("draft", "active", "archived", "scheduled")
"""Those that there are, and `scheduled`, which only OpenMeter has."""


class FeatureKey(View, frozen=True):
    """A feature by its key."""

    key: str


class RateCard(View, frozen=True):
    """The price of a feature, or a fee."""

    type: CardType
    key: str
    name: str
    billing_cadence: str | None
    price: PriceV3
    price_v1: PriceV1 | None
    commitments: Commitments | None = None
    description: str | None = None
    labels: Metadata | None = None
    feature_key: str | None = None
    feature: FeatureKey | None = None
    discounts: Json | None = None
    unit_config: UnitConfig | None = None
    entitlement_template: Template | None = None
    tax_config: Json | None = None


class PlanPhase(View, frozen=True):
    """A stretch of a plan; only the last has no duration."""

    key: str
    name: str
    duration: str | None
    rate_cards: list[RateCard]
    description: str | None = None
    labels: Metadata | None = None


class ProRating(View, frozen=True):
    """Whether a fee is shortened to the part of the period that it is for."""

    enabled: bool
    mode: Literal["prorate_prices"]


class Alignment(View, frozen=True):
    """Whether all that is billed of a subscription has one period. It has."""

    billables_must_align: bool


class Plan(View, frozen=True):
    """A draft of a plan, or a version of it that was published and stays."""

    id: str
    key: str
    version: int
    status: PlanStatus
    name: str
    currency: str
    billing_cadence: str
    settlement_mode: SettlementMode
    pro_rating_config: ProRating
    alignment: Alignment
    phases: list[PlanPhase]
    validation_errors: list[Json]
    created_at: datetime
    updated_at: datetime
    effective_from: datetime | None = None
    description: str | None = None
    labels: Metadata | None = None


class StoredPlan(NamedTuple):
    """A plan in any state, with what it says."""

    id: str
    version: int
    body: PlanCreate
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    is_newest: bool

    @property
    def status(self) -> PlanStatus:
        """`draft`, `active`, or `archived` once a newer version is out."""
        if self.published_at is None:
            return "draft"
        return "active" if self.is_newest else "archived"

    @property
    def pro_rating(self) -> ProRating:
        """Whether its fees are shortened."""
        return ProRating(**asdict(self.body.pro_rating_config or ProRatingConfig()))


def view(plan: StoredPlan) -> Plan:
    """A plan as it is shown."""
    body = plan.body
    return Plan(
        id=plan.id,
        key=body.key,
        version=plan.version,
        status=plan.status,
        name=body.name,
        currency=body.currency,
        billing_cadence=body.billing_cadence,
        settlement_mode=body.settlement_mode,
        pro_rating_config=plan.pro_rating,
        alignment=Alignment(**asdict(body.alignment or AlignmentCreate())),
        phases=[_phase(phase, body) for phase in body.phases],
        validation_errors=[],
        created_at=plan.created_at,
        updated_at=plan.updated_at,
        effective_from=plan.published_at,
        description=body.description,
        labels=body.labels,
    )


def _phase(phase: PhaseCreate, plan: PlanCreate) -> PlanPhase:
    return PlanPhase(**(asdict(phase) | {"rate_cards": [_rate_card(card, plan) for card in phase.rate_cards]}))


def _rate_card(card: RateCardCreate, plan: PlanCreate) -> RateCard:
    rated = compiled_card(card, plan, "")
    price = rated.pricing.price
    assert card.type is not None, "a card is settled before it is kept"
    return RateCard(
        type=card.type,
        key=card.key,
        name=card.name,
        billing_cadence=plan.billing_cadence if card.billing_cadence == "" else card.billing_cadence,
        price=price_v3(price),
        price_v1=price_v1(price),
        commitments=commitments(price),
        description=card.description,
        labels=card.labels,
        feature_key=card.feature_key,
        feature=None if card.feature_key is None else FeatureKey(key=card.feature_key),
        discounts=card.discounts,
        unit_config=unit_config(rated.pricing.conversion),
        entitlement_template=template(rated.entitlement, rated.cadence or plan.billing_cadence),
        tax_config=card.tax_config,
    )


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
    body = decode_v1(row[3], PlanCreate)
    at = published_at and published_at.astimezone(UTC)
    return StoredPlan(row[2], version, body, row[4].astimezone(UTC), row[5].astimezone(UTC), at, is_newest)


def _published(row: tuple[Any, ...], sent: tuple[Any, ...] | None, is_newest: bool) -> StoredPlan:
    key, version, body, at = row
    published_at = at.astimezone(UTC)
    if sent is not None:
        return _stored(sent, version, published_at, is_newest)
    plan = decode_record(body)
    assert isinstance(plan, PlanVersion), "the table of plans holds plans"
    plan_id = derived_id(published_at, "plan", key, str(version))
    return StoredPlan(plan_id, version, as_body(plan), published_at, published_at, published_at, is_newest)


def find_plan(connection: Connection, id_or_key: str) -> StoredPlan:
    """A plan by id, or the newest of a key. Raises `Problem`."""
    of_key = stored_plans(connection, id_or_key)
    if of_key:
        return of_key[-1]
    if is_storable(id_or_key):
        for key, version in connection.execute(statement("plan_of_id"), (id_or_key,)):
            of_key = stored_plans(connection, key)
            # Publishing what was published already gives the same version: its second id leads there too.
            for plan in sorted(of_key, key=lambda plan: plan.id != id_or_key):
                if plan.id == id_or_key or plan.version == version:
                    return plan._replace(id=id_or_key)
    for plan in stored_plans(connection):
        if plan.id == id_or_key:
            return plan
    raise not_found("plan", id_or_key)


def plan_by(stores: ApiStores, id_or_key: str) -> Plan:
    """A plan by id, or the newest of a key, as it is shown. Raises `Problem`."""
    with stores.connection() as connection:
        return view(find_plan(connection, id_or_key))


def _draft_id(changes: Changes, id_or_key: str) -> str:
    """The id of the draft that a key has; what is no such key is taken for an id."""
    found = changes.rows("draft_of_plan", id_or_key)
    return str(found[0][0]) if found else id_or_key


def _draft(changes: Changes, plan_id: str, published: str) -> PlanCreate:
    """What a draft says, which nobody else changes meanwhile. Raises `Problem`; where it is published, with a text."""
    for key, published_at, stored in changes.rows("lock_plan", plan_id):
        if published_at is not None:
            raise conflict("id", published.format(key))
        return decode_v1(stored, PlanCreate)
    raise not_found("draft of a plan", plan_id)


@both(post, "/plans", status_code=201, tags=TAGS)
def create_plan(data: JSONBody[PlanCreate], stores: Stores) -> Plan:
    """Create a draft of a plan, or of the next version of one."""
    body = settled(stores, data)
    compiled(body)
    plan_id = str(ULID())
    with stores.plane.changing() as changes:
        if changes.rows("draft_of_plan", body.key):
            raise conflict("key", f"there is a draft of plan `{body.key}` already: publish, change or delete it")
        versions = changes.plan_versions(body.key)
        version = versions[-1].version + 1 if versions else 1
        changes.rows("insert_plan_draft", plan_id, body.key, version, encode_v1(body))
    return plan_by(stores, plan_id)


@v1(get, "/plans", on=listing, tags=TAGS)
def list_plans_v1(
    stores: Stores,
    key: FromQuery[list[str] | None] = None,
    status: FromQuery[list[str] | None] = None,
    plan_id: Annotated[list[str] | None, QueryParameter(name="id")] = None,
    currency: FromQuery[list[str] | None] = None,
    page: PageV1 = 1,
    page_size: PageSizeV1 = PAGE_SIZE,
) -> Page[Plan]:
    """List plans, all versions of them."""
    wanted = {"key": listed(key), "status": listed(status), "id": listed(plan_id), "currency": listed(currency)}
    check_choices("status", wanted["status"], STATUSES)
    with stores.connection() as connection:
        found = [view(plan) for plan in stored_plans(connection)]
    chosen = [plan for plan in found if all(not some or getattr(plan, name) in some for name, some in wanted.items())]
    return Page.of(chosen, page, page_size)


@v3(get, "/plans", on=listing, tags=TAGS)
def list_plans_v3(
    stores: Stores, asked: Asked, number: PageNumberV3 = 1, size: PageSizeV3 = PAGE_SIZE
) -> NumberedPage[Plan]:
    """List plans, all versions of them."""
    with stores.connection() as connection:
        return NumberedPage.of(asked.chosen([view(plan) for plan in stored_plans(connection)]), number, size)


@both(get, "/plans/{plan:str}", on=listing, tags=TAGS)
def get_plan(plan: FromPath[str], stores: Stores) -> Plan:
    """A plan by id, or the newest version of a key."""
    return plan_by(stores, plan)


@v1(put, "/plans/{plan:str}", tags=TAGS)
def update_plan_v1(plan: FromPath[str], data: JSONBody[PlanBody], stores: Stores) -> Plan:
    """Change a draft."""
    with stores.plane.changing() as changes:
        plan_id = _draft_id(changes, plan)
        known = _draft(changes, plan_id, "plan `{}` is published, and no longer changes: make a draft of the same key")
        changed = settled(stores, replace(known, **{name: getattr(data, name) for name in PlanBody.__struct_fields__}))
        compiled(changed)
        changes.rows("replace_plan_draft", encode_v1(changed), plan_id)
    return plan_by(stores, plan_id)


@v1(delete, "/plans/{plan:str}", status_code=204, tags=TAGS)
def delete_plan_v1(plan: FromPath[str], stores: Stores) -> None:
    """Delete a draft; a published version stays."""
    with stores.plane.changing() as changes:
        if changes.rows("delete_plan_draft", _draft_id(changes, plan)):
            return
    published = plan_by(stores, plan)
    raise conflict("id", f"version {published.version} of plan `{published.key}` is published, and stays")


@both(post, "/plans/{plan:str}/publish", status_code=200, tags=TAGS)
def publish_plan(plan: FromPath[str], stores: Stores) -> Plan:
    """Publish a draft: from now on it can be subscribed to, and never changes."""
    with stores.changing() as changes:
        plan_id = _draft_id(changes, plan)
        draft = compiled(_draft(changes, plan_id, "this version of plan `{}` is published already"))
        with _as_sent():
            version = changes.publish_plan(draft).version
        changes.rows("publish_plan_draft", version, plan_id)
    return plan_by(stores, plan_id)


@contextmanager
def _as_sent() -> Iterator[None]:
    """A feature that is not there is what is wrong with the request, and not that it asks for what is not there."""
    try:
        yield
    except ControlError as error:
        if error.code is not ControlCode.NOT_FOUND:
            raise
        message = f"{error.what}; {error.hint}"
        raise Problem(400, message, Invalid(error.path, "not_found", message)) from error


ROUTES = [*create_plan, list_plans_v1, list_plans_v3, *get_plan, update_plan_v1, delete_plan_v1, *publish_plan]
