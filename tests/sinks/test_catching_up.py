"""Rows are held back until the sources have read what there was, and what they read was priced."""

from __future__ import annotations

import pytest

from sinks import catching_up
from sinks.catching_up import CatchingUp, HeldRows
from tests.engine_runs import wait_for


def test_nothing_is_held_unless_another_history_begins() -> None:
    """As at every ordinary start."""
    found = CatchingUp()
    found.opened("a")
    assert not found.holds()


def test_all_sources_have_to_catch_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And after the last one the beat is waited for; what is over does not begin again."""
    found = CatchingUp()
    found.hold()
    found.opened("a")
    found.opened("b")
    assert found.holds()
    found.passed("a")
    assert found.holds(ended=True), "a flow that was stopped before it had caught up leaves all as it was"
    found.passed("b")
    assert found.holds()
    monkeypatch.setattr(catching_up, "SETTLE_SECONDS", 0.0)
    assert not found.holds()
    found.opened("c")
    assert not found.holds()


def test_the_newest_row_of_each_key_is_let_go_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, also where the flow has nothing to say any more; from then on nothing is kept."""
    monkeypatch.setattr(catching_up, "SETTLE_SECONDS", 0.0)
    found = CatchingUp()
    found.hold()
    found.opened("a")
    told: list[list[int]] = []
    held: HeldRows[int] = found.keep(told.append)
    assert held.take({"x": 1, "y": 2})
    assert held.take({"x": 3})
    assert not found.is_over()
    found.passed("a")
    wait_for(found.is_over, "the rows to be let go")
    assert told == [[3, 2]]
    assert not held.take({"x": 4})
    held.close()
    assert told == [[3, 2]]


def test_a_flow_that_is_stopped_before_it_caught_up_lets_nothing_go() -> None:
    """What is visible stays, and the next start tells it."""
    found = CatchingUp()
    found.hold()
    found.opened("a")
    told: list[list[int]] = []
    held: HeldRows[int] = found.keep(told.append)
    assert held.take({"x": 1})
    held.close()
    assert told == []
    assert not found.is_over()


def test_what_letting_go_raises_ends_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised where the next row is handed over, and at the end of the epoch."""
    monkeypatch.setattr(catching_up, "SETTLE_SECONDS", 0.0)
    found = CatchingUp()
    found.hold()

    def away(_rows: list[int]) -> None:
        raise ConnectionError("away")

    found.opened("a")
    held: HeldRows[int] = found.keep(away)
    found.passed("a")

    def failed() -> bool:
        try:
            held.check()
        except ConnectionError:
            return True
        return False

    wait_for(failed, "the failure")
    with pytest.raises(ConnectionError):
        held.take({"x": 1})


def test_a_flow_that_ended_has_priced_all_it_read() -> None:
    """A process without a partition of a source has nothing to wait for."""
    found = CatchingUp()
    found.hold()
    assert found.holds()
    assert not found.holds(ended=True)
