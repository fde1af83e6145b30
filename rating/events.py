"""
Events as they arrive: CloudEvents 1.0 in JSON, one object a line.

Of `data` only the top-level fields that some meter looks at are decoded; the rest is checked to be JSON and
skipped. Numbers are exact: an integer stays one, any other is a `Decimal` of the text, never a float.

What one line means does not depend on the lines around it, so a stream may be cut anywhere. Lines are first
decoded all at once; only when that fails is each decoded alone, and a broken one rejected alone.

Decisions where the standards leave room:
- `time` may have any offset and is brought to UTC, rounded to the nearest microsecond, also where that is the first
  of the next period (`tests/cases/t06-offsets-and-month-end`). One without an offset
  is refused, and so is a leap second (`:60`), which a `datetime` cannot hold.
- A repeated key counts as its last value, for the subject that routes an event as for the one that is rated.
- Attributes are at most `ATTRIBUTE_LENGTH_MAX` long and hold no NUL, which no ledger could store.
- A file, a body or a message may begin with a byte order mark, which its reader takes off (RFC 8259, section 8.1).
  Anywhere else it is no JSON.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, defstruct
from msgspec.json import Decoder
from msgspec.structs import force_setattr

from rating.money import DIGITS_MAX
from rating.refusals import RejectCode, Rejected

EVENT_BYTES_MAX: Final = 1 << 20
"""An event has at most this many bytes, about what Kafka takes by default."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""What some programs write at the beginning of a text in UTF-8; it says nothing."""

EVENT_DEPTH_MAX: Final = 100
"""
Arrays and objects may stand within each other so deep, the event itself among them.

Far below what a decoder takes, which differs with how deep its caller stands: an event is rated the same everywhere.
"""

WHITE_SPACE: Final = b" \t\r\n"
"""What JSON takes for white space (RFC 8259, section 2). A line of anything else is no blank one."""

ATTRIBUTE_LENGTH_MAX: Final = 320
"""Characters in an id, source, type or subject: room for any e-mail address, and for an index over two."""

Attribute = Annotated[str, Meta(min_length=1, max_length=ATTRIBUTE_LENGTH_MAX)]


