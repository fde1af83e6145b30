"""An operation as a route: a function of structs in v3's words, served in one dialect or in both."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final, get_type_hints

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.serialization import default_serializer
from litestar.types import Serializer
from msgspec import Struct

from tollway.openmeter import codec
from tollway.openmeter.dialect import OPTION, V1, V3, Dialect
from tollway.openmeter.threads import threaded

Operation = Callable[..., Any]

_JSON: Final = msgspec.json.Encoder(decimal_format="number")


class Answer(Response[Any]):
    """A view as JSON: its amounts are texts, its quantities numbers."""

    def render(self, content: Any, media_type: str, enc_hook: Serializer = default_serializer) -> bytes:
        """The JSON."""
        return _JSON.encode(content) if isinstance(content, Struct | list) else super().render(content, media_type)


def v1(method: type[HTTPRouteHandler], path: str, **options: Any) -> Callable[[Operation], HTTPRouteHandler]:
    """An operation that v1 has, at a path below `/api/v1`; the options are Litestar's, and those of `route`."""
    return lambda operation: route(V1, method, path, operation, **options)


def v3(method: type[HTTPRouteHandler], path: str, **options: Any) -> Callable[[Operation], HTTPRouteHandler]:
    """An operation that v3 has, at a path below `/api/v3/openmeter`."""
    return lambda operation: route(V3, method, path, operation, **options)


def both(method: type[HTTPRouteHandler], path: str, **options: Any) -> Callable[[Operation], list[HTTPRouteHandler]]:
    """An operation that both have, at the same path; each names it after itself."""

    def routes(operation: Operation) -> list[HTTPRouteHandler]:
        name = operation.__name__
        return [route(d, method, path, operation, name=f"{name}_{d.version}", **options) for d in (V1, V3)]

    return routes


def route(
    dialect: Dialect,
    method: type[HTTPRouteHandler],
    path: str,
    operation: Operation,
    *,
    name: str | None = None,
    on: Callable[[Operation], Operation] = threaded,
    **options: Any,
) -> HTTPRouteHandler:
    """
    An operation as a route of a dialect.

    Args:
        dialect: It reads what the operation takes, and writes what it answers.
        method: Litestar's decorator.
        path: Below the dialect's prefix.
        operation: Returns a view. It blocks, and is called in a thread, unless it is a coroutine.
        name: Its id in the API's description; None: the operation's own.
        on: The threads it runs on: `threaded` or `listing`.
        options: Litestar's.
    """
    answer = get_type_hints(operation, include_extras=True)["return"]

    @wraps(operation)
    def run(*args: Any, **kwargs: Any) -> Any:
        return codec.shown(operation(*args, **kwargs), answer, dialect)

    @wraps(operation)
    async def run_here(*args: Any, **kwargs: Any) -> Any:
        return codec.shown(await operation(*args, **kwargs), answer, dialect)

    handler: Operation = run_here if iscoroutinefunction(operation) else on(run)
    handler.__name__ = name or operation.__name__
    return method(f"{dialect.prefix}{path}", opt={OPTION: dialect}, response_class=Answer, **options)(handler)
