"""Work beside a block begins and ends with it."""

from __future__ import annotations

from threading import Event

import pytest

from sinks.beside import working_beside
from tests.waiting import PATIENCE_SECONDS


def test_work_is_waited_for_at_the_end_of_the_block() -> None:
    """It runs beside the block, hears of its end, and is done after it; so too where the block fails."""
    for failure in (None, ValueError("the block")):
        begun, done = Event(), Event()

        def work(ended: Event, begun: Event = begun, done: Event = done) -> None:
            begun.set()
            if ended.wait(PATIENCE_SECONDS):
                done.set()

        def block(failure: Exception | None = failure, begun: Event = begun, done: Event = done) -> None:
            assert begun.wait(PATIENCE_SECONDS)
            assert not done.is_set()
            if failure is not None:
                raise failure

        if failure is None:
            with working_beside("work", work):
                block()
        else:
            with pytest.raises(ValueError, match="the block"), working_beside("work", work):
                block()
        assert done.is_set()
