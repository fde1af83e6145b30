"""
SQL is written in `.sql` files, and Python asks for a statement by its name.

A file holds one statement, named as the file, or several, each below a line `-- name: of_the_statement`. The folders
are for the reader: a name stands once among all files below the folder that was loaded. `{part}` in a statement is
filled in with a text of our own, such as the name of a table; what comes from outside goes by placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Statements:
    """The statements of a folder, read when the first one is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str, **parts: str) -> bytes:
        """The text of a statement, with its parts filled in."""
        text = self.by_name[name]
        for part, value in parts.items():
            text = text.replace(b"{%s}" % part.encode(), value.encode())
        return text

    @cached_property
    def by_name(self) -> dict[str, bytes]:
        """All statements."""
        texts: dict[str, bytes] = {}
        for file in sorted(self._folder.rglob("*.sql")):
            for name, text in statements_of(file.stem, file.read_text(encoding="utf-8")):
                assert name not in texts, f"{file}: there are two statements called `{name}`"
                texts[name] = text.encode()
        return texts


def statements_of(stem: str, text: str) -> Iterator[tuple[str, str]]:
    """The statements of a file, by name."""
    head, *named = _NAME.split(text)
    if not named:
        yield stem, text
        return
    assert all(line.startswith("--") for line in head.splitlines() if line), f"{stem}: a statement has no name"
    for name, statement in zip(named[::2], named[1::2], strict=True):
        yield name, statement.strip() + "\n"
