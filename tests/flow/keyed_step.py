"""The keyed step alone: a key group's logic over a control log in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dataflows.backlog import Backlog
from dataflows.beats import FlowLoad
from dataflows.log_clock import LogClock
from dataflows.rate import RateLogic, Shared
from rating.time_rules import TimeRules
from tests.simulation.driving import View


class ControlLog(View):
    """A control log in memory."""

    def take_changed(self, _group: int) -> set[str]:
        """Which customers changed since this was last asked."""
        changed, self.changed = self.changed, set()
        return changed


def logic_of(
    view: Any,
    beat: timedelta = timedelta(),
    clock: LogClock | None = None,
    backlog: Backlog | None = None,
    snapshot: bytes | None = None,
) -> RateLogic:
    """The logic of a key group, from its snapshot if there is one."""
    shared = Shared(
        view=view,
        rules=TimeRules(),
        beat=beat,
        load_segments=lambda _group, _numbers: (),
        load_windows=lambda _customer, _meter: (),
        rereads=(),
        clock=clock or LogClock(),
        backlog=Backlog() if backlog is None else backlog,
        load=FlowLoad(),
    )
    return RateLogic(shared, snapshot)
