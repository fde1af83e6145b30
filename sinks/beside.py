"""Work beside the dataflow, on a thread of its own, that ends with the block it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread


@contextmanager
def working_beside(name: str, work: Callable[[Event], None]) -> Iterator[None]:
    """
    Do some work while the block runs.

    Args:
        name: The thread's.
        work: Is to return soon after the event is set, which is at the end of the block; it is waited for. What it
            raises is its own affair: the block goes on.
    """
    ended = Event()
    thread = Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
