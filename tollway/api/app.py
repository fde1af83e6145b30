"""The application: all routes, how failures are answered, and what is counted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter, Histogram

from tollway.api import access, charges, credits, ingest, invoices, operations, plans, setup, subscriptions, usage
from tollway.api.docs import ReadableDocs
from tollway.api.problems import answer
from tollway.api.stores import ApiStores

ABOUT = (
    "Usage in, charges, credits and access out. Paths and bodies under /api/v1 and /api/v3/openmeter are OpenMeter's; "
    "what is Tollway's own is under /api/v3/tollway. Amounts are decimal strings, instants RFC 3339 in UTC. Errors are "
    f"application/problem+json. A body of events has at most {ingest.BODY_BYTES_MAX} bytes."
)

requests_total = Counter("tollway_api_requests", "Requests answered.", ["method", "route", "status"])
request_seconds = Histogram(
    "tollway_api_request_seconds",
    "From a request's arrival to the start of its answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


def counted(app: ASGIApp) -> ASGIApp:
    """Count requests by route, as it is written, not by what was asked for."""

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("path_template") or "other"
                method = str(scope.get("method"))
                requests_total.labels(method, route, str(message["status"])).inc()
                request_seconds.labels(method, route).observe(time.perf_counter() - started)
            await send(message)

        await app(scope, receive, observed)

    return measured


def create_app(stores: ApiStores) -> Litestar:
    """The application on its stores, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        stores.start()
        try:
            yield
        finally:
            await stores.aclose()
            stores.close()

    routes: list[Any] = [
        ingest.ingest_v1,
        ingest.ingest_v3,
        *setup.ROUTES,
        *plans.ROUTES,
        *subscriptions.ROUTES,
        *credits.ROUTES,
        *charges.ROUTES,
        *invoices.ROUTES,
        *access.ROUTES,
        *usage.ROUTES,
        *operations.ROUTES,
    ]
    return Litestar(
        routes,
        dependencies={"stores": Provide(lambda: stores, sync_to_thread=False)},
        exception_handlers={Exception: answer},
        lifespan=[lifespan],
        middleware=[counted],
        openapi_config=OpenAPIConfig(
            title="Tollway",
            version=version("tollway"),
            description=ABOUT,
            path="/",
            render_plugins=[ReadableDocs(path="/docs"), JsonRenderPlugin(path="/openapi.json")],
        ),
        logging_config=None,
    )
