"""Sources end their epochs together, however often each is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main

from dataflows.pace import Pace

EPOCH = timedelta(milliseconds=100)
EPOCHS = 40


class Ticks(FixedPartitionedSource[int, int]):
    """One partition that has nothing to say, and takes down how often it is asked in each epoch."""

    def __init__(self, every: timedelta) -> None:
        self.every = every
        self.polls = [0]

    def list_parts(self) -> list[str]:
        return ["ticks"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Ticking:
        return _Ticking(self)


class _Ticking(StatefulSourcePartition[int, int]):
    def __init__(self, source: Ticks) -> None:
        self._source = source

    def next_batch(self) -> list[int]:
        self._source.polls[-1] += 1
        if len(self._source.polls) > EPOCHS:
            raise StopIteration
        return []

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + self._source.every

    def snapshot(self) -> int:
        self._source.polls.append(0)
        return 0


def run(folder: Path, pace: Pace | None) -> list[int]:
    """Two sources, one of which awakes more seldom. Returns how often the other was asked in each epoch."""
    often, seldom = Ticks(timedelta(milliseconds=4)), Ticks(timedelta(milliseconds=37))
    flow = Dataflow("pace")
    sources: list[Any] = [often, seldom] if pace is None else [pace.keeping(often), pace.keeping(seldom)]
    merged = op.merge("merge", *[op.input(f"source_{number}", flow, source) for number, source in enumerate(sources)])
    op.output("out", merged, TestingSink([]))
    init_db_dir(folder, 1)
    run_main(flow, epoch_interval=EPOCH, recovery_config=RecoveryConfig(str(folder)))
    return often.polls[:EPOCHS]


@pytest.mark.parametrize("alone", [True, False])
def test_a_source_is_asked_as_often_in_late_epochs_as_in_early_ones(tmp_path: Path, alone: bool) -> None:
    """Without a pace a source that awakes often is asked less and less, after a while once an epoch."""
    (tmp_path / "without").mkdir()
    (tmp_path / "with").mkdir()
    late = slice(EPOCHS // 2, EPOCHS)
    without = run(tmp_path / "without", None)[late]
    kept = run(tmp_path / "with", Pace(EPOCH, alone=alone))[late]
    assert sum(kept) > 2 * sum(without)