INSTANT_MIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT_MAX: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""From `INSTANT_MIN` to before `INSTANT_MAX`: what any store and any time zone can hold."""


class CloudEvent(Struct, frozen=True, gc=False):
    """
    An event. Extension attributes are let pass and skipped.

    `data` is None, or has an attribute `attribute_of(field)` for each field that was asked for.
    """

    specversion: Literal["1.0"]
    id: Attribute
    source: Attribute
    type: Attribute
    subject: Attribute
    time: Annotated[datetime, Meta(tz=True)] | None = None
    """In UTC; None: the time of its arrival."""
    data: Any = None


class _Routed(Struct, gc=False):
    subject: Attribute


class _Timed(Struct, gc=False):
    time: Annotated[datetime, Meta(tz=True)] | None = None


def attribute_of(field: str) -> str:
    """The attribute under which decoded `data` carries a top-level field, whatever its name."""
    return "f_" + field.encode().hex()


class EventDecoder:
    """
    Decodes events for a set of meters.

    Args:
        fields: The top-level names within `data` that any meter looks at. Others are skipped.
    """

    def __init__(self, fields: Iterable[str]) -> None:
        names = tuple(dict.fromkeys(fields))
        self._decoder = _decoder(names)
        self._locating_decoder = _decoder(names, _read_number)

    def decode_lines(self, blob: bytes) -> list[CloudEvent | Rejected]:
        """Decode a batch: one event or rejection for each line that is not blank."""
        return self.decode_with_lines(blob)[0]

    def decode_with_lines(self, blob: bytes, framed: bool = False) -> tuple[list[CloudEvent | Rejected], list[bytes]]:
        """
        Decode a batch and split it.

        Args:
            blob: JSON objects separated by LF or CR LF; blank lines do not count.
            framed: Whether it is known that `is_framed`.

        Returns:
            One event or rejection a line, and the lines without the white space around them.
        """
        blob = blob.strip(WHITE_SPACE)
        if not blob:
            return [], []
        lines = blob.split(b"\n")
        if framed or is_framed(lines):
            events = self._decode_at_once(blob, lines)
            if events is not None:
                return events, lines
        else:
            lines = [line for line in (line.strip(WHITE_SPACE) for line in lines) if line]
        return [self.decode(line) for line in lines], lines

    def decode(self, line: bytes) -> CloudEvent | Rejected:
        """Decode one event."""
        if len(line) <= EVENT_BYTES_MAX:
            try:
                event = self._decoder.decode(line)
                if is_deeper(line, EVENT_DEPTH_MAX):
                    return self._reject(line)
                if _is_utf8(line) and (b"\\u0000" not in line or _nul_path(event) is None):
                    _normalise(event)
                    return event
            except _UNREADABLE:
                pass
        return self._reject(line)

    def _decode_at_once(self, blob: bytes, lines: list[bytes]) -> list[CloudEvent | Rejected] | None:
        """
        All lines in one call; None where they have to be looked at one by one.

        The batch is framed: every line feed stands between `}` and `{`. In what decodes, that is between two events and
        nowhere else, so when there are as many events as lines, each line is one.
        """
        if len(blob) > EVENT_BYTES_MAX and max(map(len, lines)) > EVENT_BYTES_MAX:
            return None
        if (b"\\" in blob and b"\\u0000" in blob) or not _is_utf8(blob):
            return None
        # What nests so deep has a bracket for each level at both ends.
        if blob.count(b"{") + blob.count(b"[") >= EVENT_DEPTH_MAX + len(lines) and any(
            len(line) > 2 * EVENT_DEPTH_MAX and is_deeper(line, EVENT_DEPTH_MAX) for line in lines
        ):
            return None
        try:
            events = self._decoder.decode_lines(blob)
            for event in events:
                if (time := event.time) is not None and time.tzinfo is not UTC:
                    _normalise(event)
        except _UNREADABLE:
            return None
        return [*events] if len(events) == len(lines) else None

    def _reject(self, line: bytes) -> Rejected:
        """Why a line that did not decode is rejected. The guards are in the order of `RejectCode`."""
        if len(line) > EVENT_BYTES_MAX:
            message = (
                f"Event too large: expected at most {EVENT_BYTES_MAX} bytes, got {len(line)}; send less data;"
                " the limit is `event_bytes`"
            )
            return Rejected(RejectCode.TOO_LARGE, message, "$", line)
        try:
            line.decode()
            if is_deeper(line, EVENT_DEPTH_MAX):
                return _too_deep(line)
            _SYNTAX.decode(line)
        except _UNREADABLE as error:
            return _malformed(error, line)
        try:
            event = _ENVELOPE.decode(line)
            path = _nul_path(event)
            if path is not None:
                return _invalid(path, "one with a NUL character", line)
            _normalise(event)
        except OverflowError:
            return _invalid("$.time", "one outside the years 1 to 9999", line)
        except msgspec.ValidationError as error:
            return _invalid(*_located(str(error)), line)
        try:
            self._locating_decoder.decode(line)
        except msgspec.ValidationError as error:
            path, _ = _located(str(error))
            message = (
                f"Bad number at `{path}`: expected at most {DIGITS_MAX} digits before and after the point, "
                "got one too long to be read; send a smaller one"
            )
            return Rejected(RejectCode.NUMBER_UNREADABLE, message, path, line)
        except _UNREADABLE as error:
            return _malformed(error, line)
        # Nothing that is known refuses it here, and still it did not decode: rejecting is total.
        return _invalid("$", "another", line)


def refuse_instant(at: datetime, line: bytes) -> Rejected | None:
    """Why an event of an instant is rejected that is not of an age to be rated; None where it is."""
    if INSTANT_MIN <= at < INSTANT_MAX:
        return None
    return _invalid("$.time", f"one of the year {at.year}, outside of 1970 to 8999", line)


def is_framed(lines: list[bytes]) -> bool:
    """Whether every line of a batch begins with `{` and ends with `}`."""
    try:
        return set(map(_ENDS, lines)) == _BRACES
    except IndexError:
        return False  # a line is empty


def subjects(blob: bytes, lines: list[bytes], framed: bool = False) -> Sequence[str | None]:
    """
    The subject of each event, in order, None where it cannot be read. Nothing else is decoded.

    Args:
        blob: The events, one a line.
        lines: The same, split.
        framed: Whether it is known that it `is_framed`.
    """
    if framed or is_framed(lines):
        try:
            routed = _ROUTED.decode_lines(blob)
        except _UNREADABLE:
            routed = []
        if len(routed) == len(lines):
            return [event.subject for event in routed]
    return [_subject(line) for line in lines]


def _subject(line: bytes) -> str | None:
    try:
        return _ROUTED.decode(line).subject
    except _UNREADABLE:
        return None


def time_of(line: bytes) -> datetime | None:
    """The time of an event, None where it has none or none that can be read. Nothing else is decoded."""
    try:
        return _TIMED.decode(line).time
    except _UNREADABLE:
        return None


def _read_number(text: str) -> Decimal:
    """As `Decimal`, but with an error whose path msgspec tells."""
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError("Number out of range") from None


def _decoder(fields: tuple[str, ...], float_hook: Any = Decimal) -> Decoder[CloudEvent]:
    data = defstruct(
        "Data",
        [(attribute_of(field), Any, UNSET) for field in fields],
        rename={attribute_of(field): field for field in fields},
        gc=False,
    )
    event = defstruct("CloudEvent", [("data", data | None, None)], bases=(CloudEvent,), frozen=True, gc=False)
    return Decoder(event, float_hook=float_hook)


def _is_utf8(text: bytes) -> bool:
    """msgspec does not look into strings that it skips."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _normalise(event: CloudEvent) -> None:
    """Bring the time to UTC. Raises `OverflowError` where UTC has no such year."""
    if event.time is not None and event.time.tzinfo is not UTC:
        force_setattr(event, "time", event.time.astimezone(UTC))


