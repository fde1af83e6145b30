"""API keys open what their role may do, within a second of being made and no longer than one after being revoked."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx
import msgspec
import psycopg
import pytest
import redis
from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient
from openmeter import Client as OpenMeter
from openmeter.aio import Client as AsyncOpenMeter

from sinks.redis.keys import API_KEYS
from tests.api.conftest import Client
from tests.api.service import NO_TLS, Service, api_process
from tests.conftest import Stores
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, wait_for
from tollway.api.server.app import create_app
from tollway.api.server.docs import document
from tollway.api.server.keys import KeyRing, NoSuchKey, Role, create_key, list_keys, read_copy, revoke_key
from tollway.api.server.roles import OPEN, may
from tollway.api.server.stores import ServerStores

EVENT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "test", "type": "call", "subject": "acme"}
V1, V3 = "/api/v1/events", "/api/v3/openmeter/events"
QUERY = "/api/v3/openmeter/entitlement-access/query"
VISIBLE_SECONDS = 1.0


@contextmanager
def record(stores: Stores) -> Iterator[tuple[psycopg.Connection[Any], redis.Redis]]:
    """What the command line makes and revokes keys with."""
    with (
        psycopg.connect(stores.postgres_dsn, autocommit=True) as connection,
        redis.Redis.from_url(stores.redis_url) as client,
    ):
        yield connection, client


def made(stores: Stores, role: Role) -> str:
    """A new key."""
    with record(stores) as (connection, client):
        return create_key(connection, client, role, f"for {role}")[1]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def tollway(stores: Stores, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command on these stores."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWAY_")}
    variables = {
        "TOLLWAY_HOME": str(stores.settings.home),
        "TOLLWAY_REDIS_URL": stores.redis_url,
        "TOLLWAY_POSTGRES_DSN": stores.postgres_dsn,
    }
    return subprocess.run(
        [sys.executable, "-m", "tollway", *arguments],
        env=kept | variables | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.fixture
def guarded(stores: Stores) -> Iterator[Client]:
    """The application in this process, asking for keys."""
    made(stores, Role.ADMIN)
    with TestClient(
        create_app(ServerStores(stores.redis_url, stores.postgres_dsn, partitions=2, with_keys=True))
    ) as running:
        yield running


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_make_its_requests_and_no_others(guarded: Client, stores: Stores, role: Role) -> None:
    """Every operation of the API, by its description: allowed ones get to their handler, others get 403."""
    key = made(stores, role)
    wait_for(lambda: guarded.get("/metrics", headers=bearer(key)).status_code != 401, "the key")
    handlers = [
        handler
        for route in guarded.app.routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler) and handler.tags
    ]
    assert len(handlers) > 50
    allowed = set()
    for handler in handlers:
        for method, path in ((m, p) for m in handler.http_methods for p in handler.paths if m != "OPTIONS"):
            asked = re.sub(r"\{[^}]*\}", "nobody", path)
            code = guarded.request(method, asked, headers=bearer(key)).status_code
            assert code != 401
            assert (code == 403) is not (asked in OPEN or may(role, method, asked)), (method, path)
            if code != 403:
                allowed.add((method, asked))
    gate_questions = {
        ("POST", QUERY),
        ("GET", "/api/v1/customers/nobody/access"),
        ("GET", "/api/v1/customers/nobody/entitlements/nobody/value"),
    }
    probes = {("GET", "/healthz"), ("GET", "/readyz")}
    match role:
        case Role.INGEST:
            assert allowed == {("POST", V1), ("POST", V3)} | gate_questions | probes
        case Role.READ:
            assert gate_questions | probes < allowed
            assert {path for method, path in allowed if method != "GET"} == {QUERY}
            assert ("GET", "/metrics") in allowed
        case Role.ADMIN:
            assert len(allowed) == sum(len(set(h.http_methods) - {"OPTIONS"}) * len(h.paths) for h in handlers)


def test_without_a_key_only_probes_and_the_description_are_answered(guarded: Client) -> None:
    """401 with a challenge, as problem+json in each API's shape, for paths that exist and for those that do not."""
    for path in sorted(OPEN):
        assert guarded.get(path).status_code in (200, 503)
    for path in ("/metrics", "/api/v1/customers", "/api/v3/openmeter/customers", "/api/v1/nothing", "/nothing", "/"):
        answer = guarded.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="tollway"'
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 401
        assert ("extensions" in answer.json()) is not path.startswith("/api/v3")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key[:-1] + ("a" if key[-1] != "a" else "b"),
        lambda key: key.upper(),
        lambda key: key.replace("tw_", "xx_"),
        lambda key: "_".join(key.split("_")[:2]),
        lambda key: key.split("_")[2],
        lambda key: "tw__",
        lambda key: "tw_nobody0_" + key.split("_")[2],
        lambda key: key + "\u00e9",
        lambda key: key * 1000,
    ],
)
def test_a_key_that_is_not_exactly_right_opens_nothing(guarded: Client, stores: Stores, spoil: Any) -> None:
    """Nor does the right one under another scheme, or twice; the answer does not repeat it."""
    key = made(stores, Role.ADMIN)
    wait_for(lambda: guarded.get("/metrics", headers=bearer(key)).status_code == 200, "the key")
    wrong = f"Bearer {spoil(key)}".encode("latin-1")
    for headers in (
        [("Authorization", wrong)],
        [("Authorization", f"Basic {key}".encode())],
        [("Authorization", key.encode())],
        [("Authorization", f"Bearer {key}".encode())] * 2,
    ):
        answer = guarded.get("/metrics", headers=cast(Any, headers))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert key.split("_")[2] not in answer.text + str(answer.headers)
    assert guarded.get("/metrics", headers={"authorization": f"bearer  {key} "}).status_code == 200


