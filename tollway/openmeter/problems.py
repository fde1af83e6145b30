"""
Errors as answers: `application/problem+json`, in v1's shape or in v3's by the path that was asked.

    400  the request is wrong, and says which fields       409  it contradicts what is there
    404  there is no such thing                            413, 415  too large, or another media type
    401, 403  no key, or not for this                      408  the request took too long to arrive
    429, 503  too much at once, or a store is away: try again after `Retry-After`
    500  a defect of Tollway

No message carries an event's payload or a connection string.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec
import psycopg
import redis
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import Struct
from msgspec.structs import replace
from ulid import ULID

from config.limits import BODY_BYTES, EVENTS_BYTES, Limit
from rating.events import INSTANT_MAX, INSTANT_MIN
from rating.meters import MeterError
from rating.periods import CadenceError
from rating.prices import PriceError
from sinks.postgres.pool import Busy
from tollway.control import ControlCode, ControlError
from tollway.invoicing import ActionNotAvailable, LedgerIncomplete, NothingBillable
from tollway.ledger_reads import NotFound
from tollway.openmeter.shapes import View
from tollway.openmeter.wire import Json, camel_name, snake_name

INGEST: Final = frozenset({"/api/v1/events", "/api/v3/openmeter/events"})
"""Paths to which events are sent."""
MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1

_log = logging.getLogger(__name__)
_BEYOND: Final = (
    "a text holds a character that cannot be stored, or a number, an instant or the nesting is out of range; see"
    " docs/reference/limits.md"
)
_FIRST: Final = re.compile(r"[a-z_]+(?=$|[.\[])")
_MISSING: Final = re.compile(r"Missing required query parameter '?([^' ]+)'?")


class Invalid(Struct, frozen=True):
    """One thing that is wrong with a request: where, a word for it, and what was expected there."""

    field: str
    code: str
    message: str
    index: int | None = None
    """The position of the event, in a batch."""
    source: str = "body"
    """Where in the request it is: the body, the path or the query."""


class EventAttributes(View, frozen=True):
    """Which event of a batch it is."""

    index: int


class ValidationError(View, frozen=True):
    """One thing that is wrong with a request."""

    field: str
    code: str
    message: str
    attributes: EventAttributes | None = None


class ProblemExtensions(View, frozen=True, rename="camel"):
    """All that is wrong with a request."""

    validation_errors: list[ValidationError]


class InvalidParameter(View, frozen=True):
    """One thing that is wrong with a request."""

    field: str
    rule: str
    reason: str
    source: str
    code: str
    index: int | None = None


class _Said(View, frozen=True):
    type: str
    title: str
    status: int
    detail: str
    instance: str


class ProblemV1(_Said, frozen=True, kw_only=True):
    """Why a request was not answered as asked."""

    extensions: ProblemExtensions


class ProblemV3(_Said, frozen=True, kw_only=True):
    """Why a request was not answered as asked."""

    invalid_parameters: list[InvalidParameter] | None = None


class Problem(Exception):
    """A request that can't be answered as asked."""

    def __init__(
        self,
        status: int,
        detail: str,
        *invalid: Invalid,
        retry: bool = False,
        challenge: str | None = None,
        encodings: str | None = None,
    ) -> None:
        self.status = status
        self.detail = detail
        self.invalid = invalid
        self.retry = retry
        self.challenge = challenge
        self.encodings = encodings
        super().__init__(detail)


def bad_request(field: str, message: str, code: str = "invalid") -> Problem:
    """What a wrong field is answered with."""
    return Problem(400, f"`{field}`: {message}", Invalid(field, code, message))


def utc_instant(field: str, at: datetime) -> datetime:
    """An instant of a request in UTC. Raises `Problem` where it has no offset, or is beyond what stores can hold."""
    if at.tzinfo is None:
        raise bad_request(field, "expected an instant with an offset, as in 2026-03-01T12:00:00Z")
    if not INSTANT_MIN <= at < INSTANT_MAX:
        raise bad_request(field, f"expected a year of {INSTANT_MIN.year} to {INSTANT_MAX.year - 1}, got {at.year}")
    return at.astimezone(UTC)


