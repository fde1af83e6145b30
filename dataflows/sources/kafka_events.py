"""
CloudEvents as Kafka messages carry them, to lines of JSON: one event a line, as every source gives them.

Structured: the value is the event, and goes on as it is, byte for byte, but for line feeds outside of strings.
A value of the media type `application/cloudevents-batch+json` is an array of events. Binary: attributes are
headers `ce_…`, the value is `data`; the line is the event as the structured form would have it, with the bytes
of `data` untouched, so its numbers stay exact. A message that is no event becomes a line that is none
either, and is refused in its turn; nothing raises here.
"""

from __future__ import annotations

import time
from itertools import groupby
from typing import Any, Final, TypeAlias

import msgspec
from confluent_kafka import Message

from dataflows.messages import Segment
from rating.events import BYTE_ORDER_MARK

Headers: TypeAlias = list[tuple[str, bytes | None]]

CONTENT_TYPE: Final = "content-type"
ATTRIBUTE: Final = "ce_"
STRUCTURED: Final = "application/cloudevents"
BATCH: Final = "application/cloudevents-batch"

_raw = msgspec.json.Decoder(msgspec.Raw).decode
_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text = msgspec.json.Encoder().encode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


AHEAD_MS_MAX: Final = 86_400_000
"""A timestamp further ahead of the present than a day is not believed."""


def segments_of(messages: list[Message]) -> list[Segment]:
    """For each run of messages with the same timestamp: that, in microseconds, and their events as lines."""
    limit = int(time.time() * 1000) + AHEAD_MS_MAX
    segments: list[Segment] = []
    start = 0
    for (_, at), run in groupby(map(Message.timestamp, messages)):
        end = start + len(list(run))
        received_ms = at if 0 < at < limit else limit - AHEAD_MS_MAX
        segments.append(Segment(received_ms * 1000, _joined(messages[start:end])))
        start = end
    return segments


def _joined(messages: list[Message]) -> bytes:
    values = list(map(Message.value, messages))
    try:
        headers: list[Any] = list(map(Message.headers, messages))
    except UnicodeDecodeError:
        headers = [_headers(message) for message in messages]
    if not any(headers) and None not in values:
        blob = b"\n".join(values)  # type: ignore[arg-type]
        if blob.startswith(b"{") and blob.endswith(b"}"):
            breaks = len(values) - 1
            if blob.count(b"\n") == blob.count(b"}\n{") == breaks:
                return blob
    return b"\n".join([line for value, found in zip(values, headers, strict=True) for line in lines_of(value, found)])


def _headers(message: Message) -> Headers | None:
    try:
        return message.headers()  # type: ignore[return-value]
    except UnicodeDecodeError:
        return None


def lines_of(value: bytes | None, headers: Headers | None) -> list[bytes]:
    """The events of one message, or what is to be refused instead: lines that are not blank."""
    value = None if value is None else value.removeprefix(BYTE_ORDER_MARK)
    if headers:
        named = {name.lower(): text for name, text in headers}
        kind = (named.get(CONTENT_TYPE) or b"").strip().lower()
        if kind.startswith(BATCH.encode()):
            return _elements(value)
        if not kind.startswith(STRUCTURED.encode()) and any(name.startswith(ATTRIBUTE) for name in named):
            return [_binary(value, named, kind)]
    return [_one_line(value)]


def _one_line(value: bytes | None) -> bytes:
    """A value without line breaks. JSON is compacted where it has some; what is none must not become JSON by that."""
    if value is None:
        return b"null"
    if b"\n" in value:
        try:
            return msgspec.json.format(value, indent=-1)
        except _UNREADABLE:
            value = value.replace(b"\n", b"\v")
    return value if value.strip() else b'"' + value + b'"'


def _elements(value: bytes | None) -> list[bytes]:
    try:
        return [_one_line(bytes(element)) for element in _raw_list(value or b"")] or [b"[]"]
    except _UNREADABLE:
        return [_one_line(value)]


def _binary(value: bytes | None, headers: dict[str, bytes | None], kind: bytes) -> bytes:
    try:
        attributes = {
            name.removeprefix(ATTRIBUTE): text.decode()
            for name, text in headers.items()
            if name.startswith(ATTRIBUTE) and text is not None
        }
        if kind:
            attributes.setdefault("datacontenttype", kind.decode())
    except UnicodeDecodeError:
        # Bytes that are not UTF-8 stay what they are: the line is refused for them.
        shown = (name.encode() + b"=" + (text or b"") for name, text in headers.items())
        return _one_line(b" ".join((*shown, value or b"")))
    attributes.pop("data", None)
    members = [_text(name) + b":" + _text(text) for name, text in attributes.items()]
    if value is not None and value.strip():
        members.append(b'"data":' + _data(value))
    return b"{" + b",".join(members) + b"}"


def _data(value: bytes) -> bytes:
    """One JSON value, as it came; as a string where it is none, which the event is then refused for."""
    try:
        _raw(value)
    except _UNREADABLE:
        return _text(value.decode(errors="backslashreplace"))
    return _one_line(value)
