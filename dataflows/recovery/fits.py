"""
Whether the ledger is older than the recovery store: looked at before anything is told or changed.

The flow's sink would notice it too, but only once a generation had begun and snapshots were loaded that name what the
ledger does not have. Whether the store is older than the ledger is for the sink to say: after some crashes only the
engine knows where in the store it resumes.
"""

from __future__ import annotations

from pathlib import Path

from dataflows.recovery.copies import states
from dataflows.recovery.store import part_files
from sinks.postgres.connecting import connect
from sinks.postgres.ledger import LEDGER_STEP, refuse_ended_earlier, refuse_without_store


def refuse_older_ledger(store: Path | None, dsn: str, sink_partitions: int) -> None:
    """
    See to it that the ledger holds all commits that the recovery store knows of.

    Args:
        store: The folder; None: the flow keeps none, so it begins with an empty one.
        dsn: The ledger, which the caller holds.
        sink_partitions: How many parts of the ledger's sink there are.

    Raises:
        LedgerOutdated: The ledger is older.
        RecoveryStoreMissing: The flow keeps no store, and the ledger has been written with one.
    """
    with connect(dsn, autocommit=True, application_name="tollway-history") as connection:
        if store is None:
            for part in range(sink_partitions):
                refuse_without_store(connection, part)
        elif part_files(store):
            # A commit is in the ledger before any state in the store knows of it.
            for name, sequence in states(store, LEDGER_STEP).items():
                refuse_ended_earlier(connection, int(name), sequence)
