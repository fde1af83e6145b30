"""
Events into the log: one or many at a time, all of them or none.

The answer goes out only after the log has the events on disk. Nothing is de-duplicated here: the same source and id
again is accepted, and is charged once. A body has at most `BODY_BYTES_MAX` bytes, compressed or not, an event at most
1 MiB. Where more comes than the log takes the answer is 429, where the log takes nothing 503; either says when to send
it again.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.exceptions import HTTPException

from rating.events import BYTE_ORDER_MARK, EVENT_BYTES_MAX, CloudEvent, EventDecoder, refuse_instant
from rating.outcome import Rejected
from tollway.api.encoding import Unpacked, encoding_of
from tollway.api.metrics import events_total, ingest_bytes_total, ingest_seconds
from tollway.api.pressure import Admission
from tollway.api.problems import Invalid, Problem
from tollway.api.stores import ApiStores, Stores
from tollway.api.threads import of_log

BODY_BYTES_MAX: Final = 10 * 1024 * 1024
PIECE_BYTES: Final = 1024 * 1024
"""A compressed body is unpacked, and counted, in pieces of so many bytes."""

INVALID_SHOWN: Final = 100
"""An answer names at most so many bad events."""

SINGLE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
EITHER: Final = "application/json"

ACCEPTED, INVALID, PUSHED_BACK, FAILED = "accepted", "invalid", "pushed_back", "failed"
"""How a request with events ends."""

_DECODER: Final = EventDecoder(())
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


@post(
    "/api/v1/events",
    status_code=204,
    tags=["Usage"],
    summary="Ingest events",
    request_max_body_size=BODY_BYTES_MAX,
)
async def ingest_v1(request: Request[Any, Any, Any], stores: Stores) -> None:
    """One CloudEvent, or an array of them. Answered when the log has them durably."""
    await _ingest(request, stores)


@post(
    "/api/v3/openmeter/events",
    status_code=202,
    tags=["Usage"],
    summary="Ingest events",
    request_max_body_size=BODY_BYTES_MAX,
)
async def ingest_v3(request: Request[Any, Any, Any], stores: Stores) -> Response[bytes]:
    """One CloudEvent, or an array of them. Answered when the log has them durably."""
    await _ingest(request, stores)
    return Response(b"", status_code=202)


async def _ingest(request: Request[Any, Any, Any], stores: ApiStores) -> None:
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


async def _append(request: Request[Any, Any, Any], stores: ApiStores) -> None:
    encoding = encoding_of(request)
    announced = min(request.content_length or 0, BODY_BYTES_MAX)
    with stores.pressure.admitted(announced) as admission:
        body = await _read(request, admission)
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


async def _read(request: Request[Any, Any, Any], admission: Admission) -> bytes:
    """The body; bytes that were not announced are counted as they come."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > admission.bytes:
            admission.grow(size - admission.bytes)
    return b"".join(parts)


async def _unpacked(body: bytes, admission: Admission) -> bytes:
    """What a compressed body holds; its bytes are counted as they come out of it."""
    parts: list[bytes] = []
    unpacked = Unpacked(body, BODY_BYTES_MAX)
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
            lines = [bytes(part) for part in _ARRAY.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            message = f"expected a JSON array of events, got: {error}"
            raise Problem(400, message, Invalid("$", "malformed", message)) from error
    return _checked(lines, is_array)


def _checked(lines: list[bytes], is_array: bool) -> list[bytes]:
    found: list[bytes] = []
    invalid: list[Invalid] = []
    refused = 0
    for index, line in enumerate(lines):
        event = _DECODER.decode(line)
        if isinstance(event, CloudEvent) and event.time is not None:
            event = refuse_instant(event.time, line) or event
        if isinstance(event, Rejected):
            refused += 1
            if len(invalid) < INVALID_SHOWN:
                place = f"[{index}]{event.path.removeprefix('$')}" if is_array else event.path.removeprefix("$.")
                invalid.append(Invalid(place, str(event.code), event.message, index if is_array else None))
        else:
            found.append(_one_line(line))
    if refused:
        events_total.labels(INVALID).inc(len(lines))
        too_large = all(item.code == "too_large" for item in invalid)
        detail = f"{refused} of {len(lines)} events are not valid, and none was taken: {invalid[0].message}"
        if too_large:
            detail = f"an event has at most {EVENT_BYTES_MAX} bytes; none was taken"
        raise Problem(413 if too_large else 400, detail, *invalid)
    return found


def _one_line(line: bytes) -> bytes:
    """The same JSON without line breaks, which outside of strings are white space."""
    if b"\n" not in line and b"\r" not in line:
        return line
    return msgspec.json.format(line, indent=-1)
