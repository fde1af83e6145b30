"""
The recovery store: where Bytewax keeps snapshots and offsets, as so many SQLite files, the recovery partitions.

Their number is chosen when the store is made and never changes; more processes than partitions can't share the work
of keeping it. Processes that share a folder share the store. Processes on machines of their own each keep a part of
it, and when their number changes the files have to be put where they belong: a partition that stands in two places
would be read from the wrong one, so a store that is not whole is used by as many processes as it was made for, or
not at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bytewax.recovery import init_db_dir
from msgspec import Struct

FOLDER = "recovery"
"""The store, in the home folder."""
PROCESSES = "processes"
"""The file in the store that says how many processes share it."""


class Cluster(Struct, frozen=True):
    """Which process of a cluster this one is. `addresses` has host:port of every process, in the same order in all."""

    process_id: int
    addresses: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many processes there are."""
        return len(self.addresses)


ALONE = Cluster(0, ("",))
"""A process that has no others beside it."""


class RecoveryStoreScattered(Exception):
    """
    This folder has some of the recovery partitions, and they were shared out among another number of processes.

    Remedy: bring all partitions into one folder that all processes share, or share them out by hand.
    """


class PartitionsMissing(Exception):
    """
    The recovery store knows how far partitions of usage were read that the flow has no more.

    Remedy: name them again, or make the store anew.
    """


def expect_all(step_id: str, known: Iterable[str], there: Iterable[str]) -> None:
    """
    Check that a flow goes on with all that it has read from: Bytewax ends where it finds more in the store.

    Args:
        step_id: The step that reads.
        known: The partitions that the store has of it.
        there: Those that it is to read.

    Raises:
        PartitionsMissing: Some are not there.
    """
    missing = sorted(set(known).difference(there))
    if not missing:
        return
    named = ", ".join(f"`{name}`" for name in missing[:NAMED])
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    what, remedy = _REMEDIES.get(step_id, _OF_TOPICS)
    raise PartitionsMissing(
        f"the recovery store knows how far {what} {named}{more} was read, which is not among what is to be read now\n"
        f"hint: {remedy}"
    )


NAMED = 5
_REBUILD = "or make the store anew: move the folder `recovery` away, and `tollway recovery rebuild`"
_OF_TOPICS = ("partition", f"name the topic that was read before, with all its partitions, {_REBUILD}")
_REMEDIES = {
    "files": (
        "file",
        "name it with `--file` too, as it was named before: what was read of it is not read again; if it is gone, an"
        " empty one will do",
    ),
    "events": ("partition", f"give the event log as many partitions as it had (`TOLLWAY_PARTITIONS`), {_REBUILD}"),
}


def recovery_store(home: Path, partitions: int, cluster: Cluster = ALONE, *, shared: bool = True) -> Path:
    """
    The folder of the recovery store, made where there is none. Safe to be called by all processes at once.

    Args:
        home: The home folder.
        partitions: How many recovery partitions a new store has; an old one keeps its number.
        cluster: The process that asks.
        shared: Whether all processes of the cluster use this very folder; else this one keeps its share of the
            partitions: those whose number leaves its id when divided by the number of processes.

    Raises:
        RecoveryStoreScattered: The folder has a share that was made for another number of processes.
    """
    store = home / FOLDER
    if shared or (cluster.size == 1 and not (store / PROCESSES).exists()):
        _make_whole(store, partitions)
    else:
        _make_share(store, partitions, cluster)
    return store


def _make_whole(store: Path, partitions: int) -> None:
    """Make a store in one go: there are all partitions, or none."""
    if store.exists() and any(store.iterdir()):
        return
    store.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="recovery-", dir=store.parent))
    init_db_dir(fresh, partitions)
    try:
        fresh.rename(store)
    except OSError:
        # Another process was faster.
        shutil.rmtree(fresh)


def _make_share(store: Path, partitions: int, cluster: Cluster) -> None:
    """Make the partitions that are kept here, where none were; else there must be these, and no others."""
    store.mkdir(parents=True, exist_ok=True)
    known = store / PROCESSES
    made_for = known.read_text().strip() if known.exists() else None
    there = {number for number in range(partitions) if part_file(store, number).exists()}
    share = set(range(cluster.process_id, partitions, cluster.size))
    # The number is written last: without it, making the share was cut short.
    if there - share or (share - there and made_for is not None):
        raise RecoveryStoreScattered(
            f"`{store}` has {_named(there)} of {partitions} recovery partitions, shared out among"
            f" {made_for or 'an unknown number of'} processes, but process {cluster.process_id} of {cluster.size} keeps"
            f" {_named(share)}\n"
            f"hint: partition N belongs to the process whose id is N modulo {cluster.size}: move the files"
            f" `part-N.sqlite3`; or let all processes share a folder that has them all"
        )
    if share - there:
        with tempfile.TemporaryDirectory(dir=store) as fresh:
            init_db_dir(Path(fresh), partitions)
            for number in share - there:
                part_file(Path(fresh), number).rename(part_file(store, number))
    known.write_text(f"{cluster.size}\n")


def _named(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"


def part_file(store: Path, number: int) -> Path:
    """The file of one recovery partition."""
    return store / f"part-{number}.sqlite3"


def part_files(store: Path) -> list[Path]:
    """The recovery partitions that a folder has."""
    return sorted(store.glob("part-*.sqlite3"))
