"""Messages to lines: what goes on as it came, what is put together, and what can't be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.sources.kafka_events import Headers, lines_of
from rating.events import BYTE_ORDER_MARK, CloudEvent, EventDecoder
from rating.refusals import Rejected

PLAIN = b'{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"u","data":{"n":1.10}}'
ATTRIBUTES: Headers = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"s"),
    ("ce_type", b"t"),
    ("ce_subject", b"u"),
]
BOM = BYTE_ORDER_MARK
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]
BATCH: Headers = [("Content-Type", b"application/cloudevents-batch+json; charset=utf-8")]


@pytest.mark.parametrize(
    ("value", "headers", "lines"),
    [
        (PLAIN, None, [PLAIN]),
        (PLAIN, STRUCTURED, [PLAIN]),
        (PLAIN, [*STRUCTURED, *ATTRIBUTES], [PLAIN]),
        (PLAIN.replace(b",", b",\r\n  "), None, [PLAIN]),
        (b"[" + PLAIN + b",\n" + PLAIN + b"]", BATCH, [PLAIN, PLAIN]),
        (b"[]", BATCH, [b"[]"]),
        (b"[1", BATCH, [b"[1"]),
        (None, None, [b"null"]),
        (b"", None, [b'""']),
        (BOM + PLAIN, None, [PLAIN]),
        (BOM + b"[" + PLAIN + b"]", BATCH, [PLAIN]),
        (BOM + b'{"n":1.10}', ATTRIBUTES, [PLAIN]),
        (BOM + BOM + PLAIN, None, [BOM + PLAIN]),
        (b'{"a":\n', None, [b'{"a":\v']),
        (b'{"n":1.10}', ATTRIBUTES, [PLAIN]),
        (b'{"n":\n1.10}', [*ATTRIBUTES, ("content-type", b"application/json")], None),
        (None, ATTRIBUTES, [PLAIN.replace(b',"data":{"n":1.10}', b"")]),
        (b'{"n":1.10}', [*ATTRIBUTES, ("ce_data", b"x"), ("ce_note", None), ("other", b"y")], [PLAIN]),
        (b'{"n":1.10}', [("ce_id", b"0"), *ATTRIBUTES], None),
    ],
)
def test_a_message_is_lines(value: bytes | None, headers: Headers | None, lines: list[bytes] | None) -> None:
    """The form that a line has, and that it is the same event: numbers are untouched."""
    found = lines_of(value, headers)
    if lines is not None:
        assert found == lines
    else:
        (event,) = EventDecoder(["n"]).decode_lines(found[0])
        assert isinstance(event, CloudEvent)
        assert event.id == "1"
        assert b'{"n":1.10}' in found[0]


def test_data_can_not_smuggle_attributes_in() -> None:
    """What is no single JSON value becomes a string, which no event may have as its data."""
    (line,) = lines_of(b'{"n":1},"subject":"victim"', ATTRIBUTES)
    (event,) = EventDecoder(["n"]).decode_lines(line)
    assert isinstance(event, Rejected)
    assert event.path == "$.data"


texts = st.binary(max_size=60) | st.sampled_from(
    [PLAIN, b"{}", b"\n", b" ", b"[]", b'"\n"', PLAIN.replace(b",", b"\n,")]
)
names = st.sampled_from(["content-type", "ce_id", "ce_subject", "ce_data", "ce_specversion", "x"])
kinds = st.sampled_from([b"application/cloudevents+json", b"application/cloudevents-batch+json", b"application/json"])


@given(value=st.none() | texts, headers=st.lists(st.tuples(names, st.none() | kinds | st.binary(max_size=10))))
def test_any_message_is_at_least_one_line_and_each_line_ends_somehow(
    value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    """Nothing raises, no line is blank or broken in two, so each is an event or is refused: no silent end."""
    lines = lines_of(value, headers)
    assert lines
    for line in lines:
        assert line.strip()
        assert b"\n" not in line
    ended = EventDecoder(["n"]).decode_lines(b"\n".join(lines))
    assert len(ended) == len(lines)
