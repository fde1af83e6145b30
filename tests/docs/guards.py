"""
What holds of the sources as a whole, each as a function on a tree of sources.

A tree is a mapping of places, such as `rating/charge.py`, to texts. So a test can give a guard the tree that there is,
and one with a fault planted into it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from tests.docs.pages import ROOT

FOLDERS: Final = ("config", "rating", "sinks", "dataflows", "tollway")

Tree = Mapping[str, str]


@cache
def sources() -> dict[str, str]:
    """All of Tollway's own Python, without tests."""
    return {
        str(path.relative_to(ROOT)): path.read_text() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
    }


_STATEMENTS: Final = (
    r"select\b[^.;`]*?\bfrom\s+[a-z_(]",
    r"select\s+(?:\d|from\b|\w+\()",
    r"with\s+\w+\s+as\s*\(",
    r"(?:insert|merge)\s+into\s",
    r"update\s+\w+\s+set\s",
    r"delete\s+from\s",
    r"(?:create|alter|drop)\s+(?:temporary\s+)?(?:table|index|view|database|function|schema|role|type)\s",
    r"(?:truncate|lock|vacuum|analyze)\s+table\b",
    r"copy\s+\w+[^.]*\s(?:from\s+stdin|to\s+stdout)",
    r"set\s+(?:local\s+)?\w+\s*(?:=|to\s)",
    r"set\s+time\s+zone",
    r"(?:un)?listen\s+\w+\s*$",
    r"(?:where|order by|group by|left join|returning|on conflict)\s+\w+(?:\.\w+)?\s*(?:[=<>,]|$|is\b|desc\b|asc\b)",
)
SQL: Final = re.compile(rf"(?:\A|\()\s*(?:{'|'.join(_STATEMENTS)})", re.DOTALL)
"""A statement, or a clause of one."""


def sql_in_python(tree: Tree) -> list[str]:
    """Places with SQL in a text of Python that is not a docstring."""
    return [
        f"{place}:{line}: {' '.join(text.split())[:60]}"
        for place, source in tree.items()
        for line, text in texts(source)
        if SQL.search(text.lower() if text.split()[:1] and text.split()[0].isupper() else text)
    ]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The texts that a source has, but for docstrings; a text with values in it as one, with `_` in their place."""
    root = ast.parse(source)
    skipped: set[ast.AST] = set()
    for node in ast.walk(root):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and node not in skipped:
            if isinstance(node.value, str):
                yield node.lineno, node.value
            elif isinstance(node.value, bytes):
                yield node.lineno, node.value.decode("latin-1")
