"""
Whether the recovery store is of the ledger's own time: looked at before anything is told or changed.

The flow's sink would notice it too, but only once a generation had begun and snapshots were loaded that name what the
ledger does not have. The store is read here as far as it is plain from it where the flow will resume.
"""

from __future__ import annotations

from pathlib import Path

from dataflows.recovery.copies import epoch_of_files, states
from dataflows.recovery.store import part_files
from sinks.postgres.connecting import connect
from sinks.postgres.ledger import LEDGER_STEP, refuse_unfit


def refuse_another_store(store: Path | None, dsn: str, sink_partitions: int) -> None:
    """
    See to it that the ledger ends where the recovery store does.

    Args:
        store: The folder; None: the flow keeps none, so it begins with an empty one.
        dsn: The ledger, which the caller holds.
        sink_partitions: How many parts of the ledger's sink there are.

    Raises:
        LedgerOutdated: The ledger is older.
        RecoveryStoreMissing: The store is older, or there is none.
    """
    sequences = dict.fromkeys(range(sink_partitions), 0) if store is None else {}
    if store is not None and part_files(store):
        if epoch_of_files(store) is None:
            # After some crashes only the engine knows where it resumes, and before the first epoch there is nothing.
            return
        sequences = {int(part): sequence for part, sequence in states(store, LEDGER_STEP).items()}
    with connect(dsn, autocommit=True, application_name="tollway-history") as connection:
        for part, sequence in sequences.items():
            refuse_unfit(connection, part, sequence, keeps_store=store is not None)
