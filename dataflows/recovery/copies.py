"""
Copies of the recovery store in the ledger's database, taken while the flow runs.

A copy is of use only if all its partitions are of the same epoch. Each is read as of one instant, and these instants
are so close to each other that mostly no epoch ends between them; where one does, the partitions are read again.
Processes that each keep a part of the store copy it at the same instants; whether the parts fit is seen when they are
put together.

SQLite's locks are the process's: only a process that has no flow may read the store.
"""

from __future__ import annotations

import io
import pickle
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct

from dataflows.recovery.store import part_file, part_files
from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement
from sinks.statements import Statements

KEPT = 6
"""So many of the newest copies stay."""
PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.02
CHUNK_BYTES = 4 << 20

_of_store = Statements(Path(__file__).parent)


class NotCopied(Exception):
    """There is no recovery store, or it holds no epoch yet, or no instant was found at which its partitions agree."""


class Copied(Struct, frozen=True):
    """One copy of the store, or of the part of it that a process keeps."""

    copied_at: datetime
    parts: tuple[int, ...]
    of_parts: int
    epoch: int
    """The last epoch that it holds."""
    size: int
    """Bytes as kept."""

    @property
    def has_all_parts(self) -> bool:
        """Whether it is a copy of all of the store."""
        return len(self.parts) == self.of_parts


def copy_store(store: Path, dsn: str, copied_at: datetime) -> Copied:
    """
    Copy what a folder has of the recovery store into the ledger's database, and let old copies go.

    Args:
        store: The folder.
        dsn: The database.
        copied_at: The instant that names the copy: the same in all processes that keep a part of the store.

    Raises:
        NotCopied: There is nothing to copy, or the partitions did not agree for long.
        psycopg.Error: The database does not take it.
    """
    with _of_one_epoch(part_files(store)) as (found, epoch), connect(dsn) as connection:
        of_parts = max(parts for _, parts in map(_number, found))
        size = 0
        for part in found:
            number, _ = _number(part)
            for chunk, content in enumerate(_contents(part)):
                size += len(content)
                connection.execute(
                    statement("insert_recovery_chunk"),
                    (copied_at, number, of_parts, epoch, chunk, content),
                )
        connection.execute(statement("delete_old_recovery_copies"), (KEPT,))
        return Copied(copied_at, tuple(number for number, _ in map(_number, found)), of_parts, epoch, size)


def copies(connection: psycopg.Connection[Any]) -> list[Copied]:
    """The copies that there are, the newest first; parts of one instant but of several epochs are several."""
    rows = connection.execute(statement("recovery_copies"))
    return [Copied(at, tuple(parts), of_parts, epoch, int(size)) for at, parts, of_parts, epoch, size in rows]


def newest_copy(connection: psycopg.Connection[Any], folder: Path) -> Copied | None:
    """Put the newest copy that is whole into an empty folder. None where there is none; the folder is then empty."""
    for copied in copies(connection):
        if not copied.has_all_parts:
            continue
        for number in copied.parts:
            with part_file(folder, number).open("wb") as file:
                for (content,) in connection.execute(statement("recovery_chunks"), (copied.copied_at, number)):
                    file.write(zlib.decompress(content))
        with ExitStack() as stack:
            if epoch_of([stack.enter_context(_reading(file)) for file in part_files(folder)]) == copied.epoch:
                return copied
        for unfit in part_files(folder):
            unfit.unlink()
    return None


def states(folder: Path, step_id: str) -> dict[str, Any]:
    """
    What a store that is at rest holds of a step of the flow, by the key or partition.

    The engine itself pickles what the step gave it.
    """
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        parts = [stack.enter_context(_reading(file)) for file in part_files(folder)]
        epoch = epoch_of(parts)
        for part in parts:
            for key, pickled in _ask(part, "newest_of_each_key", (f"tollway.{step_id}", epoch)):
                found[key] = None if pickled is None else _Plain(io.BytesIO(pickled)).load()
    return {key: state for key, state in found.items() if state is not None}


def holds_an_epoch(folder: Path) -> bool:
    """Whether a partition in a folder ever had an epoch committed; one that can't be read may have had."""
    for file in part_files(folder):
        try:
            with _reading(file) as part:
                if _ask(part, "number_of_commits").fetchone() != (0,):
                    return True
        except sqlite3.Error:
            return True
    return False


def epoch_of(parts: list[sqlite3.Connection]) -> int | None:
    """
    The last epoch of which partitions have all snapshots, and none that came later instead; None where there is none.

    An epoch is committed in every partition, once all its snapshots are written and all processes have said that they
    are past it, which is in one of the partitions.
    """
    committed = {epoch for part in parts for (epoch,) in _ask(part, "committed_epoch")}
    if len(committed) != 1:
        return None
    epoch: int | None = committed.pop()
    if epoch is not None and len(parts) == _number(parts[0])[1]:
        fronts = [front for part in parts for front in _ask(part, "frontiers")]
        last = max(execution for execution, _ in fronts)
        if min(frontier for execution, frontier in fronts if execution == last) != epoch + 1:
            return None
    return epoch


class _Plain(pickle.Unpickler):
    """Reads numbers, texts and tuples, which is all that sources and sinks keep."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the recovery store has a {module}.{name}, expected plain values")


@contextmanager
def _of_one_epoch(files: list[Path]) -> Iterator[tuple[list[sqlite3.Connection], int]]:
    """Partitions held as they were at the end of one epoch."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while files:
        with ExitStack() as stack:
            parts = [stack.enter_context(_reading(file)) for file in files]
            for part in parts:
                _ask(part, "begin_reading")
            epoch = epoch_of(parts)
            if epoch is not None:
                yield parts, epoch
                return
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    raise NotCopied("the recovery store holds no epoch yet" if files else "there is no recovery store to copy")


def _reading(file: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(file, isolation_level=None, timeout=PATIENCE_SECONDS))


def _ask(part: sqlite3.Connection, name: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
    return part.execute(_of_store(name).decode(), values)


def _number(part: sqlite3.Connection) -> tuple[int, int]:
    """The number of a partition, and how many there are."""
    number, parts = _ask(part, "part_number").fetchone()
    return number, parts


def _contents(part: sqlite3.Connection) -> Iterator[bytes]:
    """A partition as it is held, as the chunks of a file, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part"
        with closing(sqlite3.connect(file)) as target:
            part.backup(target)
        with file.open("rb") as whole:
            while chunk := whole.read(CHUNK_BYTES):
                yield zlib.compress(chunk, 1)
