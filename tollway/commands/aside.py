"""
Customers that the dataflow set aside, told to whoever looks from outside.

    <home>/aside.json    the id of each, and what failed at its data; none where nobody is set aside

A process of a cluster has a file of its own, with its number in the name. It holds for as long as the dataflow runs:
at its start all are tried again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

from sinks import metrics
from sinks.beside import working_beside

EVERY_SECONDS: Final = 1.0


@contextmanager
def telling_aside(home: Path, process_id: int | None = None) -> Iterator[None]:
    """Keep the file current until the block ends, which it does not outlive."""
    path = home / ("aside.json" if process_id is None else f"aside-{process_id}.json")
    path.unlink(missing_ok=True)
    try:
        with working_beside("aside", partial(_tell, path)):
            yield
    finally:
        path.unlink(missing_ok=True)


def read_aside(home: Path) -> dict[str, str]:
    """By the id of each customer that is set aside, what failed."""
    found: dict[str, str] = {}
    for path in sorted(home.glob("aside*.json")):
        try:
            found |= json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # it goes on just now
    return found


def _tell(path: Path, ended: Event) -> None:
    told: dict[str, str] = {}
    while not ended.wait(EVERY_SECONDS):
        found = metrics.set_aside()
        if found == told:
            continue
        draft = path.with_suffix(".new")
        try:
            draft.write_text(json.dumps(found))
            draft.replace(path)
            if not found:
                path.unlink()
        except OSError:
            continue  # a full disk: it is tried again
        told = found
