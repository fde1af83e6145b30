"""
Filters of lists, as OpenMeter's v3 API has them: `filter[field]=value`, or `filter[field][operator]=value`.

    eq        is the value; so without an operator     contains    has it in it, in upper or lower case
    neq       is another, or has none                  ocontains   has one of several in it
    oeq       is one of several, with commas between   gt gte lt lte   comes after or before it, by code points
    exists    is there, or with `false` is not

Several filters hold together. What is between commas is one of several; a text is taken as it is, and nothing in it
stands for anything else. `FILTERS` says by which fields and operators each list can be filtered. Any other is refused,
and so is a parameter that v3 does not know: who misspells a filter would else act on what it did not ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from sinks.postgres.statements import statement
from tollway.openmeter.problems import Invalid, Problem
from tollway.openmeter.wire import Json

T = TypeVar("T")

TEXT_LENGTH_MAX: Final = 1024
"""Characters of a value."""
ITEMS_MAX: Final = 50
"""Values with commas between."""

EQ, NEQ, OEQ, CONTAINS, OCONTAINS, EXISTS = "eq", "neq", "oeq", "contains", "ocontains", "exists"
_COMPARED: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_SEVERAL: Final = frozenset({OEQ, OCONTAINS})
_TRUTH: Final = {"": True, "true": True, "1": True, "false": False, "0": False}

_MEANINGS: Final = {
    EQ: "Is this.",
    NEQ: "Is not this, or has none.",
    OEQ: "Is one of these, with commas between.",
    CONTAINS: "Has this in it, in upper or lower case.",
    OCONTAINS: "Has one of these in it, with commas between.",
    "gt": "Comes after this, by code points.",
    "gte": "Is this, or comes after it.",
    "lt": "Comes before this, by code points.",
    "lte": "Is this, or comes before it.",
    EXISTS: "Whether it has one.",
}


class Field(NamedTuple):
    """What a list can be filtered by."""

    operators: tuple[str, ...]
    choices: tuple[str, ...] = ()
    """All values that there are; empty: any."""


TEXT: Final = Field(tuple(_MEANINGS))
EXACT: Final = Field((EQ, OEQ, NEQ))
EQUAL: Final = Field((EQ,))


def one_of(*choices: str) -> Field:
    """A field with few values: without an operator it takes several too."""
    return Field(EXACT.operators, choices)


FILTERS: Final[Mapping[str, Mapping[str, Field]]] = {
    "list_customers_v3": {
        "key": TEXT,
        "name": TEXT,
        "primary_email": TEXT,
        "usage_attribution_subject_key": TEXT,
        "plan_key": TEXT,
    },
    "list_meters_v3": {"key": TEXT, "name": TEXT},
    "list_features_v3": {"meter_id": EXACT, "key": TEXT, "name": TEXT},
    "list_plans_v3": {"key": TEXT, "name": TEXT, "status": one_of("draft", "active", "archived"), "currency": EXACT},
    "list_subscriptions_v3": {
        "id": EXACT,
        "customer_id": EXACT,
        "status": one_of("active", "inactive", "canceled", "scheduled"),
        "plan_id": EXACT,
        "plan_key": EXACT,
    },
    "list_charges": {"status": one_of("created", "active", "final", "deleted"), "feature_key": TEXT},
    "list_grants": {"status": one_of("pending", "active", "expired", "voided"), "currency": EXACT, "key": TEXT},
    "get_balance": {"currency": EXACT, "feature_key": EQUAL},
    "list_transactions": {
        "type": Field((EQ,), ("funded", "consumed", "expired", "voided")),
        "currency": EXACT,
        "feature_key": EQUAL,
    },
}
"""By the name of the handler."""

PASSED_OVER: Final = frozenset(
    {"order", "orderBy", "expand", "limit", "offset", "includeDeleted", "includeArchived", "pageSize", "page"}
)
"""Parameters of v1's lists that OpenMeter's clients send and that choose nothing: without them there is as much."""


class Condition(NamedTuple):
    """What has to hold of a field."""

    operator: str
    values: tuple[str, ...]

    def holds(self, value: str | None) -> bool:
        """Whether it does, of a value; None: there is none."""
        match self.operator:
            case "eq" | "oeq":
                return value in self.values
            case "neq":
                return value not in self.values
            case "contains" | "ocontains":
                return value is not None and any(part.lower() in value.lower() for part in self.values)
            case "exists":
                return (value is not None) == _TRUTH[self.values[0]]
        (bound,) = self.values
        if value is None:
            return False
        return {"gt": value > bound, "gte": value >= bound, "lt": value < bound, "lte": value <= bound}[self.operator]

    def sql(self, column: str) -> tuple[str, list[object]]:
        """The same of a column, and the values that the condition has places for."""
        match self.operator:
            case "eq" | "oeq":
                return _fragment("is_one_of", column=column), [list(self.values)]
            case "neq":
                return _fragment("is_another", column=column), [*self.values]
            case "contains" | "ocontains":
                return _fragment("contains_one_of", column=column), [list(self.values)]
            case "exists":
                return _fragment("is_there" if _TRUTH[self.values[0]] else "is_not_there", column=column), []
        return _fragment("compares", column=column, operator=_COMPARED[self.operator]), [*self.values]


class Many(NamedTuple):
    """A field of which a thing may have several: it holds where it holds of one, and `neq` where of none."""

    rows: str
    """The statement of the rows that are the thing's."""
    column: str