def check_choices(name: str, values: Iterable[str], choices: Collection[str]) -> None:
    """Refuse a query parameter that asks for what there never is. Raises `Problem`."""
    for value in values:
        if value not in choices:
            message = f"expected {', '.join(choices)}, got `{value[:40]}`"
            raise Problem(400, f"`{name}`: {message}", Invalid(name, "invalid", message, source="query"))


def conflict(field: str, message: str) -> Problem:
    """What a request that contradicts what is there is answered with."""
    return Problem(409, message, Invalid(field, "conflict", message))


def not_found(kind: str, name: str) -> Problem:
    """What a request for something that is not there is answered with."""
    return Problem(404, f"there is no {kind} `{name[:256]}`")


def too_large(limit: Limit) -> Problem:
    """What a body is answered with that has more bytes than a limit says."""
    return Problem(413, f"expected a body of {limit}, unpacked, got a larger one; send less at once; {limit.hint}")


def unavailable(store: str) -> Problem:
    """What is answered while a store is away."""
    return Problem(503, f"{store} is not available; nothing was changed that was not confirmed", retry=True)


_STATUS: Final = {
    ControlCode.NOT_FOUND: 404,
    ControlCode.INVALID: 400,
    ControlCode.CONFLICT: 409,
    ControlCode.IMMUTABLE: 409,
    ControlCode.KEY_REUSED: 409,
}


def problem_of(failure: Exception) -> Problem:
    """A failure as an answer. What was not foreseen is logged, and says nothing of itself."""
    match failure:
        case Problem():
            return failure
        case ControlError():
            message = f"{failure.what}; {failure.hint}"
            invalid = Invalid(failure.path, str(failure.code), message)
            return Problem(_STATUS[failure.code], f"`{failure.path}`: {message}", invalid)
        case NotFound():
            return Problem(404, failure.message)
        case NothingBillable():
            return Problem(400, failure.message, Invalid("customerId", failure.code, failure.message))
        case ActionNotAvailable():
            return Problem(400, failure.message, Invalid("status", failure.code, f"{failure.message}; {failure.hint}"))
        case LedgerIncomplete():
            return Problem(503, failure.message, retry=True)
        case PriceError() | MeterError():
            return bad_request(failure.path.removeprefix("$."), f"{failure.what}; {failure.hint}")
        case CadenceError():
            return bad_request("duration", f"{failure.message}; {failure.hint}")
        case HTTPException():
            return Problem(failure.status_code, failure.detail or HTTPStatus(failure.status_code).phrase)
        case psycopg.DataError() | RecursionError() | OverflowError() | UnicodeError():
            # What is checked by field is refused by field; this is what no check has foreseen. It is still the
            # request's doing, since nothing that is stored is that long, that deep or that far away.
            _log.warning("a request holds what no check has foreseen: %s", type(failure).__name__)
            return Problem(400, _BEYOND)
        case Busy() | psycopg.OperationalError() | psycopg.InterfaceError():
            return unavailable("PostgreSQL")
        case redis.exceptions.OutOfMemoryError():
            return Problem(
                503, "Redis has no memory left for more; nothing was changed that was not confirmed", retry=True
            )
        case redis.RedisError():
            return unavailable("Redis")
    _log.error("not foreseen: %s", type(failure).__name__, exc_info=failure)
    return Problem(500, "this was not foreseen; the server's log has the traceback")


def _validation(failure: ValidationException, request: Request[Any, Any, Any]) -> Problem:
    """What is wrong with parameters, by the names that they have in a request; a body is read elsewhere."""
    parameters = request.route_handler.parsed_fn_signature.parameters
    found: list[Invalid] = []
    extra: Any = failure.extra
    for item in extra if isinstance(extra, list) else []:
        name = str(item.get("key") or "").partition(".")[0]
        definition = parameters[name].kwarg_definition if name in parameters else None
        is_path = name in request.path_params
        message = str(item.get("message", ""))
        known_as = getattr(definition, "name", None) or name
        found.append(Invalid(known_as, "invalid", message, source="path" if is_path else "query"))
    if not found and "query parameter" in failure.detail:
        named = _MISSING.search(failure.detail)
        found.append(Invalid(named[1] if named else "$", "required", "expected a value", source="query"))
    detail = "; ".join(f"`{item.field}`: {item.message}" for item in found) or failure.detail
    return Problem(400, detail, *found)


