"""
JSONL files as a source: one partition per file; an offset is a position in bytes.

Every line is one CloudEvent. The file's modification time stands for the time of receiving.
"""

from __future__ import annotations

from pathlib import Path
from threading import Event

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.catalog_view import CatalogView
from dataflows.messages import RawBatch, Segment
from rating.events import BYTE_ORDER_MARK


class FilePartition(StatefulSourcePartition[RawBatch, tuple[int, int]]):
    """Reads whole lines of one file from a position on. The resume state is (position, received at in µs)."""

    def __init__(
        self, path: Path, resume: tuple[int, int] | None, batch_bytes: int, view: CatalogView, stopping: Event
    ) -> None:
        self._file = path.open("rb")
        self._position, self._received_us = resume or (0, path.stat().st_mtime_ns // 1000)
        self._file.seek(self._position)
        self._batch_bytes = batch_bytes
        self._view = view
        self._stopping = stopping

    def next_batch(self) -> list[RawBatch]:
        if self._stopping.is_set():
            raise StopIteration
        blob = self._file.read(self._batch_bytes)
        if blob:
            blob += self._file.readline()
        if not blob:
            raise StopIteration
        begins, self._position = self._position == 0, self._position + len(blob)
        if begins:
            blob = blob.removeprefix(BYTE_ORDER_MARK)
        return [RawBatch(self._view.version, [Segment(self._received_us, blob)])]

    def snapshot(self) -> tuple[int, int]:
        return self._position, self._received_us

    def close(self) -> None:
        self._file.close()


class FileSource(FixedPartitionedSource[RawBatch, tuple[int, int]]):
    """JSONL files, each read once from beginning to end."""

    def __init__(self, paths: list[Path], batch_bytes: int, view: CatalogView, stopping: Event) -> None:
        self._paths = {str(path): path for path in paths}
        self._batch_bytes = batch_bytes
        self._view = view
        self._stopping = stopping

    def list_parts(self) -> list[str]:
        return sorted(self._paths)

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[int, int] | None) -> FilePartition:
        return FilePartition(self._paths[for_part], resume_state, self._batch_bytes, self._view, self._stopping)