class Filters:
    """
    What is asked of the things of a list.

    Attributes:
        conditions: By field.
    """

    def __init__(self, conditions: Mapping[str, Sequence[Condition]]) -> None:
        self.conditions = conditions

    @staticmethod
    def of(**wanted: Condition | None) -> Filters:
        """Filters by field; None: any."""
        return Filters({name: [condition] for name, condition in wanted.items() if condition is not None})

    def hold(self, field: str, value: str | None) -> bool:
        """Whether a thing's value of a field is asked for."""
        return all(condition.holds(value) for condition in self.conditions.get(field, ()))

    def chosen(self, things: Iterable[T], **places: str) -> list[T]:
        """Those of some things that are asked for. A field is where `places` say, with dots between, or by its name."""
        return [
            thing
            for thing in things
            if all(self.hold(field, _at(thing, places.get(field, field))) for field in self.conditions)
        ]

    def only(self, *fields: str) -> Filters:
        """What is asked of some fields."""
        return Filters({name: found for name, found in self.conditions.items() if name in fields})

    def equal(self, field: str) -> str | None:
        """The value that a field which can only be asked for one has to have."""
        return next((condition.values[0] for condition in self.conditions.get(field, ())), None)

    def sql(self, columns: Mapping[str, str | Many]) -> tuple[str, list[object]]:
        """All as one condition on columns, and the values that it has places for."""
        parts: list[str] = ["true"]
        values: list[object] = []
        for field, conditions in self.conditions.items():
            for condition in conditions:
                part, given = _sql(condition, columns[field])
                parts.append(part)
                values += given
        return " and ".join(parts), values


def _at(thing: object, path: str) -> str | None:
    found: Any = thing
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
    return None if found is None else str(found)


def _sql(condition: Condition, column: str | Many) -> tuple[str, list[object]]:
    if isinstance(column, str):
        return condition.sql(column)
    rows = _fragment(column.rows)
    if condition.operator == EXISTS:
        return _fragment("one_holds" if _TRUTH[condition.values[0]] else "none_holds", rows=rows), []
    if condition.operator == NEQ:
        part, values = Condition(EQ, condition.values).sql(column.column)
        return _fragment("none_holds", rows=f"{rows} and {part}"), values
    part, values = condition.sql(column.column)
    return _fragment("one_holds", rows=f"{rows} and {part}"), values


def _fragment(name: str, **parts: str) -> str:
    return statement(name, **parts).decode().strip()


def containing(text: str | None) -> Condition | None:
    """A condition of v1: the text in it, in upper or lower case."""
    return None if text is None else Condition(CONTAINS, (text,))


async def check_query(request: Request[Any, Any, Any]) -> None:
    """
    Look at what a request asks for before it is answered.

    Raises:
        Problem: 400, a filter or an operator is not one of the list's, or v3 has no such parameter; it is named.
    """
    query: bytes = request.scope["query_string"]
    if not query:
        return
    pairs = parse_qsl(query.decode(errors="replace"), keep_blank_values=True)
    known = _declared(request)
    fields = FILTERS.get(request.route_handler.handler_name, {})
    handler = request.route_handler.handler_name
    is_strict = request.url.path.startswith("/api/v3")
    if not is_strict and handler.startswith("list_"):
        # A filter that is passed over would give what was not asked for.
        is_strict, known = True, known | PASSED_OVER
    plain: list[tuple[str, str]] = []
    for name, value in pairs:
        field, operator = _split(name)
        if field is None:
            if name not in known and (is_strict or _is_filter(name)):
                raise _refused(name, f"expected one of {', '.join(sorted({*known, *map(_named, fields)}))}")
            plain.append((name, value))
        elif _named(field) in known:
            _condition(name, EQUAL, operator, value)
            if any(_named(field) == other for other, _ in plain):
                raise _refused(name, "expected it once")
            plain.append((_named(field), value))
        elif field not in fields:
            raise _refused(
                name, f"expected one of {', '.join(map(_named, fields))}" if fields else "expected no filter"
            )
    if plain != pairs:
        request.scope["query_string"] = urlencode(plain).encode()
    request.scope["state"][_STATE] = _read(pairs, fields)


