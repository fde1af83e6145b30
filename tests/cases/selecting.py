"""Paths into a result, as `case.json` writes them."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

ABSENT = "nothing"
_STEP = re.compile(r"\[(?P<choice>[^\]]*)\]|(?P<name>[^.\[\]]+)")


def select(document: Any, path: str) -> Any:
    """
    What a result has at a path.

    A name steps into an object, or into the only item of a list; `[2]` takes an item by its position, `[key=value,…]`
    keeps the items that match, and `#` counts them.
    """
    found = document
    for step in _STEP.finditer(path):
        choice, name = step["choice"], step["name"]
        if name == "#":
            found = len(found)
        elif choice is not None and re.fullmatch(r"-?\d+", choice):
            found = found[int(choice)]
        elif choice is not None:
            wanted = dict(pair.split("=", 1) for pair in choice.split(","))
            found = [item for item in found if all(str(item.get(key)) == text for key, text in wanted.items())]
        else:
            if isinstance(found, list):
                if len(found) != 1:
                    return f"{len(found)} items"
                found = found[0]
            found = found.get(name, ABSENT) if isinstance(found, dict) else ABSENT
    return found


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal; numbers and decimals are by value, however they are written."""
    if one == other:
        return True
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    try:
        return Decimal(str(one)) == Decimal(str(other))
    except InvalidOperation:
        return False
