"""
Handlers that block: they run in threads, so that the event loop goes on answering.

What waits for PostgreSQL and what waits for the event log have threads of their own, so that neither holds up the
other, and few may wait for a thread: who comes then is told so. What reads much computes much, and all threads of a
process compute in turns: few do so at once, and a turn is short, so that the event loop, which answers the gate, is
soon on again. A request that was given up leaves its thread to end.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, wraps
from threading import Lock
from typing import Any, Final, ParamSpec, TypeVar

from sinks.postgres.pool import Busy

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

of_lists = Threads("lists", size=3, waiting_max=200)
"""For what reads much at a time. Its size is how many compete with the gate for the processor."""

of_log = Threads("log", size=16, waiting_max=10_000)
"""For events on their way into the log; how many may wait is limited by `tollway.api.server.pressure`."""


SWITCH_SECONDS: Final = 0.0005
"""So long a thread computes before another gets its turn; Python's own 5 ms are long beside an answer of the gate."""


def keep_turns_short() -> None:
    """
    Let no thread of this process, nor the collection of garbage, hold up the event loop for long.

    What is there when a worker starts to serve stays for good, and is not looked through again and again.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()


def threaded(handler: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """
    A handler that blocks, as one that does not.

    Litestar's own `sync_to_thread=True` wraps a handler once for each registration, and a path with three methods
    registers its handlers more than once.
    """

    return _by(of_ledger, handler)


def listing(handler: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """The same for a handler that reads many things, or through many of them."""
    return _by(of_lists, handler)


def _by(threads: Threads, handler: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    @wraps(handler)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await threads.run(handler, *args, **kwargs)

    return run
