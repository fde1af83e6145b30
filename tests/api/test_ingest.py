"""Events are taken all or none, in any of the three media types, and are on disk when the answer goes out."""

from __future__ import annotations

import gzip
import json
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from config.limits import EVENTS_BYTES
from rating.events import BYTE_ORDER_MARK
from sinks.redis.keys import stream_key
from tests.api.conftest import Client
from tests.api.service import api_process
from tests.conftest import Stores
from tests.engine_runs import query, wait_for
from tollway.api.routes.ingest import BATCH, EITHER, SINGLE, read_events
from tollway.api.server.app import create_app
from tollway.api.server.stores import ServerStores
from tollway.openmeter.problems import Problem

V1, V3 = "/api/v1/events", "/api/v3/openmeter/events"
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "test",
    "type": "call",
    "subject": "acme",
    "data": {"tokens": 1.10, "text": "two\nlines"},
}


def logged(stores: Stores) -> list[Any]:
    """All events that the log has."""
    found: list[Any] = []
    with redis.Redis.from_url(stores.redis_url) as client:
        for partition in range(4):
            entries: Any = client.xrange(stream_key(partition))
            for _, entry in entries:
                found += [json.loads(line) for line in entry[b"e"].split(b"\n")]
    return found


@pytest.mark.parametrize(("path", "code"), [(V1, 204), (V3, 202)])
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (SINGLE, EVENT),
        (BATCH, [EVENT, EVENT | {"id": "2"}]),
        (EITHER, EVENT),
        (EITHER, [EVENT]),
        (f"{BATCH}; charset=utf-8", [EVENT]),
        (BATCH, []),
    ],
)
def test_events_are_in_the_log_when_the_answer_is(
    client: Client, stores: Stores, path: str, code: int, media_type: str, body: Any
) -> None:
    """Each media type, one or many, however it is laid out; the same event again is taken again."""
    for indent in (None, 2):
        content = json.dumps(body, indent=indent)
        answer = client.post(path, content=content, headers={"content-type": media_type})
        assert answer.status_code == code, answer.text
        assert not answer.content
    events = body if isinstance(body, list) else [body]
    assert sorted(map(str, logged(stores))) == sorted(map(str, events * 2))


@pytest.mark.parametrize(
    ("media_type", "content", "code"),
    [
        (SINGLE, json.dumps([EVENT]), 400),
        (BATCH, json.dumps(EVENT), 400),
        (EITHER, "", 400),
        (EITHER, "{", 400),
        (EITHER, "[{}", 400),
        (EITHER, "null", 400),
        (BATCH, "[" * 100_000, 400),
        ("text/plain", json.dumps(EVENT), 415),
        (SINGLE, json.dumps(EVENT | {"data": {"text": "x" * (1 << 20)}}), 413),
        (BATCH, "[" + " " * EVENTS_BYTES.number + "]", 413),
    ],
)
def test_what_is_no_event_is_refused_whole(
    client: Client, stores: Stores, media_type: str, content: str, code: int
) -> None:
    """Another media type, broken JSON and too large a body have codes of their own; nothing is in the log."""
    answer = client.post(V1, content=content.encode(), headers={"content-type": media_type})
    assert answer.status_code == code
    assert answer.headers["content-type"] == "application/problem+json"
    assert not logged(stores)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "identity, gzip"])
@pytest.mark.parametrize(("path", "code"), [(V1, 204), (V3, 202)])
def test_a_gzip_body_is_read(client: Client, stores: Stores, path: str, code: int, coding: str) -> None:
    """However large, of one member or of several, and with a byte order mark: the events are those in it."""
    text = BYTE_ORDER_MARK + json.dumps([EVENT | {"data": {"text": "x" * 900_000}}] * 3).encode()
    content = gzip.compress(text[:1_000_000]) + gzip.compress(b"") + gzip.compress(text[1_000_000:])
    answer = client.post(path, content=content, headers={"content-type": BATCH, "content-encoding": coding})
    assert answer.status_code == code, answer.text
    assert len(logged(stores)) == 3


PACKED = gzip.compress(json.dumps(EVENT).encode(), mtime=0)


