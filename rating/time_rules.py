"""
What a deployment decides about time.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct


class TimeRules(Struct, frozen=True):
    """Spans of time, and how many windows stay open for late usage."""

    window_seconds: int = 3600
    late_windows: int = 2
    dedup_horizon: timedelta = timedelta(hours=24)
    grace: timedelta = timedelta(hours=24)
    """How long after a period's end usage of it may still be received."""
    max_ahead: timedelta = timedelta(minutes=5)
    """How far ahead of its arrival an event's time may be."""
    keep_closed: timedelta = timedelta(hours=24)
    """How long a closed period stays in the state, for usage received in time that is read late."""
    with_lanes: bool = True
    """Whether usage may gather in lanes. Without them every event goes the slow way, and the outcome is the same."""
    lane_check_events: int | None = None
    """
    Check a fold by a lane against the slow way once in this many events; None: `rating.intake.LANE_CHECK_EVENTS`.

    1: each fold is checked, and a difference is an error.
    """
