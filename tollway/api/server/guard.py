"""
What surrounds every request, whatever it asks for: in order,

    1  it is counted and timed, and its answer gets the headers that make browsers careful;
    2  the name that it calls is checked, then its key, where keys are required, before anything of it is read;
    3  its body may be so large, as announced or as it comes, and has to arrive in time;
    4  it is answered in time, or is told that it was not.

It stands outside of the routing, so that a path that does not exist is treated like any other.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from typing import Any, Final, cast

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Message, Receive, Scope, Send

from tollway.api.server.admission import check_host, check_key, check_origin
from tollway.api.server.docs import STYLE
from tollway.api.server.metrics import refused_total, request_seconds, requests_total
from tollway.api.server.roles import OPEN
from tollway.api.server.stores import ServerStores
from tollway.openmeter.problems import MEDIA_TYPE, Problem, body_of, headers_of

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are counted by name: a client may make up others."""

DOCS: Final = "/docs"
TOP: Final = OPEN | {"/metrics"}
"""All there is beside what is under `/api`."""

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_ANSWER: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_PAGE: Final = (
    (b"cache-control", b"no-cache"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'sha256-" + _STYLE_HASH.encode() + b"'; base-uri 'none'; form-action 'none';"
        b" frame-ancestors 'none'",
    ),
)

LEFT_BYTES_MAX: Final = 10 * 1024 * 1024
LEFT_SECONDS: Final = 2.0
"""How much of a refused body is still taken off the line, and for how long."""

_REFUSED: Final = {401: "no_key", 403: "not_allowed", 421: "host"}


class GuardedApp(Litestar):
    """
    The application within its guard.

    Attributes:
        api_stores: Who may do what, and how long a request may take.
    """

    api_stores: ServerStores

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        """Answer a request, or start and end with the server."""
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        await _Request(cast(Scope, scope), cast(Receive, receive), cast(Send, send)).answer(self)

    async def inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, without the guard."""
        await super().__call__(scope, receive, send)


class _Request:
    """A request on its way through the guard."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._path = str(scope["path"])
        self._method = str(cast(Any, scope)["method"])
        self._started = time.perf_counter()
        self._has_begun = False
        self._is_read = False
        self._is_late = False

    async def answer(self, app: GuardedApp) -> None:
        try:
            check_host(self._scope, app.api_stores.hosts)
            if app.api_stores.keys is None:
                check_origin(self._scope)
            else:
                check_key(self._scope, app.api_stores.keys)
        except Problem as problem:
            await self._refuse(problem, _REFUSED.get(problem.status, "keys_unknown"))
            return
        if "/" not in self._path[1:] and self._path not in TOP:
            # Litestar would answer with a page.
            await self._refuse(Problem(404, "there is nothing here; `/docs` says what there is"), "not_found")
            return
        try:
            async with asyncio.timeout(app.api_stores.settings.timeout_seconds):
                await app.inner(self._scope, self._reading, self._sending)
        except TimeoutError:
            self._is_late = True
            if not self._has_begun:
                seconds = app.api_stores.settings.timeout_seconds
                await self._refuse(self._too_slow(seconds), "slow")

    async def _reading(self) -> Any:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_read = True
        return message

    async def _sending(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            if not await self._is_line_free():
                headers.append((b"connection", b"close"))
            self._has_begun = True
            given = {name.lower() for name, _ in headers}
            of_kind = _PAGE if self._path == DOCS else _ANSWER
            headers += [header for header in (*_HEADERS, *of_kind) if header[0] not in given]
            message["headers"] = headers
            route = self._scope.get("path_template") or "other"
            method = self._method if self._method in METHODS else "other"
            requests_total.labels(method, route, str(message["status"])).inc()
            request_seconds.labels(method, route).observe(time.perf_counter() - self._started)
        await self._send(message)

    async def _is_line_free(self) -> bool:
        """
        Whether the line can be used for another request after this one.

        A body that nobody read would be in the way: the server then hangs up without having said that it would, and a
        client that is still sending may not even see the answer. So what is left is taken off, if it is not too much.
        """
        if self._is_read or not self._announces_a_body():
            return True
        if self._is_late or any(name.lower() == b"expect" for name, _ in self._scope["headers"]):
            return False
        left = 0
        try:
            async with asyncio.timeout(LEFT_SECONDS):
                while not self._is_read and left <= LEFT_BYTES_MAX:
                    left += len((await self._reading()).get("body", b""))
        except TimeoutError:
            return False
        return self._is_read

    def _too_slow(self, seconds: int) -> Problem:
        if not self._is_read and self._announces_a_body():
            return Problem(408, f"the request did not arrive within {seconds} s")
        return Problem(
            503,
            f"this took longer than {seconds} s; it may still take effect. Events, and what has a key, can be sent"
            " again without being counted twice",
            retry=True,
        )

    def _announces_a_body(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._scope["headers"])

    async def _refuse(self, problem: Problem, reason: str) -> None:
        refused_total.labels(reason).inc()
        body = body_of(problem, self._path)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *headers_of(problem),
        ]
        await self._sending({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._sending({"type": "http.response.body", "body": body, "more_body": False})
