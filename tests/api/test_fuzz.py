"""
Requests that are nearly right, by the thousand, against a running API: none of them is answered with 5xx.

`FUZZ_REQUESTS` and `FUZZ_SEED` in the environment make for a longer, or another, run.
"""

from __future__ import annotations

import http.client
import os
import random
from collections import Counter
from contextlib import closing

import msgspec
import psycopg
import pytest

from tests.api.conftest import Client, plan
from tests.api.fuzzing import Requests, Sent
from tests.api.service import Service
from tests.api.test_contract import known, service  # noqa: F401
from tests.fuzz.turns import say
from tollway.openmeter.problems import problem_of
from tollway.openmeter.wire import snake_name

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "4000"))
SEED = int(os.environ.get("FUZZ_SEED", "20260302"))


class Line:
    """A connection that is made again when the other end closed it."""

    def __init__(self, url: str) -> None:
        self._place = url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(self._place, timeout=60)

    def ask(self, request: Sent) -> tuple[int, str, bytes]:
        """The status, the media type and the body of the answer."""
        for attempt in (1, 2):
            try:
                headers = dict(request.headers) | {"Accept": "*/*"}
                body = request.body
                self._connection.request(request.method, request.target, body, headers)
                answer = self._connection.getresponse()
                return answer.status, answer.getheader("content-type", ""), answer.read()
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()
                self._connection = http.client.HTTPConnection(self._place, timeout=60)
                if attempt == 2:
                    raise
        raise AssertionError("one of the two attempts ends otherwise")

    def close(self) -> None:
        self._connection.close()


def test_no_request_is_answered_with_a_failure_of_the_server(
    service: Service,  # noqa: F811
    known: dict[str, list[str]],  # noqa: F811
) -> None:
    """Each is answered, refused as problem+json where it is, and the API and the engine go on."""
    requests = Requests(service.get("/openapi.json"), known)
    chance = random.Random(SEED)
    statuses: Counter[int] = Counter()
    failed: list[str] = []
    with closing(Line(service.url)) as line:
        for number in range(REQUESTS):
            request = requests.make(chance)
            if number % 5000 == 4999:
                say(f"requests: {number + 1}, {dict(statuses)}")
            try:
                status, media_type, body = line.ask(request)
            except UnicodeEncodeError:
                continue  # a client can't send that
            statuses[status] += 1
            if status >= 500 or (status >= 400 and media_type != "application/problem+json" and body):
                failed.append(f"{status} {media_type} {body[:200]!r}: {request}")
    say(f"\nrequests: {REQUESTS}, answers {dict(statuses)}")
    assert not failed, f"{len(failed)} of {REQUESTS}, seed {SEED}:\n" + "\n".join(failed[:40])
    assert statuses[400] > REQUESTS / 5
    assert sum(count for status, count in statuses.items() if status < 300) > REQUESTS / 20
    assert service.call("GET", "/readyz").status_code == 200


@pytest.mark.parametrize("seed", range(3))
def test_requests_are_the_same_again(seed: int) -> None:
    """A seed makes the same requests each time, so that a failure can be looked at."""
    description = {
        "components": {"schemas": {}},
        "paths": {"/api/v1/events": {"post": {"requestBody": {"content": {}}}}},
    }
    made = [Requests(description, {"customer": ["acme"]}).make(random.Random(seed)) for _ in range(2)]
    assert msgspec.to_builtins(made[0]) == msgspec.to_builtins(made[1])


FAR = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z", "9000-01-01T00:00:00Z")


@pytest.mark.parametrize("at", FAR)
def test_an_instant_that_no_store_can_hold_is_refused_by_its_field(shop: Client, at: str) -> None:
    """Wherever a request has one: in bodies, and as parameters."""
    held = shop.get("/api/v1/customers/acme/subscriptions").json()["items"][0]["id"]
    grant = {"name": "G", "funding_method": "none", "currency": "USD", "amount": "5", "effective_at": at}
    asked = {
        "as_of": shop.post("/api/v1/billing/invoices/invoice", json={"customerId": "acme", "asOf": at}),
        "created_before": shop.get("/api/v1/billing/invoices", params={"createdBefore": at}),
        "from": shop.get("/api/v1/meters/calls/query", params={"from": at}),
        "to": shop.get("/api/v1/meters/calls/query", params={"to": at}),
        "timing": shop.post(f"/api/v1/subscriptions/{held}/migrate", json={"timing": at}),
        "effective_at": shop.post("/api/v3/openmeter/customers/acme/credits/grants", json=grant),
    }
    for field, answer in asked.items():
        assert answer.status_code == 400, field
        assert field in answer.text or snake_name(field) in snake_name(answer.text), answer.text
    cancelled = shop.post(f"/api/v1/subscriptions/{held}/cancel", json={"timing": at})
    assert cancelled.status_code == 400


@pytest.mark.parametrize("length", ["P9999Y", "P99999999999999999999Y", "P3652059D", "PT9999999999999S"])
def test_a_length_of_time_that_leads_beyond_the_years_is_refused(shop: Client, length: str) -> None:
    """Of a grant, of a phase and of a billing cadence."""
    grant = {"name": "G", "funding_method": "none", "currency": "USD", "amount": "5", "expires_after": length}
    assert shop.post("/api/v3/openmeter/customers/acme/credits/grants", json=grant).status_code == 400
    assert shop.post("/api/v1/plans", json=plan("long", billingCadence=length)).status_code == 400


def test_what_no_check_foresees_of_input_is_still_a_bad_request() -> None:
    """Too deep, too far, not a text, refused by the database: 400, and not a failure of the server."""
    for failure in (RecursionError(), OverflowError(), UnicodeError(), psycopg.DataError()):
        assert problem_of(failure).status == 400
    assert problem_of(ValueError()).status == 500
