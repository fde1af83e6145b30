"""
Events into the log: one or many at a time, all of them or none.

The answer goes out only after the log has the events on disk. Nothing is de-duplicated here: the same source and id
again is accepted, and is charged once. A body has at most `EVENTS_BYTES` bytes, compressed or not, an event at most
1 MiB. Where more comes than the log takes the answer is 429, where the log takes nothing 503; either says when to send
it again.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, post
from litestar.exceptions import HTTPException
from msgspec import UNSET, Meta, Struct, UnsetType

from config.limits import EVENTS_A_REQUEST, EVENTS_BYTES
from rating.events import BYTE_ORDER_MARK, CloudEvent, EventDecoder, refuse_instant
from rating.refusals import Rejected
from tollway.api.server.encoding import Unpacked, encoding_of
from tollway.api.server.metrics import events_total, ingest_bytes_total, ingest_seconds
from tollway.api.server.pressure import Admission
from tollway.api.server.stores import AllStores, ServerStores
from tollway.openmeter.problems import Invalid, Problem
from tollway.openmeter.threads import of_log
from tollway.openmeter.wire import Json

PIECE_BYTES: Final = 1024 * 1024
"""A compressed body is unpacked, and counted, in pieces of so many bytes."""

INVALID_SHOWN: Final = 100
"""An answer names at most so many bad events; beyond them no more is looked for."""

SINGLE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
EITHER: Final = "application/json"

_MANY: Final = f"{INVALID_SHOWN} events, and perhaps more,"

ACCEPTED, INVALID, PUSHED_BACK, FAILED = "accepted", "invalid", "pushed_back", "failed"
"""How a request with events ends."""

_DECODER: Final = EventDecoder(())
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


Text = Annotated[str, Meta(min_length=1, max_length=1024)]


class Event(Struct, frozen=True, kw_only=True):
    """A CloudEvent 1.0. Source and id say which event it is: the same ones again are charged once."""

    id: Text
    source: Text
    specversion: Literal["1.0"]
    type: Text
    subject: Text
    time: datetime | UnsetType | None = UNSET
    data: Json | UnsetType | None = UNSET


class _Object(Struct, gc=False):
    """A member of an array with nothing of what it holds: 24 bytes of memory."""


class _Event(Struct, gc=False):
    """The same, of what says that it is an event: one that does not ends the reading."""

    specversion: Literal["1.0"]


_OBJECTS: Final = msgspec.json.Decoder(list[_Object])
_EVENTS: Final = msgspec.json.Decoder(list[_Event])
_OBJECTS_MAX: Final = 10 * EVENTS_A_REQUEST.number
_AT_MEMBER: Final = re.compile(r" - at `\$\[(\d+)\][^`]*`\Z")


@post(
    "/api/v1/events",
    status_code=204,
    tags=["Usage"],
    summary="Ingest events",
    request_max_body_size=EVENTS_BYTES.number,
)
async def ingest_v1(request: Request[Any, Any, Any], stores: AllStores) -> None:
    """One CloudEvent, or an array of them. Answered when the log has them durably."""
    await _ingest(request, stores)


@post(
    "/api/v3/openmeter/events",
    status_code=202,
    tags=["Usage"],
    summary="Ingest events",
    request_max_body_size=EVENTS_BYTES.number,
)
async def ingest_v3(request: Request[Any, Any, Any], stores: AllStores) -> Response[bytes]:
    """One CloudEvent, or an array of them. Answered when the log has them durably."""
    await _ingest(request, stores)
    return Response(b"", status_code=202)


async def _ingest(request: Request[Any, Any, Any], stores: ServerStores) -> None:
    started = time.perf_counter()
    outcome = FAILED
    try:
        await _append(request, stores)
        outcome = ACCEPTED
    except Problem as problem:
        outcome = {429: PUSHED_BACK, 503: FAILED}.get(problem.status, INVALID)
        raise
    except HTTPException as refused:
        outcome = FAILED if refused.status_code >= 500 else INVALID
        raise
    finally:
        ingest_seconds.labels(outcome).observe(time.perf_counter() - started)


async def _append(request: Request[Any, Any, Any], stores: ServerStores) -> None:
    encoding = encoding_of(request)
    with stores.pressure.admitted() as admission:
        body = await admission.read(request.stream())
        if encoding is not None:
            body = await _unpacked(body, admission)
        lines = await of_log.run(read_events, body, request.content_type[0].lower())
        try:
            await of_log.run(stores.append, lines)
        except BaseException:
            events_total.labels(FAILED).inc(len(lines))
            raise
        events_total.labels(ACCEPTED).inc(len(lines))
        ingest_bytes_total.inc(len(body))


async def _unpacked(body: bytes, admission: Admission) -> bytes:
    """What a compressed body holds; its bytes are counted as they come out of it."""
    parts: list[bytes] = []
    unpacked = Unpacked(body, EVENTS_BYTES)
    while part := await of_log.run(unpacked.read, PIECE_BYTES):
        admission.grow(len(part))
        parts.append(part)
    return b"".join(parts)


def read_events(body: bytes, media_type: str) -> list[bytes]:
    """
    The events of a body, each as one line.

    Raises:
        Problem: The media type is another one, or an event is none; it names each that is not.
    """
    if media_type not in (SINGLE, BATCH, EITHER):
        raise Problem(415, f"expected `{SINGLE}`, `{BATCH}` or `{EITHER}`, got `{media_type[:80]}`")
    body = body.removeprefix(BYTE_ORDER_MARK)
    is_array = body.lstrip(b" \t\r\n")[:1] == b"["
    if is_array and media_type == SINGLE:
        raise Problem(
            400, f"expected one event, got an array; send it as `{BATCH}`", Invalid("$", "invalid", "an array")
        )
    if not is_array and media_type == BATCH:
        raise Problem(400, f"expected an array of events; send one as `{SINGLE}`", Invalid("$", "invalid", "no array"))
    if not is_array:
        lines = [body.strip(b" \t\r\n")]
    else:
        try:
            _check_count(body)
            lines = [bytes(part) for part in _ARRAY.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            message = f"expected a JSON array of events, got: {error}"
            raise Problem(400, message, Invalid("$", "malformed", message)) from error
    return _checked(lines, is_array)


def _check_count(body: bytes) -> None:
    """
    That an array has not too many members, before any of them takes memory.

    The members are counted without being kept: objects of whatever content, or events only where so many objects
    would take much memory themselves. Anything else ends the counting where it is met.

    Raises:
        Problem: It has, or it has a member that is no event.
        msgspec.DecodeError: It is no JSON.
    """
    if body.count(b",") < EVENTS_A_REQUEST.number:
        return
    decoder: msgspec.json.Decoder[Any] = _OBJECTS if body.count(b"{") <= _OBJECTS_MAX else _EVENTS
    try:
        count = len(decoder.decode(body))
    except msgspec.ValidationError as error:
        at = _AT_MEMBER.search(str(error))
        message = "expected an array of events, got something else in it; send one CloudEvent each"
        index = int(at[1]) if at else None
        place = "$" if index is None else f"[{index}]"
        raise Problem(400, f"`{place}`: {message}", Invalid(place, "invalid_envelope", message, index)) from error
    if count > EVENTS_A_REQUEST.number:
        message = f"expected {EVENTS_A_REQUEST}, got {count}; send them in several requests; {EVENTS_A_REQUEST.hint}"
        raise Problem(400, message, Invalid("$", "too_many", message))


def _checked(lines: list[bytes], is_array: bool) -> list[bytes]:
    found: list[bytes] = []
    invalid: list[Invalid] = []
    for index, line in enumerate(lines):
        event = _DECODER.decode(line)
        if isinstance(event, CloudEvent) and event.time is not None:
            event = refuse_instant(event.time, line) or event
        if isinstance(event, Rejected):
            place = f"[{index}]{event.path.removeprefix('$')}" if is_array else event.path.removeprefix("$.")
            invalid.append(Invalid(place, str(event.code), event.message, index if is_array else None))
            if len(invalid) == INVALID_SHOWN:
                break
        else:
            found.append(_one_line(line))
    if invalid:
        events_total.labels(INVALID).inc(len(lines))
        too_large = all(item.code == "too_large" for item in invalid)
        refused = f"{len(invalid)} of {len(lines)} events" if len(invalid) < INVALID_SHOWN else _MANY
        detail = f"{refused} are not valid, and none was taken: {invalid[0].message}"
        if too_large:
            detail = f"{refused} are too large, and none was taken: {invalid[0].message}"
        raise Problem(413 if too_large else 400, detail, *invalid)
    return found


def _one_line(line: bytes) -> bytes:
    """The same JSON without line breaks, which outside of strings are white space."""
    if b"\n" not in line and b"\r" not in line:
        return line
    return msgspec.json.format(line, indent=-1)


ROUTES = [ingest_v1, ingest_v3]
