"""The application: all routes, within the guard, and how failures are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from config.limits import BODY_BYTES, EVENTS_BYTES
from tollway.api.routes import account, ingest, operations
from tollway.api.server.bodies import JsonRequest
from tollway.api.server.description import operation_id
from tollway.api.server.docs import Description, ReadableDocs
from tollway.api.server.guard import GuardedApp
from tollway.api.server.stores import ServerStores
from tollway.openmeter import (
    access,
    charges,
    credits,
    customers,
    features,
    grants,
    invoices,
    meters,
    plans,
    subscription_moves,
    subscriptions,
    usage,
)
from tollway.openmeter.filters import check_query, filters_of
from tollway.openmeter.problems import answer

ABOUT = (
    "Usage in, charges, credits and access out. Paths and bodies under /api/v1 and /api/v3/openmeter are OpenMeter's; "
    "what is Tollway's own is under /api/v3/tollway. Amounts are decimal strings, instants RFC 3339 in UTC. Errors are "
    f"application/problem+json. A body of events has at most {EVENTS_BYTES.number} bytes, any other at most "
    f"{BODY_BYTES.number}. Where API keys are required, each request but those of probes needs one."
)
SCHEME = "ApiKey"
RESOURCES: Final[tuple[Any, ...]] = (
    *(ingest, meters, features, customers, plans, subscriptions, subscription_moves, credits, grants, charges),
    *(invoices, access, usage, account, operations),
)
"""Modules, each with its routes."""


def create_app(stores: ServerStores) -> GuardedApp:
    """The application on its stores, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        stores.start()
        try:
            yield
        finally:
            await stores.aclose()
            stores.close()

    routes = [route for resource in RESOURCES for route in resource.ROUTES]
    app = GuardedApp(
        routes,
        dependencies={
            "stores": Provide(lambda: stores, sync_to_thread=False),
            "asked": Provide(filters_of, sync_to_thread=False),
        },
        before_request=check_query,
        exception_handlers={Exception: answer},
        request_class=JsonRequest,
        lifespan=[lifespan],
        request_max_body_size=BODY_BYTES.number,
        openapi_config=OpenAPIConfig(
            title="Tollway",
            version=version("tollway"),
            description=ABOUT,
            path="/",
            operation_id_creator=operation_id,
            components=Components(
                security_schemes={
                    SCHEME: SecurityScheme(
                        type="http",
                        scheme="bearer",
                        description="An API key, as `tollway key create` prints it. It has a role: `ingest`, `read` or"
                        " `admin`.",
                    )
                }
            ),
            # No key is needed where the API listens on a loopback address only.
            security=[{SCHEME: []}, {}],
            render_plugins=[ReadableDocs(path="/docs"), Description(path="/openapi.json")],
        ),
        logging_config=None,
    )
    app.api_stores = stores
    return app