def _nul_path(event: CloudEvent) -> str | None:
    return next((f"$.{name}" for name in _NAMES if "\0" in getattr(event, name)), None)


def _malformed(error: Exception, line: bytes) -> Rejected:
    match error:
        case UnicodeDecodeError():
            got = f"bytes that are not UTF-8 at byte {error.start}"
        case RecursionError():
            got = "one that is nested too deeply"
        case _:
            got = str(error)
    message = f"Malformed event: expected one JSON object in UTF-8, got: {got}; send it as a JSON library writes it"
    return Rejected(RejectCode.MALFORMED, message, "$", line)


def _too_deep(line: bytes) -> Rejected:
    message = (
        f"Malformed event: expected at most {EVENT_DEPTH_MAX} levels of arrays and objects, got more; nest less;"
        " the limit is `event_depth`"
    )
    return Rejected(RejectCode.MALFORMED, message, "$", line)


def is_deeper(text: bytes, depth_max: int) -> bool:
    """Whether JSON nests deeper than so; of what is no JSON, it may be said either way."""
    if text.count(b"[") + text.count(b"{") <= depth_max:
        return False
    depth = 0
    for found in _NESTING.finditer(text):
        match found[0]:
            case b"[" | b"{":
                depth += 1
                if depth > depth_max:
                    return True
            case b"]" | b"}":
                depth -= 1
    return False


def _invalid(path: str, got: str, line: bytes) -> Rejected:
    path = path if path in _EXPECTED else "$"
    expected, hint = _EXPECTED[path]
    message = f"Bad event at `{path}`: expected {expected}, got {got}; {hint}"
    if got == _LONGER:
        message += "; the limit is `attribute_length`"
    return Rejected(RejectCode.INVALID_ENVELOPE, message, path, line)


def _located(message: str) -> tuple[str, str]:
    """
    The path a message of msgspec ends in, and what was found there.

    What stands before the path may hold the sender's text, whatever that looks like: only the end is read as a path,
    and only what comes before any text as a type. A value it repeats is left out.
    """
    missing = _MISSING_FIELD.fullmatch(message)
    if missing:
        return f"$.{missing[1]}", "nothing"
    path = _AT.search(message)
    got = _GOT_TYPE.match(message)
    return path[1] if path else "$", got[1] if got else next((g for s, g in _GOT.items() if s in message), "another")


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError)
_ENDS: Final = itemgetter(0, -1)
_BRACES: Final = {tuple(b"{}")}
_NAMES: Final = ("id", "source", "type", "subject")
_ROUTED: Final = Decoder(_Routed)
_TIMED: Final = Decoder(_Timed)
_SYNTAX: Final = Decoder(msgspec.Raw)
_ENVELOPE: Final = _decoder(())

_NESTING: Final = re.compile(rb'[\[\]{}]|"(?:[^"\\]|\\.)*+"', re.DOTALL)
"""What opens and closes in JSON, and texts, in which nothing does."""
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(\w+)`")
_AT: Final = re.compile(r" - at `([^`]*)`\Z")
_GOT_TYPE: Final = re.compile(r"Expected `[^`]*`, got (`\w+`)")
_LONGER: Final = "a longer one"
_GOT: Final = {
    "length >= 1": "an empty one",
    "length <=": _LONGER,
    "timezone component": "one without an offset",
}
_TEXT: Final = f"a string of 1 to {ATTRIBUTE_LENGTH_MAX} characters without NUL"
_EXPECTED: Final = {
    "$": ("a JSON object", "send one CloudEvent a line"),
    "$.specversion": ('"1.0"', "send CloudEvents of version 1.0"),
    "$.id": (_TEXT, "give each event an id that is unique within its source"),
    "$.source": (_TEXT, "name what the event comes from"),
    "$.type": (_TEXT, "name the event type of a meter"),
    "$.subject": (_TEXT, "name a subject of the customer"),
    "$.time": ("an RFC 3339 time with an offset and no leap second", "write it as in 2026-03-01T12:00:00Z"),
    "$.data": ("an object or null", 'put the values in an object, as in {"tokens": 1}'),
}
