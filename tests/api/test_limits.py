"""What is too large, too slow or too much is told so, is never dropped without a word, and holds up nobody else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from statistics import median
from threading import Event
from typing import Any, cast

import httpx
import psycopg
import pytest
import redis

from config.api import API_SETTINGS, ApiSettings, load_api_settings
from config.limits import BODY_BYTES, EVENTS_BYTES
from config.settings import SettingError
from sinks.redis.keys import stream_key
from tests.api.conftest import Client
from tests.api.service import NO_TLS, Service, api_process
from tests.conftest import Stores
from tests.plane import Plane
from tests.waiting import PATIENCE_SECONDS, let_pass, read_until, wait_for
from tollway.api.server.pressure import SLOW_SECONDS as SLOW_BODY_SECONDS
from tollway.api.server.stores import ANSWER_SECONDS, ServerStores
from tollway.control import CONTROL_LOCK, CustomerDraft

V1 = "/api/v1/events"
GATE = "/api/v1/customers/acme/access"
SLOW_SECONDS = 2
HELD_UP = "select count(*) > 0 from pg_locks where not granted"
"""Somebody waits for what another has locked."""
MIB = 1024 * 1024


def event(event_id: str, size: int = 0) -> dict[str, Any]:
    """An event of at least a size."""
    found: dict[str, Any] = {"specversion": "1.0", "id": event_id, "source": "test", "type": "call", "subject": "acme"}
    return found | {"data": {"text": "x" * size}}


def logged(stores: Stores) -> Counter[str]:
    """How often each event is in the log, by id."""
    found: Counter[str] = Counter()
    with redis.Redis.from_url(stores.redis_url) as client:
        for partition in range(stores.settings.partitions):
            for _, entry in cast(Any, client.xrange(stream_key(partition))):
                found.update(json.loads(line)["id"] for line in entry[b"e"].split(b"\n"))
    return found


def metric(text: str, name: str) -> float:
    """The sum of a metric over its labels."""
    values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, values))


class Wire:
    """A connection that sends what it is told to, and no more."""

    def __init__(self, service: Service) -> None:
        host, port = service.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.settimeout(PATIENCE_SECONDS)

    def send(self, data: bytes) -> None:
        """Send bytes; the other end may have hung up."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def status(self) -> int:
        """The status of the answer; 0: it was hung up on without one."""
        try:
            head = self._socket.recv(65_536)
        except ConnectionResetError:
            return 0
        return int(head.split(b" ")[1]) if head else 0

    def begin(self, size: int) -> None:
        """Begin to send events, of which so many bytes are announced."""
        head = (
            f"POST {V1} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
        )
        self.send(head.encode())

    def close(self) -> None:
        self._socket.close()


@contextmanager
def wires(service: Service, count: int) -> Iterator[list[Wire]]:
    """So many connections."""
    found = [Wire(service) for _ in range(count)]
    try:
        yield found
    finally:
        for wire in found:
            wire.close()


