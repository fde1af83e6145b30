"""Events as they arrive: what is read, what is rejected and why, whatever the lines around."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.events import (
    ATTRIBUTE_LENGTH_MAX,
    EVENT_BYTES_MAX,
    CloudEvent,
    EventDecoder,
    attribute_of,
    subjects,
)
from rating.refusals import RejectCode, Rejected

SECRET = "s3cr3t"
DECODER = EventDecoder(["tokens", "model"])
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "gateway", "type": "tokens", "subject": "acme"}


def line(data: str = '{"tokens":5,"model":"m"}', **attributes: Any) -> bytes:
    """An event as one line; an attribute that is given as None is left out."""
    envelope = {name: value for name, value in (ENVELOPE | attributes).items() if value is not None}
    return f'{json.dumps(envelope)[:-1]}, "data": {data}}}'.encode()


def accepted(text: bytes, decoder: EventDecoder = DECODER) -> CloudEvent:
    event = decoder.decode(text)
    assert isinstance(event, CloudEvent), event
    return event


def tokens(text: bytes) -> Any:
    return getattr(accepted(text).data, attribute_of("tokens"))


def test_an_event_is_read() -> None:
    """The attributes and the fields that were asked for are there; all others are skipped."""
    event = accepted(line('{"tokens":5,"deep":{"x":[1.5]}}', time="2026-03-01T12:00:00Z", traceparent="00-1"))
    assert (event.id, event.source, event.type, event.subject) == ("1", "gateway", "tokens", "acme")
    assert event.time == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert getattr(event.data, attribute_of("tokens")) == 5
    assert not hasattr(event.data, attribute_of("deep"))


@pytest.mark.parametrize(
    "text", [line("null"), line("{}"), line()[: -len(', "data": {"tokens":5,"model":"m"}}')] + b"}"]
)
def test_data_may_be_missing(text: bytes) -> None:
    """Counting events takes no data."""
    accepted(text)
    accepted(text, EventDecoder([]))


@pytest.mark.parametrize("field", ["tokens", "total tokens", "a-b", "größe", "", "class", "it's", "f_"])
def test_a_field_may_have_any_name(field: str) -> None:
    """Names that Python has no attribute for are read like others."""
    event = accepted(line(json.dumps({field: 7})), EventDecoder([field, "other", field]))
    assert getattr(event.data, attribute_of(field)) == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740993", 9007199254740993),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("-1", -1),
        ("0.1", Decimal("0.1")),
        ("1.10", Decimal("1.10")),
        ("1e3", Decimal("1e3")),
        ("0.30000000000000004000000001", Decimal("0.30000000000000004000000001")),
        ("1e999999", Decimal("1e999999")),
    ],
)
def test_numbers_are_exact(text: str, value: int | Decimal) -> None:
    """A number is what its digits say, at any depth, and never a float."""
    assert tokens(line(f'{{"tokens":{text}}}')) == value
    nested = tokens(line(f'{{"tokens":[{{"a":{text}}}]}}'))[0]["a"]
    assert (nested, type(nested)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-01T12:00:00+05:30", datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
        ("2026-03-01t12:00:00.5z", datetime(2026, 3, 1, 12, 0, 0, 500000, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123456499Z", datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-03-01T12:00:00.9999999-00:30", datetime(2026, 3, 1, 12, 30, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_brought_to_utc_and_microseconds(text: str, time: datetime) -> None:
    """Any offset will do; digits beyond the microsecond are rounded to the nearest."""
    alone = accepted(line(time=text))
    batched = DECODER.decode_lines(line(time=text) + b"\n" + line())[0]
    assert alone.time == time
    assert alone.time.tzinfo is UTC
    assert batched == alone


def test_a_repeated_key_counts_as_its_last_value() -> None:
    """Routing and rating read the same subject."""
    text = line('{"tokens":1,"tokens":2}').replace(b'"subject"', b'"subject": "other", "subject"')
    assert (accepted(text).subject, tokens(text), peeked([text])) == ("acme", 2, ["acme"])


DEEP = "[" * 100_000 + "]" * 100_000
REJECTED = [
    (b" " * EVENT_BYTES_MAX + line(), RejectCode.TOO_LARGE, "$"),
    (b"x" * (EVENT_BYTES_MAX + 1), RejectCode.TOO_LARGE, "$"),
    (b"{", RejectCode.MALFORMED, "$"),
    (b"\xef\xbb\xbf" + line(), RejectCode.MALFORMED, "$"),
    (line() + line(), RejectCode.MALFORMED, "$"),
    (line() + b"\r" + line(), RejectCode.MALFORMED, "$"),
    (line(id="")[:-1], RejectCode.MALFORMED, "$"),
    (line('{"tokens":NaN}'), RejectCode.MALFORMED, "$"),
    (line('{"tokens":Infinity}'), RejectCode.MALFORMED, "$"),
    (line('{"tokens":01}'), RejectCode.MALFORMED, "$"),
    (line('{"tokens":"\\ud800"}'), RejectCode.MALFORMED, "$"),
    (line(f'{{"tokens":{DEEP}}}'), RejectCode.MALFORMED, "$"),
    (line(f'{{"skipped":{DEEP}}}'), RejectCode.MALFORMED, "$"),
    (line('{"tokens":"X"}').replace(b"X", b"\xff"), RejectCode.MALFORMED, "$"),
    (line('{"skipped":"X"}').replace(b"X", b"\xff"), RejectCode.MALFORMED, "$"),
    (b"[]", RejectCode.INVALID_ENVELOPE, "$"),
    (b"null", RejectCode.INVALID_ENVELOPE, "$"),
    (b"{}", RejectCode.INVALID_ENVELOPE, "$.specversion"),
    (line(specversion=SECRET), RejectCode.INVALID_ENVELOPE, "$.specversion"),
    (line(specversion=1), RejectCode.INVALID_ENVELOPE, "$.specversion"),
    (line(id=""), RejectCode.INVALID_ENVELOPE, "$.id"),
    (line(id=5), RejectCode.INVALID_ENVELOPE, "$.id"),
    (line(id=SECRET + "\0"), RejectCode.INVALID_ENVELOPE, "$.id"),
    (line(source=None), RejectCode.INVALID_ENVELOPE, "$.source"),
    (line(type="x" * (ATTRIBUTE_LENGTH_MAX + 1)), RejectCode.INVALID_ENVELOPE, "$.type"),
    (line(subject=None), RejectCode.INVALID_ENVELOPE, "$.subject"),
    (line(time=SECRET), RejectCode.INVALID_ENVELOPE, "$.time"),
    (line(time=1772366400), RejectCode.INVALID_ENVELOPE, "$.time"),
    (line(time="2026-03-01T12:00:00"), RejectCode.INVALID_ENVELOPE, "$.time"),
    (line(time="2016-12-31T23:59:60Z"), RejectCode.INVALID_ENVELOPE, "$.time"),
    (line(time="0001-01-01T00:00:00+05:30"), RejectCode.INVALID_ENVELOPE, "$.time"),
    (line(f'"{SECRET}"'), RejectCode.INVALID_ENVELOPE, "$.data"),
    (line("[1]"), RejectCode.INVALID_ENVELOPE, "$.data"),
    (line('{"tokens":' + "9" * 10_000 + "}", subject=""), RejectCode.INVALID_ENVELOPE, "$.subject"),
    (line('{"tokens":' + "9" * 10_000 + "}"), RejectCode.NUMBER_UNREADABLE, "$.data.tokens"),
    (line('{"model":[1e99999999999999999999]}'), RejectCode.NUMBER_UNREADABLE, "$.data.model[0]"),
]


@pytest.mark.parametrize(("text", "code", "path"), REJECTED)
def test_a_broken_event_is_rejected_with_code_and_path(text: bytes, code: RejectCode, path: str) -> None:
    """The first code that applies is reported, with its place; what the event carries is not repeated."""
    rejected = DECODER.decode(text)
    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.path, rejected.raw) == (code, path, text)
    assert "expected" in rejected.message
    assert "got" in rejected.message
    assert SECRET not in rejected.message


@pytest.mark.parametrize(("text", "code", "path"), REJECTED)
def test_a_broken_event_is_rejected_alone(text: bytes, code: RejectCode, path: str) -> None:
    """The events before and after it in the batch are read."""
    text = text.strip()
    events = DECODER.decode_lines(b"\n".join([line(id="1"), text, line(id="2")]))
    assert events == [DECODER.decode(line(id="1")), DECODER.decode(text), DECODER.decode(line(id="2"))]


HOSTILE = st.lists(
    st.sampled_from(
        [" - at `", "`", "$.foo", "$.id", "$.data", ", got `int`", "Expected `str`", "missing required field `x`",
         "Object ", "\\", "\n", "\0", "\ud800", "length >= 1", "x"]
    ),
    max_size=6,
).map("".join)  # fmt: skip


@given(
    st.sampled_from(["specversion", "id", "source", "type", "subject", "time", "data"]),
    HOSTILE
    | st.integers()
    | st.none()
    | st.booleans()
    | st.lists(HOSTILE, max_size=2)
    | st.dictionaries(HOSTILE, HOSTILE),
    st.dictionaries(HOSTILE, HOSTILE | st.integers(), max_size=2),
)
def test_rejecting_is_total(name: str, value: object, more: dict[str, object]) -> None:
    """Whatever texts a sender puts anywhere: an event or a rejection with a path of its envelope, and no error."""
    text = json.dumps(ENVELOPE | {"data": {"tokens": 1}} | more | {name: value}).encode()
    found = DECODER.decode(text)
    assert isinstance(found, CloudEvent) or found.path in {"$", f"$.{name}"}


def test_a_text_that_looks_like_a_path_is_not_one() -> None:
    """The path of an error is where it is, not what the sender wrote."""
    text = json.dumps(ENVELOPE | {"specversion": "x - at `$.foo`"}).encode()
    found = DECODER.decode(text)
    assert isinstance(found, Rejected)
    assert (found.code, found.path) == (RejectCode.INVALID_ENVELOPE, "$.specversion")


def test_the_message_says_what_to_do() -> None:
    """What, where, expected, got, and the way out."""
    rejected = DECODER.decode(line(subject=""))
    assert isinstance(rejected, Rejected)
    assert rejected.message == (
        "Bad event at `$.subject`: expected a string of 1 to 320 characters without NUL, got an empty one; "
        "name a subject of the customer"
    )


@pytest.mark.parametrize("blob", [b"", b"\n", b" \r\n\t\n"])
def test_blank_lines_do_not_count(blob: bytes) -> None:
    """A batch of nothing is no event."""
    assert DECODER.decode_with_lines(blob) == ([], [])
    assert DECODER.decode_lines(blob + line() + b"\r\n" + blob + line()) == [DECODER.decode(line())] * 2


def test_an_event_is_one_line() -> None:
    """Two events on a line are not two, and an event across two lines is not one, whatever the count."""
    two, halves = line() + line(), line().replace(b", ", b",\n", 1)
    events, lines = DECODER.decode_with_lines(two + b"\n" + halves)
    assert [type(event) for event in events] == [Rejected] * 3
    assert lines == [two, *halves.split(b"\n")]


def peeked(lines: list[bytes]) -> list[str | None]:
    """The subjects of lines."""
    return list(subjects(b"\n".join(lines), lines))


def test_a_peeked_subject_stays_with_its_line() -> None:
    """Two events on one line and none on the next are as many as lines, but not one each."""
    assert peeked([line(subject="a") + line(subject="b"), b"", line()]) == [None, None, "acme"]
    assert peeked([line().replace(b", ", b",\n"), line(subject="b")]) == ["acme", "b"]
    assert peeked([]) == []


def test_a_long_batch_is_not_a_large_event() -> None:
    """Only single events are bounded."""
    count = EVENT_BYTES_MAX // len(line()) + 2
    assert DECODER.decode_lines(b"\n".join([line()] * count)) == [accepted(line())] * count


GOOD = [
    line(),
    line(time="2026-03-01T12:00:00-03:00"),
    line('{"tokens":"é\\u0000"}'),
    line("null"),
    b" " + line() + b"\r",
]
odd_lines = st.sampled_from([*GOOD, *(text for text, _, _ in REJECTED if len(text) < 20_000), b"", b" \r"])
noise = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b" "))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good event with some bytes cut out and others put in."""
    text = draw(st.sampled_from(GOOD))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 8)))
    return text[:start] + draw(noise) + text[end:]