def answer(request: Request[Any, Any, Any], failure: Exception) -> Response[bytes]:
    """The answer to a request that failed."""
    if isinstance(failure, ValidationException):
        problem = _validation(failure, request)
    elif isinstance(failure, HTTPException) and failure.status_code == 413:
        problem = too_large(EVENTS_BYTES if request.url.path in INGEST else BODY_BYTES)
    else:
        problem = problem_of(failure)
    headers = {name.decode(): value.decode() for name, value in headers_of(problem)}
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    body = body_of(problem, request.url.path)
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def _allowed(request: Request[Any, Any, Any]) -> list[str]:
    """The methods of the path that was asked for, of all that are written the same way."""
    asked = request.url.path.strip("/").split("/")
    found: set[str] = set()
    for route in request.app.routes:
        parts = [part for part in route.path_components if part]
        if len(parts) == len(asked) and all(
            part == given or not isinstance(part, str) for part, given in zip(parts, asked, strict=True)
        ):
            found |= getattr(route, "methods", set())
    return sorted(found)


def headers_of(problem: Problem) -> list[tuple[bytes, bytes]]:
    """What an answer says beside the problem."""
    found: list[tuple[bytes, bytes]] = []
    if problem.retry:
        found.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    if problem.challenge:
        found.append((b"www-authenticate", problem.challenge.encode()))
    if problem.encodings:
        found.append((b"accept-encoding", problem.encodings.encode()))
    return found


def body_of(problem: Problem, path: str) -> bytes:
    """The problem as JSON, in the shape of the API that the path belongs to."""
    is_v3 = path.startswith("/api/v3")
    name_of = snake_name if is_v3 else camel_name
    found, detail = [], problem.detail
    for item in problem.invalid:
        field = name_of(_as_sent(item.field, path))
        found.append(replace(item, field=field))
        # The text names it as the fields beside it do.
        detail = detail.replace(f"`{item.field}`:", f"`{field}`:", 1)
    said: Json = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": detail,
        "instance": f"urn:request:{ULID()}",
    }
    if is_v3:
        return msgspec.json.encode(ProblemV3(**said, invalid_parameters=[_v3(item) for item in found] or None))
    extensions = ProblemExtensions(validation_errors=[_v1(item) for item in found])
    return msgspec.json.encode(ProblemV1(**said, extensions=extensions))


_SENT_AS: Final[dict[str, dict[str, str]]] = {
    "customers": {"subjects": "usage_attribution.subject_keys"},
    "plans": {"cadence": "billing_cadence"},
    "subscriptions": {"version": "plan.version", "at": "timing", "active_from": "timing", "anchor": "billing_anchor"},
    "move": {"version": "version", "at": "at"},
    "grants": {"features": "filters.features"},
}
_SENT_AS_V1: Final[dict[str, dict[str, str]]] = {
    "meters": {"key": "slug"},
    "features": {"filters": "meter_group_by_filters"},
    "migrate": {"version": "target_version"},
}
"""By what a path is of: what the control plane calls a field, and what requests call it."""


def _as_sent(field: str, path: str) -> str:
    """The field by its name in a request to the path."""
    named = _FIRST.match(field)
    if named is None:
        return field
    tables = (_SENT_AS,) if path.startswith("/api/v3") else (_SENT_AS_V1, _SENT_AS)
    for part in reversed(path.split("/")):
        for table in tables:
            known = table.get(part, {}).get(named[0])
            if known is not None:
                return known + field[named.end() :]
    return field


def _v1(item: Invalid) -> ValidationError:
    attributes = None if item.index is None else EventAttributes(index=item.index)
    return ValidationError(field=item.field, code=item.code, message=item.message, attributes=attributes)


def _v3(item: Invalid) -> InvalidParameter:
    rule = item.code if item.code in ("unknown_property", "required") else "invalid"
    return InvalidParameter(
        field=item.field, rule=rule, reason=item.message, source=item.source, code=item.code, index=item.index
    )