_STATE: Final = "filters"


def filters_of(request: Request[Any, Any, Any]) -> Filters:
    """What a request asks for, after `check_query`."""
    found: Filters | None = request.scope["state"].get(_STATE)
    return found or Filters({})


Asked: TypeAlias = NamedDependency[Filters]
"""The filters, as a handler asks for them."""


def _declared(request: Request[Any, Any, Any]) -> set[str]:
    """The parameters that a handler declares by itself."""
    found = set()
    for name, parameter in request.route_handler.parsed_fn_signature.parameters.items():
        declared = parameter.kwarg_definition
        if isinstance(declared, QueryParameter):
            found.add(declared.name or name)
    return found


def _read(pairs: Iterable[tuple[str, str]], fields: Mapping[str, Field]) -> Filters:
    conditions: dict[str, list[Condition]] = {}
    seen: set[str] = set()
    for name, value in pairs:
        field, operator = _split(name)
        if field is None or field not in fields:
            continue
        if name in seen:
            raise _refused(name, f"expected it once; `{_named(field)}[{OEQ}]` takes several values")
        seen.add(name)
        conditions.setdefault(field, []).append(_condition(name, fields[field], operator, value))
    return Filters(conditions)


def _condition(name: str, field: Field, operator: str | None, value: str) -> Condition:
    if operator is None:
        operator = (
            EXISTS
            if not value and EXISTS in field.operators
            else OEQ
            if field.choices and OEQ in field.operators
            else EQ
        )
    if operator not in field.operators:
        raise _refused(name, _expected(field))
    if operator == EXISTS:
        if value.lower() not in _TRUTH:
            raise _refused(name, "expected `true` or `false`")
        return Condition(operator, (value.lower(),))
    values = tuple(filter(None, map(str.strip, value.split(",")))) if operator in _SEVERAL else (value,)
    if not any(values):
        raise _refused(name, "expected a value")
    if len(value) > TEXT_LENGTH_MAX:
        raise _refused(name, f"expected at most {TEXT_LENGTH_MAX} characters")
    if len(values) > ITEMS_MAX:
        raise _refused(name, f"expected at most {ITEMS_MAX} values")
    if "\0" in value:
        raise _refused(name, "expected a text without NUL")
    for item in values:
        if field.choices and item not in field.choices:
            raise _refused(name, f"expected {', '.join(field.choices)}, got `{item[:40]}`")
    return Condition(operator, values)


def _split(name: str) -> tuple[str | None, str | None]:
    """The field and the operator of a parameter; without a field where it is no filter."""
    if not name.startswith("filter[") or not name.endswith("]"):
        return None, None
    field, _, operator = name[len("filter[") : -1].partition("][")
    return field, operator or None


def _is_filter(name: str) -> bool:
    return name == "filter" or name.startswith("filter[")


def _named(field: str) -> str:
    return f"filter[{field}]"


def _expected(field: Field) -> str:
    return f"expected nothing after the name, or {', '.join(f'`[{operator}]`' for operator in field.operators)}"


def _refused(name: str, message: str) -> Problem:
    shown = name[:80]
    return Problem(400, f"`{shown}`: {message}", Invalid(shown, "invalid", message, source="query"))


def described_filters(handler_name: str) -> list[Json]:
    """The filters of a list, as the API's description has them."""
    return [described_filter(_named(name), field) for name, field in FILTERS.get(handler_name, {}).items()]


def described_filter(name: str, field: Field) -> Json:
    """A filter, as the API's description has it: a value, or an object of operators."""
    text: Json = {"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH_MAX}
    one: Json = {"type": "string", "enum": list(field.choices)} if field.choices else text
    operators: Json = {}
    for operator in field.operators:
        kind = {"type": "boolean"} if operator == EXISTS else text if operator in _SEVERAL else one
        operators[operator] = kind | {"description": _MEANINGS[operator]}
    return {
        "name": name,
        "in": "query",
        "required": False,
        "style": "deepObject",
        "explode": True,
        "schema": {
            "anyOf": [
                one,
                {"type": "object", "properties": operators, "additionalProperties": False, "minProperties": 1},
            ]
        },
    }
