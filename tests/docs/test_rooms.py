"""Who may import whom: each room stands on those below it, and no module on itself by a detour."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import ROOT

FOLDERS: Final = ("config", "rating", "sinks", "dataflows", "tollway")
MAY_IMPORT: Final[Mapping[str, tuple[str, ...]]] = {
    "rating": (),
    "config": ("rating",),
    "sinks": ("rating", "config"),
    "dataflows": ("rating", "config", "sinks"),
    "tollway/storable.py": (),
    "tollway/instants.py": (),
    "tollway/gate": (),
    "tollway/gate/projection.py": ("rating", "sinks"),
    "tollway/embedded": ("config", "sinks"),
    "tollway/control": ("rating", "config", "sinks", "tollway.storable"),
    "tollway/ledger_reads": ("rating", "sinks", "tollway.storable"),
    "tollway/catalog_file": ("rating", "config", "sinks", "tollway.control", "tollway.instants"),
    "tollway/invoicing": ("rating", "sinks", "tollway.ledger_reads"),
    "tollway/batch.py": ("rating", "dataflows", "tollway.invoicing", "tollway.ledger_reads"),
    "tollway/api": (
        *("rating", "config", "sinks", "tollway.control", "tollway.ledger_reads", "tollway.invoicing"),
        *("tollway.openmeter", "tollway.gate.projection"),
    ),
    "tollway/openmeter/shapes.py": (),
    "tollway/openmeter/dialect.py": ("rating",),
    "tollway/openmeter/codec.py": ("tollway.openmeter.dialect", "tollway.openmeter.shapes"),
    "tollway/openmeter/routes.py": tuple(f"tollway.openmeter.{name}" for name in ("codec", "dialect", "threads")),
    "tollway/openmeter": (
        *("rating", "config", "sinks.postgres", "tollway.control", "tollway.ledger_reads", "tollway.invoicing"),
        "tollway.gate.projection",
    ),
}
"""What of ours a folder or a file may import; the longest that fits holds."""


@cache
def modules() -> dict[str, Path]:
    """All modules by name."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(text: str, known: Mapping[str, object]) -> Iterator[str]:
    """The modules of ours that a text imports when it runs, and not only to say what types are."""
    tree = ast.parse(text)
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            inner = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else module for name in inner if module in known or name in known)


def forbidden(place: str, text: str, known: Mapping[str, object]) -> list[str]:
    """What a file imports and may not."""
    rules = [room for room in MAY_IMPORT if place == room or place.startswith(f"{room}/")]
    if not rules:
        return []
    room = max(rules, key=len)
    own = () if room.endswith(".py") else (room.replace("/", "."),)
    allowed = (*MAY_IMPORT[room], *own)
    return [name for name in imports(text, known) if not any(f"{name}.".startswith(f"{one}.") for one in allowed)]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_is_below_it(room: str) -> None:
    """No file of it imports anything else of ours."""
    places = {str(path.relative_to(ROOT)): path for path in modules().values()}
    mine = {place: path for place, path in places.items() if place == room or place.startswith(f"{room}/")}
    assert mine
    assert {
        place: found for place, path in mine.items() if (found := forbidden(place, path.read_text(), modules()))
    } == {}


def circle(texts: Mapping[str, str]) -> list[str]:
    """Modules, by name, that import each other in a circle; none where they can be put in an order."""
    graph = {name: set(imports(text, texts)) - {name} for name, text in texts.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_module_imports_itself_by_a_detour() -> None:
    """Modules can be put in an order in which each imports only those before it."""
    assert circle({name: path.read_text() for name, path in modules().items()}) == []


def test_a_detour_is_found() -> None:
    """Planted, over three modules; an import for types alone is none."""
    typed = "if TYPE_CHECKING:\n    import a\n"
    assert circle({"a": "import b", "b": "from c import x", "c": typed}) == []
    assert set(circle({"a": "import b", "b": "from c import x", "c": "import a"})) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("rating/new.py", "from sinks.metrics import x"),
        ("sinks/new.py", "import tollway.control"),
        ("dataflows/new.py", "from tollway.control import Changes"),
        ("tollway/gate/new.py", "import sinks.metrics"),
        ("tollway/control/new.py", "from tollway.ledger_reads import rows"),
        ("tollway/ledger_reads/new.py", "import tollway.invoicing.model"),
        ("tollway/invoicing/new.py", "from tollway.openmeter import codec"),
        ("tollway/api/new.py", "import tollway.commands.serving"),
        ("tollway/openmeter/codec.py", "from tollway.openmeter import wire"),
        ("tollway/openmeter/new.py", "from tollway.api.server.app import create_app"),
    ],
)
def test_an_import_that_should_not_be_is_found(place: str, text: str) -> None:
    """Planted into a room."""
    assert forbidden(place, text, dict.fromkeys((*modules(), "sinks.metrics")))
