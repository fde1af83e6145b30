"""State has one owner: the fields of an account are assigned in `rating/account.py`, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rating.account import Account, AccountState
from tests.docs.pages import ROOT

OWNER: Final = ROOT / "rating" / "account.py"
CALLS: Final = ("append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update")
"""Methods that change a list or a dict."""
FIELDS: Final = {
    "account": set(vars(Account(AccountState("a")))),
    "state": set(AccountState.__struct_fields__),
}
"""By the name under which an object goes, as in `account.headroom` and `account.state.events`: its fields."""


def targets(node: ast.AST) -> list[ast.expr]:
    """What a statement assigns, deletes, or changes by a call."""
    match node:
        case ast.Assign(targets=found) | ast.Delete(targets=found):
            return [inner for one in found for inner in (one.elts if isinstance(one, ast.Tuple) else [one])]
        case ast.AugAssign(target=found_one) | ast.AnnAssign(target=found_one):
            return [found_one]
        case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in CALLS:
            return [changed]
    return []


def field_of(target: ast.expr) -> str | None:
    """The field of an account that an expression names, or an item of it; None where it names none."""
    while isinstance(target, ast.Subscript):
        target = target.value
    match target:
        case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=field):
            return f"{owner}.{field}" if field in FIELDS.get(owner, ()) else None
    return None


def assigned(text: str) -> Iterator[str]:
    """The fields of an account that a module changes."""
    for node in ast.walk(ast.parse(text)):
        for target in targets(node):
            if (field := field_of(target)) is not None:
                yield f"{node.lineno}: {field}" if isinstance(node, ast.stmt | ast.expr) else field


@pytest.mark.parametrize("folder", ["rating", "dataflows", "sinks", "tollway"])
def test_only_an_account_assigns_its_fields(folder: str) -> None:
    """All others call its methods."""
    paths: list[Path] = [path for path in (ROOT / folder).rglob("*.py") if path != OWNER]
    assert paths
    found = {str(path.relative_to(ROOT)): [*assigned(path.read_text())] for path in paths}
    assert {path: fields for path, fields in found.items() if fields} == {}


@pytest.mark.parametrize(
    "text",
    [
        "account.headroom = ZERO",
        "lane.account.headroom = ZERO",
        "first, account.dirty = 1, True",
        "account.state.events += 1",
        "state.charged += change",
        "account.coming[period.key] = epoch",
        "del account.periods[key]",
        "account.wanted.append(period)",
        "self.account.state.moves.pop(name, None)",
    ],
)
def test_an_assignment_elsewhere_is_found(text: str) -> None:
    """Planted into a module."""
    assert [*assigned(text)]


@pytest.mark.parametrize("text", ["left = account.headroom", "account.mark_dirty()", "period.dirty = True"])
def test_reading_and_calling_is_free(text: str) -> None:
    """Nothing is found where nothing is assigned."""
    assert [*assigned(text)] == []
