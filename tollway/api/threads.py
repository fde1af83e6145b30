"""Handlers that block: they run in a thread of the pool, so that the event loop goes on answering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from litestar.concurrency import sync_to_thread

P = ParamSpec("P")
T = TypeVar("T")


def threaded(handler: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """
    A handler that blocks, as one that does not.

    Litestar's own `sync_to_thread=True` wraps a handler once for each registration, and a path with three methods
    registers its handlers more than once.
    """

    @wraps(handler)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await sync_to_thread(handler, *args, **kwargs)

    return run