@given(st.lists(odd_lines | noise | damaged(), max_size=6))
def test_what_a_line_means_does_not_depend_on_its_neighbours(lines: list[bytes]) -> None:
    """A batch gives what its lines give one by one, so it may be cut anywhere. Nothing is lost or raises."""
    shown = [text for text in (text.strip(b" \t\r") for text in lines) if text]
    events, split = DECODER.decode_with_lines(b"\n".join(lines))
    assert split == shown
    assert events == [DECODER.decode(text) for text in shown]


@given(st.lists(odd_lines | noise | damaged(), max_size=6))
def test_the_peeked_subject_is_the_subject(lines: list[bytes]) -> None:
    """One subject a line, and that of the event where there is one."""
    found = peeked(lines)
    assert len(found) == len(lines)
    for text, subject in zip(lines, found, strict=True):
        event = DECODER.decode(text)
        assert isinstance(event, Rejected) or event.subject == subject


@given(
    st.lists(odd_lines | noise | damaged(), max_size=4),
    st.sets(st.sampled_from(["tokens", "model", "skipped", "x"])),
)
def test_the_envelope_does_not_depend_on_the_meters(lines: list[bytes], fields: set[str]) -> None:
    """Which fields are looked at decides which numbers have to be readable, and nothing else."""
    blob = b"\n".join(lines)
    for all_of_it, some in zip(DECODER.decode_lines(blob), EventDecoder(fields).decode_lines(blob), strict=True):
        codes = {event.code for event in (all_of_it, some) if isinstance(event, Rejected)}
        assert not codes or codes == {RejectCode.NUMBER_UNREADABLE} or all_of_it == some


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_how_deep_an_event_may_nest_does_not_depend_on_those_around_it(opening: str) -> None:
    """Alone and among others, whether its fields are read or skipped: 100 levels, and not one more."""
    closing = {"[": "]"}.get(opening, "}")
    for depth in (98, 99, 950):
        deep = line(f'{{"tokens":{opening * depth}0{closing * depth}}}')
        short = line().replace(b',"data":{"tokens":5}', b"")
        for fields in ((), ("tokens",)):
            for around in (0, 3, 300):
                found = EventDecoder(fields).decode_lines(b"\n".join([short] * around + [deep] + [short] * around))
                event = found[around]
                if depth == 98:
                    assert isinstance(event, CloudEvent)
                else:
                    assert isinstance(event, Rejected)
                    assert event.code is RejectCode.MALFORMED
                    assert "`event_depth`" in event.message
                assert sum(isinstance(one, CloudEvent) for one in found) == 2 * around + (depth == 98)
