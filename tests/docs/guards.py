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


KEYS_OF_REDIS: Final = "sinks/redis/keys.py"
KEYS_OF_THE_GATE: Final = "tollway/gate/"
"""It stands alone in other processes, and says by itself what it reads."""


def redis_keys_elsewhere(tree: Tree) -> list[str]:
    """Places that name a key of Redis by themselves."""
    return [
        f"{place}:{line}: {text}"
        for place, source in tree.items()
        if place != KEYS_OF_REDIS and not place.startswith(KEYS_OF_THE_GATE)
        for line, text in texts(source)
        if text.startswith("tollway:")
    ]


PURE_MODULES: Final = frozenset(
    {
        *("__future__", "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum"),
        *(
            "functools",
            "hashlib",
            "heapq",
            "itertools",
            "json",
            "math",
            "operator",
            "re",
            "traceback",
            "typing",
            "zlib",
        ),
        *("msgspec", "xxhash"),
    }
)
"""What the core may import besides itself: nothing of it reads, writes, waits, draws lots or tells the time."""
_IMPURE_NAMES: Final = frozenset({"open", "print", "input", "exec", "eval", "__import__", "float"})
_CLOCKS: Final = frozenset({"now", "utcnow", "today"})


def impure(tree: Tree) -> list[str]:
    """What reads, writes, tells the time or computes with floats."""
    return [f"{place}:{line}: {what}" for place, source in tree.items() for line, what in _impure(ast.parse(source))]


def _impure(root: ast.AST) -> Iterator[tuple[int, str]]:
    own = "rating"
    for node in ast.walk(root):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names if not _is_pure(name.name, own))
            case ast.ImportFrom(module=str(module)) if not _is_pure(module, own):
                yield node.lineno, module
            case ast.Call(func=ast.Name(id=name)) if name in _IMPURE_NAMES:
                yield node.lineno, f"{name}()"
            case ast.Call(func=ast.Attribute(attr=name, value=ast.Name(id="datetime" | "date"))) if name in _CLOCKS:
                yield node.lineno, f"datetime.{name}()"
            case ast.Constant(value=float() as number):
                yield node.lineno, f"the float {number}"


def _is_pure(module: str, own: str) -> bool:
    return module.partition(".")[0] in PURE_MODULES | {own}


LINES_MAX: Final = 50
"""Of a function, from its `def` on, without its docstring and what is defined inside of it."""


def long_functions(tree: Tree) -> list[tuple[int, str]]:
    """Functions of more than `LINES_MAX` lines, with their lengths, the longest first."""
    found = []
    for place, source in tree.items():
        for name, function in _functions(ast.parse(source), ""):
            length = _length(function)
            if length > LINES_MAX:
                found.append((length, f"{place} {name}"))
    return sorted(found, reverse=True)


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(parent):
        name = f"{prefix}{node.name}." if isinstance(node, Function | ast.ClassDef) else prefix
        if isinstance(node, Function):
            yield name.rstrip("."), node
        yield from _functions(node, name)


def _length(function: Function) -> int:
    inner = [node for node in ast.walk(function) if isinstance(node, Function) and node is not function]
    outermost = [one for one in inner if not any(one is not other and one in ast.walk(other) for other in inner)]
    length = _lines(function) - sum(map(_lines, outermost))
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    return length - _lines(first) if has_docstring else length


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def longer_than_recorded(found: list[tuple[int, str]], recorded: list[int]) -> list[str]:
    """
    Functions that are longer than the one that was recorded in their place, by length.

    Names do not matter, so that a function may be renamed and moved.
    """
    allowed = [*sorted(recorded, reverse=True), *([LINES_MAX] * len(found))]
    return [
        f"{name}: {length} lines, expected at most {limit}"
        for (length, name), limit in zip(found, allowed, strict=False)
        if length > limit
    ]


SLEEPS_BY_RIGHT: Final = {
    "tests/waiting.py": "it is what the others wait by",
    "tests/bench.py": "no test: it paces what it measures",
    "tests/api/test_async_client.py": "it waits in an event loop, and times what it reads",
    "tests/api/test_many_clients.py": "each client comes again when it was told to",
}
"""Of the tests, those that may sleep, and why."""


def bare_sleeps(tree: Tree) -> list[str]:
    """Calls of `sleep` in tests: `wait_for` waits for a condition, and `let_pass` says why time has to pass."""
    return [
        f"{path}:{node.lineno}"
        for path, source in tree.items()
        if path not in SLEEPS_BY_RIGHT
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _called(node.func) == "sleep"
    ]


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def our_tests() -> dict[str, str]:
    """The text of each file of the tests by path, but for cases, which are kept as they were reported."""
    paths = (ROOT / "tests").rglob("*.py")
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    return {path: text for path, text in found.items() if not path.startswith("tests/cases/")}