@pytest.mark.parametrize("path", [V1, "/api/v3/openmeter/events", "/api/v1/customers", "/api/v1/plans"])
def test_a_body_that_is_too_large_is_refused_announced_or_not(client: Client, path: str) -> None:
    """413 for every operation with a body, before it is read where its size is announced."""
    limit = (EVENTS_BYTES if path.endswith("events") else BODY_BYTES).number
    json_type = {"content-type": "application/json"}
    for content in (b" " * (limit + 1), (b" " * MIB for _ in range(limit // MIB + 1))):
        answer = client.post(path, content=content, headers=json_type)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.post(path, content=b" " * limit, headers=json_type).status_code == 400


@pytest.mark.timed
def test_a_slow_client_is_hung_up_on_and_holds_up_nobody(stores: Stores) -> None:
    """Headers, a body and a rest that never end: hung up on or 408 in time; meanwhile others are answered at once."""
    limits = {"TOLLWAY_API_TIMEOUT_SECONDS": str(SLOW_SECONDS), "TOLLWAY_API_REST_SECONDS": str(SLOW_SECONDS)}
    with api_process(stores, **limits) as service, wires(service, 203) as slow:
        started = time.monotonic()
        *many, silent, headers, body, resting = slow
        for wire in many:
            wire.begin(1000)
        headers.send(b"GET /healthz HTTP/1.1\r\nHo")
        body.begin(100)
        body.send(b"{")
        resting.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert resting.status() == 200
        took = []
        for _ in range(3):
            asked = time.monotonic()
            assert service.call("GET", "/healthz").status_code == 200
            took.append(time.monotonic() - asked)
        assert min(took) < 1, "not because others are slow"
        assert (silent.status(), headers.status(), resting.status()) == (0, 0, 0)
        assert body.status() == 408
        assert {wire.status() for wire in many} == {408}
        assert time.monotonic() - started < SLOW_SECONDS + 3
        with wires(service, 1) as (huge,):
            huge.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 200_000 + b"\r\n\r\n")
            assert huge.status() == 431


def test_a_connection_may_rest_for_longer_than_a_request_may_take(stores: Stores) -> None:
    """A client that connects and is long in asking, or asks again after long, is not hung up on."""
    asking = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with api_process(stores, TOLLWAY_API_TIMEOUT_SECONDS="1") as service, wires(service, 3) as (first, again, late):
        again.send(asking)
        assert again.status() == 200
        late.begin(100)
        assert late.status() == 408, "so a request's time has passed"
        for wire in (first, again):
            wire.send(asking)
            assert wire.status() == 200


@pytest.mark.timed
def test_a_ledger_that_does_not_answer_is_given_up_on_while_the_gate_and_ingest_go_on(stores: Stores) -> None:
    """Reads and changes that wait for a lock get 503 in time, also hundreds of them; what needs Redis only is quick."""
    with (
        api_process(stores, TOLLWAY_API_TIMEOUT_SECONDS=str(SLOW_SECONDS)) as service,
        psycopg.connect(stores.postgres_dsn) as locking,
        ThreadPoolExecutor(60) as pool,
    ):
        service.post("/api/v1/customers", {"key": "acme", "name": "Acme"})
        locking.execute("lock table customers, api_plans, meters, features in access exclusive mode")
        locking.execute("select pg_advisory_lock(%s)", (CONTROL_LOCK,))
        started = time.monotonic()
        waiting = [pool.submit(service.call, "GET", "/api/v1/customers") for _ in range(40)]
        waiting += [
            pool.submit(service.call, "POST", "/api/v1/meters", {"slug": f"m{number}", "eventType": "e"})
            for number in range(20)
        ]
        wait_for(lambda: locking.execute(HELD_UP).fetchone() == (True,), "some to wait for the locks")
        took = []
        for number in range(5):
            asked = time.monotonic()
            assert service.call("GET", GATE).status_code == 200
            assert service.call("POST", V1, event(str(number))).status_code == 204
            took.append(time.monotonic() - asked)
        assert median(took) < 1
        answers = [future.result() for future in waiting]
        assert time.monotonic() - started < 2 * SLOW_SECONDS + 5
        assert {answer.status_code for answer in answers} <= {400, 503}
        assert Counter(answer.status_code for answer in answers)[503] >= 40
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
        locking.rollback()
        locking.execute("select pg_advisory_unlock_all()")
        locking.commit()
        wait_for(lambda: service.call("GET", "/api/v1/customers").status_code == 200, "the ledger")


def test_requests_under_way_are_finished_when_it_is_told_to_end(stores: Stores) -> None:
    """SIGTERM while changes wait for a lock and events arrive: both are done and answered, then it ends with code 0."""
    content = json.dumps(event("late")).encode()
    with (
        api_process(stores) as service,
        psycopg.connect(stores.postgres_dsn) as locking,
        ThreadPoolExecutor(2) as pool,
        wires(service, 1) as (arriving,),
    ):
        locking.execute("select pg_advisory_lock(%s)", (CONTROL_LOCK,))
        changing = pool.submit(service.call, "POST", "/api/v1/customers", {"key": "acme", "name": "Acme"})
        arriving.begin(len(content))
        arriving.send(content[:-1])
        wait_for(lambda: in_flight(service) == len(content) - 1, "the events to be under way")
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not answers(service), "it to take no more connections")
        assert service.process.poll() is None
        arriving.send(content[-1:])
        locking.execute("select pg_advisory_unlock(%s)", (CONTROL_LOCK,))
        assert changing.result().status_code == 201
        assert arriving.status() == 204
        assert service.process.wait(PATIENCE_SECONDS) == 0
    assert logged(stores) == {"late": 1}


def test_what_comes_while_too_much_has_arrived_gets_429_and_a_place_later(stores: Stores) -> None:
    """One that waits for the log, and one that is arriving, fill the limit; others are refused until that is done."""
    content = json.dumps(event("1", 500)).encode()
    limits = {
        "TOLLWAY_API_INGEST_BYTES_MAX": "1024",
        "TOLLWAY_REDIS_URL": f"{stores.redis_url}?socket_timeout={PATIENCE_SECONDS}",
    }
    with api_process(stores, **limits) as service, wires(service, 2) as (first, second):
        with writes_hang(stores):
            first.begin(len(content))
            first.send(content)
            second.begin(10_000)
            second.send(b"x" * 350)
            wait_for(lambda: in_flight(service) == len(content) + 350, "two requests")
            refused = service.call("POST", V1, event("3", 400))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert service.call("GET", GATE).status_code == 404
            # One that announces nothing is refused too, as soon as too much of it has come.
            chunks = (b"x" * 400 for _ in range(3))
            unannounced = httpx.post(
                f"{service.url}{V1}",
                content=chunks,
                headers={"content-type": "application/json"},
                timeout=PATIENCE_SECONDS,
                verify=NO_TLS,
            )
            assert unannounced.status_code == 429
        assert first.status() == 204
        assert service.call("POST", V1, event("3", 400)).status_code == 204
        second.close()
        wait_for(lambda: in_flight(service) == 0, "the end of the second request")
        # One that is alone is taken, whatever its size.
        assert service.call("POST", V1, event("4", 5000)).status_code == 204
        assert logged(stores) == {"1": 1, "3": 1, "4": 1}
        text = service.call("GET", "/metrics").text
        assert metric(text, "tollway_api_events_total") == 3
        # The second one gave way where the machine was so busy that it was slow.
        assert metric(text, 'tollway_api_ingest_seconds_count{outcome="pushed_back"}') in (2, 3)


def test_who_announces_much_and_sends_nothing_holds_up_nobody(stores: Stores) -> None:
    """Connections that announce more than there is room for, and more of them than may be in hand: others are taken."""
    limits = {"TOLLWAY_API_INGEST_REQUESTS_MAX": "5", "TOLLWAY_API_INGEST_BYTES_MAX": str(20 * MIB)}
    with api_process(stores, **limits) as service, wires(service, 20) as idle:
        for wire in idle:
            wire.begin(9 * MIB)
            wire.send(b"[")
        wait_for(lambda: in_flight(service) == len(idle), "the connections")
        for number in range(10):
            assert service.call("POST", V1, event(str(number), MIB // 2)).status_code == 204


def test_who_sends_slowly_gives_way_when_bytes_are_short(stores: Stores) -> None:
    """What is nearly there and then pauses holds its bytes only as long as nobody else needs them."""
    limits = {"TOLLWAY_API_INGEST_BYTES_MAX": str(4 * MIB)}
    with api_process(stores, **limits) as service, wires(service, 2) as (first, second):
        sent_at = time.monotonic()
        # One after the other: of those that are slow, the one that came first gives way first.
        for count, wire in enumerate((first, second), start=1):
            wire.begin(2 * MIB)
            wire.send(b"x" * (2 * MIB - 10))
            wait_for(lambda: in_flight(service) == count * (2 * MIB - 10), "the bytes")  # noqa: B023
        at_once = service.call("POST", V1, event("1", MIB // 2))
        if time.monotonic() - sent_at < SLOW_BODY_SECONDS:
            assert at_once.status_code == 429, "nobody was slow yet"
        wait_for(lambda: service.call("POST", V1, event("1", MIB // 2)).status_code == 204, "room")
        assert first.status() == 429
        wait_for(lambda: in_flight(service) == 2 * MIB - 10, "the other one to be all that is in hand")
        second.send(b"x" * 10)
        assert second.status() == 413, "the other one did not have to give way"


@pytest.mark.timed
def test_readers_of_long_lists_do_not_hold_up_the_gate(stores: Stores) -> None:
    """Ten at once read a thousand customers each, again and again: the gate answers as if there were a few."""
    with (
        api_process(stores) as service,
        Plane(stores.postgres_dsn, stores.redis_url) as plane,
        ThreadPoolExecutor(10) as pool,
    ):
        plane.bulk_customers([CustomerDraft(key="acme"), *(CustomerDraft(key=f"c{number}") for number in range(1000))])
        wait_for(lambda: service.call("GET", GATE).status_code == 200, "the gate")
        ended = Event()

        def read() -> None:
            while not ended.is_set():
                assert service.call("GET", "/api/v1/customers", pageSize="1000").status_code in (200, 503)

        reading = [pool.submit(read) for _ in range(10)]
        took = []
        try:
            for _ in range(40):
                asked = time.monotonic()
                assert service.call("GET", GATE).status_code == 200
                took.append(time.monotonic() - asked)
        finally:
            ended.set()
        for reader in reading:
            reader.result()
        assert median(took) < 0.1


def answers(service: Service) -> bool:
    """Whether it takes a connection."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.socket() as asking:
        return asking.connect_ex((host, int(port))) == 0


def in_flight(service: Service) -> float:
    return metric(service.call("GET", "/metrics").text, "tollway_api_ingest_in_flight_bytes")


def test_under_overload_every_event_is_either_logged_or_refused(stores: Stores) -> None:
    """Forty senders at once against room for three: they send again until all is taken, and nothing is lost."""
    senders, each = 40, 5
    refused: Counter[int] = Counter()
    with (
        api_process(stores, TOLLWAY_API_INGEST_REQUESTS_MAX="3") as service,
        httpx.Client(
            base_url=service.url, timeout=PATIENCE_SECONDS, limits=httpx.Limits(max_connections=senders)
        ) as client,
    ):

        def send(sender: int) -> None:
            for number in range(each):
                batch = [event(f"{sender}-{number}-{part}", 2000) for part in range(50)]
                while (answer := client.post(V1, json=batch)).status_code != 204:
                    assert answer.status_code == 429, answer.text
                    assert answer.headers["retry-after"] == "1"
                    refused[answer.status_code] += 1
                    let_pass(0.02, "a little less than it asks for")

        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(send, range(senders)))
        text = service.call("GET", "/metrics").text
    assert refused[429] > 0
    found = logged(stores)
    assert set(found.values()) == {1}
    assert len(found) == senders * each * 50
    assert metric(text, 'tollway_api_events_total{outcome="accepted"}') == len(found)
    assert metric(text, 'tollway_api_ingest_seconds_count{outcome="pushed_back"}') == refused[429]
    assert metric(text, "tollway_api_ingest_in_flight_bytes") == 0


@contextmanager
def memory_limit(stores: Stores, room: int) -> Iterator[Callable[[int], None]]:
    """Give the server so much memory beyond what it uses; the function gives it another limit."""
    with redis.Redis.from_url(stores.redis_url) as client:
        used = int(cast(Any, client.info("memory"))["used_memory"])

        def limit(more: int) -> None:
            client.config_set("maxmemory", used + more)

        limit(room)
        try:
            yield limit
        finally:
            client.config_set("maxmemory", 0)


def test_when_valkey_has_no_memory_left_ingest_says_so_and_loses_nothing(stores: Stores) -> None:
    """A real server at its `maxmemory`: 503 with Retry-After; what was accepted is there, and the gate goes on."""
    accepted = 0
    with api_process(stores, TOLLWAY_API_LOG_MEMORY_PERCENT="100") as service:
        service.post("/api/v1/customers", {"key": "acme", "name": "Acme"})
        with memory_limit(stores, 4 * MIB) as limit:
            for number in range(200):
                answer = service.call("POST", V1, [event(f"{number}-{part}", 10_000) for part in range(10)])
                if answer.status_code != 204:
                    break
                accepted += 10
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert accepted
            assert service.call("GET", GATE).status_code == 200
            found = logged(stores)
            assert {name for name in found if int(name.split("-")[0]) < accepted // 10} == {
                f"{number}-{part}" for number in range(accepted // 10) for part in range(10)
            }
            limit(64 * MIB)
            wait_for(lambda: service.call("POST", V1, event("later")).status_code == 204, "it to see the memory")
        assert logged(stores)["later"] == 1


def test_ingest_stops_before_the_memory_is_gone_that_the_dataflow_needs(stores: Stores) -> None:
    """At the percentage of the settings: 503, while the server still takes what others write."""
    with api_process(stores, TOLLWAY_API_LOG_MEMORY_PERCENT="50") as service, memory_limit(stores, 200 * MIB) as limit:
        assert service.call("POST", V1, event("1")).status_code == 204
        limit(1 * MIB)
        refused = read_until(lambda: service.call("POST", V1, event("1")), lambda it: it.status_code != 204, str)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "the event log is full" in refused.text
        with redis.Redis.from_url(stores.redis_url) as client:
            assert client.set("tollway:test", "taken")
    assert logged(stores).keys() == {"1"}


@contextmanager
def writes_hang(stores: Stores) -> Iterator[None]:
    """The server answers what reads, and lets what writes wait."""
    with redis.Redis.from_url(stores.redis_url) as client:
        client.execute_command("CLIENT PAUSE 60000 WRITE")
        try:
            yield
        finally:
            client.execute_command("CLIENT UNPAUSE")


@contextmanager
def stopped(stores: Stores) -> Iterator[None]:
    """The server takes connections, and answers nothing."""
    with redis.Redis.from_url(stores.redis_url) as client:
        pid = int(cast(Any, client.info("server"))["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("hang", "gate_code", "options", "answer_seconds"),
    [
        (writes_hang, 404, "", ANSWER_SECONDS),
        (stopped, 503, "?socket_timeout=1&socket_connect_timeout=1", 1),
    ],
    ids=["writes_hang", "stopped"],
)
@pytest.mark.timed
def test_a_valkey_that_hangs_is_given_up_on(
    stores: Stores,
    hang: Callable[[Stores], AbstractContextManager[None]],
    gate_code: int,
    options: str,
    answer_seconds: float,
) -> None:
    """503 with Retry-After within the time that a store has to answer, for many at once; then all goes on."""
    with (
        api_process(stores, TOLLWAY_REDIS_URL=stores.redis_url + options) as service,
        ThreadPoolExecutor(60) as pool,
    ):
        assert service.call("POST", V1, event("1")).status_code == 204
        with hang(stores):
            started = time.monotonic()
            answers = list(pool.map(lambda number: service.call("POST", V1, event(f"2-{number}")), range(60)))
            assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(503, "1")}
            assert time.monotonic() - started < 2 * answer_seconds + ANSWER_SECONDS
            assert service.call("GET", GATE).status_code == gate_code
            assert service.call("GET", "/api/v1/customers").status_code == 200
        wait_for(lambda: service.call("POST", V1, event("3")).status_code == 204, "it to find that all goes on")


def test_a_store_has_so_long_to_answer_where_its_address_does_not_say(stores: Stores) -> None:
    """The connections of requests and those of the gate alike."""
    for options, seconds in (("", ANSWER_SECONDS), ("?socket_timeout=1", 1)):
        opened = ServerStores(stores.redis_url + options, stores.postgres_dsn, partitions=2)
        for client in (opened.redis, opened._async):
            assert cast(Any, client).connection_pool.connection_kwargs["socket_timeout"] == seconds


def test_every_answer_has_the_headers_that_make_browsers_careful(client: Client) -> None:
    """Answers, failures, and paths that are not there; the page of the description still has its style."""
    for path in ("/healthz", "/metrics", "/api/v1/customers", "/api/v1/nothing", "/nothing", "/openapi.json", "/docs"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == ("no-cache" if path == "/docs" else "no-store")
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    page = client.get("/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.headers["content-security-policy"]
    assert not re.search(r"<script|\sstyle=|\son\w+=|<link|<img", page.text)


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/v1/nothing", "/healthz/nothing"])
def test_what_is_not_there_is_a_problem_too(client: Client, path: str) -> None:
    """404 as problem+json, not a page."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_metrics_are_the_apis_and_of_all_workers(stores: Stores, workers: str) -> None:
    """The engine's are not among them; whichever worker is asked, it has counted what all did."""
    with api_process(stores, TOLLWAY_API_WORKERS=workers) as service:
        for number in range(20):
            service.post(V1, event(str(number)), 204)
        for _ in range(4):
            text = service.call("GET", "/metrics").text
            assert metric(text, "tollway_api_events_total") == 20
            assert metric(text, "tollway_api_ingest_bytes_total") > 20 * 90
            named = f'tollway_api_requests_total{{method="POST",route="{V1}",status="204"}}'
            assert metric(text, re.escape(named).replace(r"\{", "{").replace(r"\}", "}")) == 20 or named in text
            assert service.call("MADEUP", "/api/v1/customers").status_code == 405
            assert "MADEUP" not in service.call("GET", "/metrics").text
            names = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
            assert names
            assert {name for name in names if not name.startswith("tollway_api_")} == set()


@pytest.mark.parametrize("workers", ["1", "3"])
def test_what_was_answered_is_seen_by_every_worker(stores: Stores, workers: str) -> None:
    """Read your writes: on connections of their own, which may lead to any worker."""
    with api_process(stores, TOLLWAY_API_WORKERS=workers) as service:
        for number in range(10):
            key = f"customer_{number}"
            service.post("/api/v1/customers", {"key": key, "name": key})
            for _ in range(5):
                assert service.call("GET", f"/api/v1/customers/{key}").status_code == 200
                assert service.call("GET", f"/api/v1/customers/{key}/access").status_code == 200


@pytest.mark.parametrize("setting", API_SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_is_read_or_refused_by_name(setting: Any) -> None:
    """The example is taken; nonsense is refused, with the variable, what was expected and an example."""
    read = load_api_settings({setting.env: setting.example})
    assert str(getattr(read, setting.name)) == setting.example
    assert load_api_settings({}) == ApiSettings()
    bad = (
        ["", "a b"] if setting.minimum is None else ["", "x", "-1", "1.5", "\u0663", str(setting.maximum + 1), "9" * 30]
    )
    for text in bad:
        with pytest.raises(SettingError) as raised:
            load_api_settings({setting.env: text})
        for part in (setting.env, setting.expected, setting.example, "hint:"):
            assert part in str(raised.value)


def test_a_setting_that_is_not_there_is_refused_with_the_nearest() -> None:
    """A mistyped name stops the start."""
    with pytest.raises(SettingError, match="did you mean `TOLLWAY_API_PORT`"):
        load_api_settings({"TOLLWAY_API_PROT": "1"})
