"""
Makes a lost recovery store anew: from its newest copy, and the event log since.

The ledger is taken back to the copy's last commit, as it is taken back by one commit after a crash. The flow then
reads the log again from there. That is another history, so its generation is raised: whatever the revisions come to
now, and whatever is missing in the log, all that was told before gives way to it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from bytewax.inputs import StatefulSourcePartition
from bytewax.recovery import init_db_dir
from msgspec import Struct

from dataflows.messages import RawBatch
from dataflows.recovery.copies import Copied, holds_an_epoch, newest_copy, states
from rating.events import INSTANT_MIN
from sinks.postgres.connecting import connect
from sinks.postgres.generations import raise_generation
from sinks.postgres.ledger import LEDGER_STEP, rewind, sole_writer

CLOCK_SKEW_MAX = timedelta(minutes=1)
"""The clock of a log may be ahead by so much of that by which the store was copied."""


class RecoveryStoreThere(Exception):
    """
    There is a recovery store that holds an epoch, which is not to be overwritten.

    Remedy: where it is damaged, or of another ledger, move it away.
    """


class Source(Protocol):
    """A source of usage that can be asked whether it still has what came after an offset."""

    @property
    def beginning(self) -> Any:
        """The offset of a partition's very first message."""

    def list_parts(self) -> list[str]: ...

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> StatefulSourcePartition[RawBatch, Any]:
        """Open a partition. Raises `StreamOffsetGone` or `TopicOffsetGone` where there is a gap after the offset."""


class Rebuilt(Struct, frozen=True):
    """What was done."""

    store: Path
    copy: Copied | None
    """What the store was made from; None for nothing at all: the log is read from its beginning."""
    rows_taken_back: int
    """Rows of the ledger, which come again as the log is read."""
    generation: int
    """What is told from now on is told in this generation."""


def rebuild(store: Path, dsn: str, usage: Mapping[str, Source], partitions: int) -> Rebuilt:
    """
    Make a recovery store in a folder that has none, or one that holds nothing: a dataflow that failed at its start
    leaves one. Where it can't be done, ledger and folder stay as they are.

    Args:
        store: The folder.
        dsn: The ledger.
        usage: Sources of usage by step id: each has to have what comes after the copy, or all where there is no copy.
        partitions: How many recovery partitions a store has that is made from nothing.

    Raises:
        RecoveryStoreThere: The folder has partitions with an epoch.
        LedgerInUse: A dataflow runs on the ledger.
        StreamOffsetGone or TopicOffsetGone: A source lacks usage that has to be read again; each source has its own.
    """
    if holds_an_epoch(store):
        raise RecoveryStoreThere(
            f"there is a recovery store in `{store}`\n"
            "hint: start the dataflow, which goes on from it; if it is damaged, move it away, and try again"
        )
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        sole_writer(dsn, process_id=0),
        connect(dsn) as connection,
        tempfile.TemporaryDirectory(prefix="recovery-", dir=store.parent) as folder,
    ):
        fresh = Path(folder) / "recovery"
        fresh.mkdir()
        copy = newest_copy(connection, fresh)
        if copy is None:
            init_db_dir(fresh, partitions)
        for step_id, source in usage.items():
            offsets = states(fresh, step_id)
            for part in source.list_parts():
                source.build_part(step_id, part, offsets.get(part, source.beginning)).close()
        commits = {int(part): sequence for part, sequence in states(fresh, LEDGER_STEP).items()}
        deleted = rewind(connection, commits)
        since = "its beginning" if copy is None else f"{copy.copied_at:%Y-%m-%d %H:%M:%S} UTC"
        read_from = INSTANT_MIN if copy is None else copy.copied_at + CLOCK_SKEW_MAX
        generation = raise_generation(
            connection, f"the recovery store was made anew, as of {since}", read_from=read_from
        )
        # Whoever fails between here and the end tries again, with the same outcome.
        connection.commit()
        if store.exists():
            shutil.rmtree(store)
        fresh.rename(store)
    return Rebuilt(store, copy, deleted, generation)