@pytest.mark.timed
def test_a_key_opens_and_stops_opening_within_a_second_in_every_worker(stores: Stores) -> None:
    """Two workers; each new connection may reach either of them."""
    admin = made(stores, Role.ADMIN)
    with api_process(stores, TOLLWAY_API_WORKERS="2", TOLLWAY_API_KEYS="required") as service:

        def codes(key: str) -> set[int]:
            with httpx.Client(headers=bearer(key) | {"Connection": "close"}, verify=NO_TLS) as client:
                return {client.get(f"{service.url}/metrics").status_code for _ in range(12)}

        wait_for(lambda: codes(admin) == {200}, "both workers")
        with record(stores) as (connection, client):
            shown, whole = create_key(connection, client, Role.READ, "")
            wait_for(lambda: codes(whole) == {200}, "the key to open", VISIBLE_SECONDS)
            revoke_key(connection, client, shown.id)
            wait_for(lambda: codes(whole) == {401}, "the key to stop opening", VISIBLE_SECONDS)
            assert codes(admin) == {200}


def test_the_gate_answers_while_postgres_is_away_also_after_a_restart(stores: Stores, shop: Client) -> None:
    """The copy in Redis is enough for keys; what it lost is put back from the record."""
    key = made(stores, Role.INGEST)
    away = "postgresql://nobody@127.0.0.1:1/nothing"
    with TestClient(create_app(ServerStores(stores.redis_url, away, partitions=2, with_keys=True))) as client:
        asked = client.post(QUERY, json={"customer": {"keys": ["acme"]}}, headers=bearer(key))
        assert asked.status_code == 200
        assert asked.json()["data"][0]["features"]["calls"] == {"has_access": True}
        assert client.post(V1, json=EVENT, headers=bearer(key)).status_code == 204
        assert client.post(V1, json=EVENT).status_code == 401

    with redis.Redis.from_url(stores.redis_url) as lost:
        lost.delete(API_KEYS)
    with TestClient(create_app(ServerStores(stores.redis_url, away, partitions=2, with_keys=True))) as client:
        unknown = client.post(V1, json=EVENT, headers=bearer(key))
        assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "1")

    opened = TestClient(create_app(ServerStores(stores.redis_url, stores.postgres_dsn, partitions=2, with_keys=True)))
    with opened as client, redis.Redis.from_url(stores.redis_url) as mended:
        wait_for(lambda: read_copy(mended), "the copy")
        assert client.post(V1, json=EVENT, headers=bearer(key)).status_code == 204


