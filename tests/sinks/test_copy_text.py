"""What COPY reads is what was written, for every text that PostgreSQL can hold."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.postgres.copy_text import OPTIONS, array_text, bytes_text, copy_text, json_text
from tollway.embedded import Endpoints

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "",
        "null",
        "NULL",
        "\\.",
        "\n\\.\n",
        '"',
        '\\"',
        "\\",
        "\\\\n",
        "\\n",
        "a]\n[b",
        "],[",
        "é\u2028\x7f",
        "\t\b\f\r\n\x01",
    ]
)
rows = st.tuples(
    texts,
    st.none() | texts,
    st.decimals(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.datetimes(timezones=st.just(UTC)),
    st.binary(max_size=20),
    st.lists(texts, max_size=3),
    st.dictionaries(texts, st.decimals(allow_nan=False, allow_infinity=False).map(str), max_size=3),
)


@settings(deadline=None)
@given(written=st.lists(rows, min_size=1, max_size=5))
def test_a_row_is_read_as_it_was_written(servers_session: Endpoints, written: list[tuple[Any, ...]]) -> None:
    """Quotes, backslashes, control characters, nulls, and what looks like the end of the data."""
    with psycopg.connect(servers_session.postgres_dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            "create temporary table read_back (place serial, a text, b text, n numeric, i bigint, t boolean,"
            " at timestamptz, raw bytea, texts text[], amounts jsonb)"
        )
        with cursor.copy(
            f"copy read_back (a, b, n, i, t, at, raw, texts, amounts) from stdin {OPTIONS}".encode()
        ) as copy:
            copy.write(
                copy_text((*row[:6], bytes_text(row[6]), array_text(row[7]), json_text(row[8])) for row in written)
            )
        found = cursor.execute("select a, b, n, i, t, at, raw, texts, amounts from read_back order by place").fetchall()
    assert found == written


def test_an_infinite_amount_is_one() -> None:
    """A value without an end is written in words that PostgreSQL knows."""
    assert (
        copy_text([(Decimal("Infinity"), datetime(2026, 1, 1, tzinfo=UTC))]) == b'"Infinity","2026-01-01T00:00:00Z"\n'
    )
