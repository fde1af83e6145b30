"""
Handlers that block: they run in threads, so that the event loop goes on answering.

What waits for PostgreSQL and what waits for the event log have threads of their own, so that neither holds up the
other, and few may wait for a thread: who comes then is told so. A request that was given up leaves its thread to end.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from tollway.api.problems import Busy

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """
    A few threads, and a few who may wait for them.

    Args:
        name: What they are for.
        size: How many there are.
        waiting_max: How many may wait.
    """

    def __init__(self, name: str, size: int, waiting_max: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._max = size + waiting_max
        self._held = 0
        self._lock = Lock()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Call a function in a thread.

        Raises:
            Busy: Too many wait already.
        """
        with self._lock:
            if self._held >= self._max:
                raise Busy
            self._held += 1
        bound = partial(contextvars.copy_context().run, function, *args, **kwargs)
        running = self._pool.submit(bound)
        running.add_done_callback(self._release)
        return await asyncio.wrap_future(running)

    def _release(self, _done: Future[Any]) -> None:
        with self._lock:
            self._held -= 1


of_ledger = Threads("ledger", size=20, waiting_max=200)
"""For what asks PostgreSQL: twice as many as it has connections, so that one is always about to be used."""

of_log = Threads("log", size=16, waiting_max=10_000)
"""For events on their way into the log; how many may wait is limited by `tollway.api.pressure`."""


def threaded(handler: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """
    A handler that blocks, as one that does not.

    Litestar's own `sync_to_thread=True` wraps a handler once for each registration, and a path with three methods
    registers its handlers more than once.
    """

    @wraps(handler)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await of_ledger.run(handler, *args, **kwargs)

    return run
