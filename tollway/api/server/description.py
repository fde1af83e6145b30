"""
The API's description as OpenAPI has it: Litestar's document of paths and parameters, with bodies and answers filled in.

What an operation takes is the struct that its handler decodes, what it answers the one that it returns. msgspec
describes both, and also reads and writes them, so that the document says what is checked. Every operation declares the
problems that it may be answered with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args, get_origin

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler

from tollway.api.routes.ingest import Event
from tollway.openmeter.codec import wire
from tollway.openmeter.dialect import V1, V3, dialect_of
from tollway.openmeter.filters import EQUAL, described_filter, described_filters
from tollway.openmeter.plan_bodies import RateCardCreate
from tollway.openmeter.prices import PriceV1, PriceV3
from tollway.openmeter.problems import ProblemV1, ProblemV3
from tollway.openmeter.wire import Json

METHODS: Final = ("get", "post", "put", "delete")
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
REFERENCE: Final = "#/components/schemas/{name}"
EVENTS: Final = (
    ("application/cloudevents+json", Event),
    ("application/cloudevents-batch+json", list[Event]),
    (JSON, Event | list[Event]),
)
ANY: Final[Mapping[int, str]] = {
    400: "The request is wrong; the answer names the fields.",
    401: "An API key is needed, and none that is known was sent.",
    403: "The API key may not do this.",
    404: "There is no such thing.",
    408: "The request took too long to arrive.",
    429: "Too many requests: try again after `Retry-After`.",
    503: "A store is away, or all are busy: try again after `Retry-After`.",
}
WRITING: Final[Mapping[int, str]] = {
    408: "The request took too long to arrive.",
    409: "It contradicts what is there.",
    413: "The body is too large.",
    415: "The body has another media type.",
}
GOOD: Final[Mapping[int, str]] = {200: "Done.", 201: "Made.", 202: "Taken.", 204: "Done; there is nothing to say."}


def operation_id(handler: HTTPRouteHandler, *_: Any) -> str:
    """An operation is called as its handler is."""
    return handler.handler_name


def described(schema: Json, handlers: Sequence[HTTPRouteHandler]) -> Json:
    """
    The whole document.

    Args:
        schema: What Litestar wrote.
        handlers: Those of the operations.
    """
    by_name = {handler.handler_name: handler for handler in handlers}
    types = _Types(by_name, schema.get("components", {}).get("schemas", {}))
    paths: Json = {}
    for path, item in schema["paths"].items():
        paths[path] = {
            method: _operation(path, method, item[method], by_name[item[method]["operationId"]], types)
            for method in METHODS
            if method in item
        }
    components = {name: part for name, part in schema.get("components", {}).items() if name != "schemas"}
    return schema | {"paths": paths, "components": components | {"schemas": types.components}}


class _Types:
    """The schemas of all bodies and answers, compiled together so that each has one name."""

    def __init__(self, handlers: Mapping[str, HTTPRouteHandler], written: Mapping[str, Json]) -> None:
        self.written = written
        """What Litestar wrote of the types of parameters."""
        bodies: dict[Any, Any] = {}
        for handler in handlers.values():
            field = handler.parsed_data_field
            if field is not None:
                bodies[handler.handler_name] = _sent(field.annotation, handler)
        for media_type, kind in EVENTS:
            bodies[media_type] = kind
        bodies |= {V1: wire(PriceV1, V1), V3: wire(PriceV3, V3)}
        taken, components = _compiled(bodies)
        answers = {name: body for name, handler in handlers.items() if (body := _answer(handler)) is not None}
        self.taken = taken
        self.given, answered = _compiled(answers | {"problem_v1": ProblemV1, "problem_v3": ProblemV3})
        self.components = _of_view(answered) | components
        for dialect in (V1, V3):
            # A price is read by the core, which says more of what is wrong with it than a schema can.
            card = self.components[wire(RateCardCreate, dialect).__name__]
            card["properties"]["price"] = {"anyOf": [taken[dialect], {"type": "null"}]}


def _sent(kind: Any, handler: HTTPRouteHandler) -> Any:
    dialect = dialect_of(handler)
    return kind if dialect is None else wire(kind, dialect)


def _answer(handler: HTTPRouteHandler) -> Any:
    """The type of an answer; None where there is no body."""
    kind = handler.parsed_return_field.annotation
    if get_origin(kind) is Response:
        (kind,) = get_args(kind)
    return None if kind in (None, type(None), bytes) else _sent(kind, handler)


def _compiled(types: Mapping[Any, Any]) -> tuple[dict[Any, Json], dict[str, Json]]:
    """The schemas of types by their names, and the components that they refer to."""
    found, components = msgspec.json.schema_components(list(types.values()), ref_template=REFERENCE)
    return dict(zip(types, found, strict=True)), components


def _of_view(schema: Any) -> Any:
    """The schema of a view: what is null by default is left out there, and never null; a decimal is a number."""
    match schema:
        case {"type": "string", "format": "decimal"}:
            return {"type": "number"}
        case {"default": None, "anyOf": [kind, {"type": "null"}]}:
            return _of_view(kind)
        case dict():
            return {key: _of_view(value) for key, value in schema.items()}
        case list():
            return [_of_view(value) for value in schema]
    return schema


def _operation(path: str, method: str, written: Json, handler: HTTPRouteHandler, types: _Types) -> Json:
    head, _, more = (handler.fn.__doc__ or "").strip().partition("\n\n")
    shown: Json = {
        "tags": written["tags"],
        "operationId": handler.handler_name,
        "summary": " ".join(head.split()),
    }
    if more:
        shown["description"] = " ".join(more.split())
    if written.get("security") is not None:
        shown["security"] = written["security"]
    parameters = [_parameter(found, types.written) for found in written.get("parameters", ())]
    parameters += described_filters(handler.handler_name)
    if parameters:
        shown["parameters"] = parameters
    body = _body(handler, types)
    if body is not None:
        shown["requestBody"] = body
    shown["responses"] = _responses(path, method, handler, types)
    return shown


def _parameter(written: Json, known: Mapping[str, Json]) -> Json:
    schema = dict(written["schema"])
    options = schema.pop("oneOf", ())
    for option in options:
        if option.get("type") != "null":
            schema |= option
    if "$ref" in schema:
        schema |= known[schema.pop("$ref").rpartition("/")[2]]
    for bound in ("minimum", "maximum"):
        if isinstance(schema.get(bound), float) and schema[bound].is_integer():
            schema[bound] = int(schema[bound])
    if written["in"] == "path":
        schema["minLength"] = 1
    if written["name"].startswith("filter["):
        return described_filter(written["name"], EQUAL)
    if options and not _is_text(schema):
        # In a query, `null` reads as no value where no text could be meant, and an instant may be seconds since 1970.
        seconds = [{"type": "number"}] if schema.get("format") == "date-time" else []
        schema = {"anyOf": [schema, *seconds, {"type": "null"}]}
    shown = {"name": written["name"], "in": written["in"], "required": written["required"], "schema": schema}
    return shown | ({"description": written["description"]} if written.get("description") else {})


def _is_text(schema: Json) -> bool:
    if schema.get("type") == "array":
        return _is_text(schema.get("items", {}))
    return schema.get("type") == "string" and not {"format", "enum"} & schema.keys()


def _body(handler: HTTPRouteHandler, types: _Types) -> Json | None:
    if handler.handler_name.startswith("ingest_"):
        return {"required": True, "content": {media: {"schema": types.taken[media]} for media, _ in EVENTS}}
    field = handler.parsed_data_field
    if field is None:
        return None
    return {"required": not field.is_optional, "content": {JSON: {"schema": types.taken[handler.handler_name]}}}


def _responses(path: str, method: str, handler: HTTPRouteHandler, types: _Types) -> Json:
    name, status = handler.handler_name, handler.status_code
    body = _answer(handler)
    found: Json = {str(status): {"description": GOOD[status]}}
    if body is str:
        found[str(status)]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif body is not None:
        found[str(status)]["content"] = {JSON: {"schema": types.given[name]}}
    if name == "readyz":
        found["503"] = {"description": "A store does not answer.", "content": found["200"]["content"]}
    if not path.startswith("/api/"):
        return found
    problem = types.given["problem_v3" if path.startswith("/api/v3") else "problem_v1"]
    for code, meaning in (ANY if method == "get" else {**ANY, **WRITING}).items():
        found[str(code)] = {"description": meaning, "content": {PROBLEM: {"schema": problem}}}
        if code in (429, 503):
            found[str(code)]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return dict(sorted(found.items()))