@pytest.mark.parametrize(
    ("coding", "content", "code"),
    [
        ("gzip", json.dumps(EVENT).encode(), 400),
        ("gzip", b"", 400),
        ("gzip", PACKED[:-1], 400),
        ("gzip", PACKED[:12], 400),
        ("gzip", PACKED + b"more", 400),
        ("gzip", PACKED[:-8] + bytes(8), 400),
        ("gzip", lambda: gzip.compress(b" " * EVENTS_BYTES.number + b"{}"), 413),
        ("gzip", lambda: gzip.compress(bytes(1 << 28)), 413),
        ("br", PACKED, 415),
        ("gzip, gzip", gzip.compress(PACKED, mtime=0), 415),
        ("", PACKED, 400),
    ],
)
def test_a_compressed_body_is_bounded_and_is_what_it_says(
    client: Client, stores: Stores, coding: str, content: bytes | Callable[[], bytes], code: int
) -> None:
    """Broken gzip is 400, what unpacks to too much 413, another coding 415 with the one that is read."""
    body = content() if callable(content) else content
    for path in (V1, f"{V1[:-6]}customers"):
        headers = {"content-type": EITHER, "content-encoding": coding}
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == code, answer.text
        assert answer.headers.get("accept-encoding") == ("gzip" if code == 415 else None)
    assert not logged(stores)


def test_other_bodies_may_be_compressed_too(client: Client) -> None:
    """A customer is made of what the body unpacks to."""
    headers = {"content-type": EITHER, "content-encoding": "gzip"}
    made = client.post("/api/v1/customers", content=gzip.compress(b'{"name": "Acme"}'), headers=headers)
    assert (made.status_code, made.json()["name"]) == (201, "Acme")


def test_a_byte_order_mark_is_taken_off_the_beginning_and_nowhere_else(client: Client, stores: Stores) -> None:
    """A body may begin with one."""
    line = json.dumps(EVENT).encode()
    for body, code in (
        (BYTE_ORDER_MARK + line, 204),
        (BYTE_ORDER_MARK + b"[" + line + b"]", 204),
        (BYTE_ORDER_MARK * 2 + line, 400),
        (b"[" + BYTE_ORDER_MARK + line + b"]", 400),
    ):
        assert client.post(V1, content=body, headers={"content-type": EITHER}).status_code == code
    assert len(logged(stores)) == 2


def test_each_bad_event_is_named_and_none_is_taken(client: Client, stores: Stores) -> None:
    """The answer has the index and the field of every bad event, and never what it carries."""
    bad = [EVENT, EVENT | {"id": ""}, EVENT | {"data": [1]}, {"secret": 1}]
    v1 = client.post(V1, json=bad).json()
    found = [(item["attributes"]["index"], item["field"]) for item in v1["extensions"]["validationErrors"]]
    assert found == [(1, "[1].id"), (2, "[2].data"), (3, "[3].specversion")]
    v3 = client.post(V3, json=bad).json()
    assert [(item["index"], item["field"]) for item in v3["invalid_parameters"]] == found
    assert "secret" not in str(v1) + str(v3)
    assert not logged(stores)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary()
    | st.text().map(str.encode)
    | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_any_bytes_are_answered(body: bytes) -> None:
    """Whatever is sent is read or refused, never a failure of the server."""
    with suppress(Problem):
        assert all(b"\n" not in line for line in read_events(body, EITHER))


def test_without_redis_it_is_unavailable_and_says_when_to_retry(stores: Stores) -> None:
    """503 with Retry-After, for events and for the gate; what needs PostgreSQL only goes on."""
    with TestClient(create_app(ServerStores("redis://127.0.0.1:1", stores.postgres_dsn, partitions=2))) as client:
        for answer in (
            client.post(V1, json=EVENT),
            client.post("/api/v3/openmeter/entitlement-access/query", json={"customer": {"keys": ["acme"]}}),
            client.get("/api/v1/customers/acme/entitlements/calls/value"),
        ):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
        assert client.get("/readyz").status_code == 503
        assert client.post("/api/v1/customers", json={"key": "acme", "name": "Acme"}).status_code == 201


def test_it_ends_on_sigterm(stores: Stores) -> None:
    """The process answers what came, and ends with code 0."""
    with api_process(stores) as service:
        assert service.get("/readyz")["status"] == "ok"
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: service.process.poll() is not None, "the end")
        assert service.process.returncode == 0
    assert query(stores, "select count(*) from pg_stat_activity where application_name = 'tollway-api'") == [(0,)]
