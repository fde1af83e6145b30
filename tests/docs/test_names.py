"""One name, one thing: no two classes of the project have the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import pytest

from tests.docs.guards import sources

SHOWN: Final = ("tollway/openmeter/", "tollway/api/routes/", "tollway/gate/projection.py")
"""What the API takes and shows is called there as the resource is, in the dialect's words: it is in its description."""


def twice(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Public classes that have the name of another one, and where they are; what is shown may be called as it is."""
    found: dict[str, list[str]] = defaultdict(list)
    for place, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(place)
    return {name: places for name, places in found.items() if len(places) > 1 and not _is_shown(places)}


def _is_shown(places: list[str]) -> bool:
    """Whether one of two is a thing, and the other what the API shows of it."""
    shown = sum(place.startswith(SHOWN) for place in places)
    return shown <= 1 and len(places) - shown <= 1


def test_no_two_classes_have_one_name() -> None:
    """But for what the API shows of it."""
    assert twice(sources()) == {}


@pytest.mark.parametrize(
    "texts",
    [
        {"rating/a.py": "class Grant: ...", "dataflows/b.py": "class Grant: ..."},
        {"tollway/openmeter/a.py": "class Grant: ...", "tollway/api/routes/b.py": "class Grant: ..."},
        {"rating/a.py": "class Grant: ...\ndef f():\n    class Grant: ..."},
    ],
)
def test_a_second_class_of_a_name_is_found(texts: dict[str, str]) -> None:
    """Planted: in another room, on two pages of the API, in one module."""
    assert [*twice(texts)] == ["Grant"]


def test_what_the_api_shows_may_be_called_as_it_is() -> None:
    """A customer is a `Customer` in the core, and in the description of the API."""
    assert twice({"rating/a.py": "class Customer: ...", "tollway/openmeter/b.py": "class Customer: ..."}) == {}