def test_the_record_holds_no_secret_and_a_ring_reads_it(stores: Stores) -> None:
    """Neither store has the secret part; ids are listed, revoking twice keeps the first instant."""
    with record(stores) as (connection, client):
        shown, whole = create_key(connection, client, Role.READ, "dashboards")
        prefix, key_id, secret = whole.split("_")
        assert (prefix, key_id) == ("tw", shown.id)
        assert len(secret) * 5 >= 256
        rows = connection.execute("select api_keys::text from api_keys").fetchall()
        assert secret not in str(rows)
        assert secret.encode() not in (cast(bytes, client.get(API_KEYS)) or b"")
        assert [key.name for key in list_keys(connection)] == ["dashboards"]

        ring = KeyRing(lambda: psycopg.connect(stores.postgres_dsn, autocommit=True), client)
        assert not ring.is_loaded
        assert ring.role_of(whole) is None
        ring.refresh()
        assert ring.role_of(whole) is Role.READ
        first = revoke_key(connection, client, key_id)
        assert revoke_key(connection, client, f"tw_{key_id}") == first
        ring.refresh()
        assert ring.role_of(whole) is None
        ring.close()
        with pytest.raises(NoSuchKey) as raised:
            revoke_key(connection, client, whole)
        assert secret not in str(raised.value)


def test_keys_are_made_listed_and_revoked_on_the_command_line(stores: Stores) -> None:
    """The key is on standard output alone, once; lists have no secret; what is unknown is refused with code 1."""
    first = tollway(stores, "key", "create", "--role", "ingest", "--name", "gateway")
    assert first.returncode == 0
    assert re.fullmatch(r"tw_[a-z2-7]+_[a-z2-7]+\n", first.stdout)
    secret = first.stdout.strip().split("_")[2]
    assert secret not in first.stderr
    second = msgspec.json.decode(tollway(stores, "key", "create", "--role", "admin", "--json").stdout)
    assert second["key"].startswith(f"tw_{second['id']}_")
    listed = tollway(stores, "key", "list", "--json")
    assert [key["role"] for key in msgspec.json.decode(listed.stdout)] == ["ingest", "admin"]
    revoked = tollway(stores, "key", "revoke", second["id"], "--json")
    assert msgspec.json.decode(revoked.stdout)["revoked_at"]
    shown = tollway(stores, "key", "list").stdout
    assert "gateway" in shown
    assert secret not in listed.stdout + shown
    unknown = tollway(stores, "key", "revoke", first.stdout.strip())
    assert unknown.returncode == 1
    assert "hint:" in unknown.stderr
    assert secret not in unknown.stderr
    assert tollway(stores, "key", "create", "--role", "owner").returncode == 2
    assert tollway(stores, "key", "create", "--role", "read", "--name", "x" * 101).returncode == 2


def test_an_address_that_others_reach_needs_a_key_and_loopback_only_warns(stores: Stores) -> None:
    """Without any key the start is refused, and says what to do; with one, the API asks for it."""
    open_to_all = {"TOLLWAY_API_HOST": "0.0.0.0", "TOLLWAY_API_PORT": str(free_port())}
    refused = tollway(stores, "api", **open_to_all)
    assert refused.returncode == 2
    assert "`tollway key create" in refused.stderr
    assert tollway(stores, "api", TOLLWAY_API_KEYS="required", TOLLWAY_API_PORT="0").returncode == 2
    assert tollway(stores, "api", TOLLWAY_API_KEYS="off").returncode == 2

    with api_process(stores) as service:
        assert service.call("GET", "/api/v1/customers").status_code == 200
        assert "WARNING: the API asks for no key" in said(stores)
        foreign = {"Origin": "https://example.com", "Content-Type": "application/json"}
        assert httpx.post(f"{service.url}{V1}", json=EVENT, headers=foreign).status_code == 403
        local = {"Origin": "http://localhost:3000"}
        assert httpx.get(f"{service.url}/api/v1/customers", headers=local).status_code == 200

    key = made(stores, Role.READ)
    with api_process(stores, TOLLWAY_API_HOST="0.0.0.0") as service:
        assert service.call("GET", "/api/v1/customers").status_code == 401
        assert httpx.get(f"{service.url}/api/v1/customers", headers=bearer(key)).status_code == 200


def said(stores: Stores) -> str:
    """What the API's process said."""
    return (stores.settings.home / "api.log").read_text()


def test_no_secret_is_in_a_log_or_an_answer(stores: Stores) -> None:
    """Whatever is done with a key, right and wrong: the process, at its most talkative, never writes it down."""
    key, other = made(stores, Role.ADMIN), made(stores, Role.INGEST)
    secrets = [whole.split("_")[2] for whole in (key, other)]
    password = psycopg.conninfo.conninfo_to_dict(stores.postgres_dsn).get("password")
    with api_process(stores, TOLLWAY_API_KEYS="required", TOLLWAY_LOG_LEVEL="debug") as service:
        answers = []
        for method, path, headers in (
            ("GET", "/api/v1/customers", bearer(key)),
            ("GET", "/api/v1/customers", bearer(other)),
            ("GET", "/api/v1/customers", bearer(key[:-1] + "0")),
            ("GET", "/api/v1/customers", {"Authorization": key}),
            ("POST", V1, bearer(key)),
            ("POST", V1, bearer(key) | {"Content-Type": "application/json"}),
            ("POST", "/api/v1/plans", bearer(key)),
            ("PUT", "/api/v1/customers/nobody", bearer(key)),
            ("GET", "/nothing", bearer(key)),
            ("GET", "/metrics", bearer(key)),
        ):
            answer = httpx.request(
                method, f"{service.url}{path}", headers=headers, timeout=PATIENCE_SECONDS, verify=NO_TLS
            )
            answers.append(answer.text + str(answer.headers))
        log = said(stores)
    for secret in [*secrets, *([str(password)] if password else [])]:
        assert secret not in log
        assert all(secret not in answer for answer in answers)


def test_openmeters_clients_send_a_key_as_we_read_it(stores: Stores) -> None:
    """The sync client and the async one, with `token`."""
    key = made(stores, Role.ADMIN)
    with api_process(stores, TOLLWAY_API_KEYS="required") as service:
        with OpenMeter(endpoint=service.url, token=key) as client:
            assert client.meters.list() == []
        with (
            OpenMeter(endpoint=service.url, token=key + "x") as client,
            pytest.raises(Exception, match=r"(?i)401|unauth"),
        ):
            client.meters.list()
        asyncio.run(_lists(service, key))


async def _lists(service: Service, key: str) -> None:
    async with AsyncOpenMeter(endpoint=service.url, token=key) as client:
        assert await client.meters.list() == []


def test_the_description_says_what_needs_a_key(client: Client) -> None:
    """A scheme, that it is asked for everywhere but by probes, and 401 and 403 among the answers."""
    found = document(client.app, client.app.openapi_schema.to_schema())
    (scheme,) = found["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert {"ApiKey": []} in found["security"]
    for path, item in found["paths"].items():
        for operation in item.values():
            if path in OPEN:
                assert operation["security"] == [{}]
            elif path.startswith("/api/"):
                assert "security" not in operation
                assert {"401", "403", "429", "503"} <= set(operation["responses"])
