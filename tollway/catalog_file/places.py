"""
Where things are in a catalog file: errors carry the path and the line of what was written.

What reads a file and what applies it raise errors of their own kinds, with paths as they know them. Here
these become the path in the file, by the names that fields have there, and the line that it is on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Final

from rating.fields import PriceError
from rating.meters import MeterError
from tollway.control import ControlCode, ControlError

_CAPITAL: Final = re.compile(r"(?<=[a-z])[A-Z]")
_FIELD_IN_FILE: Final = {
    "meter_key": "meter",
    "feature_key": "feature",
    "active_from": "from",
    "pricing.currency": "price",
}


class CatalogFileError(ControlError):
    """A catalog file that can't be opened, is no YAML, or says something that can't be used."""

    def __init__(self, what: str, path: str, hint: str, line: int | None = None) -> None:
        super().__init__(ControlCode.INVALID, what, path, hint, line)


@contextmanager
def located(lines: dict[str, int]) -> Iterator[None]:
    """Tell errors of reading as `CatalogFileError`, with the line."""
    try:
        yield
    except PriceError as error:
        path, what = error.path, error.what
        if path not in lines:
            # The core calls what is missing by its name in v1, and a tier's price is an object to it.
            path = _snake(path)
            if path.endswith(("unit_price.amount", "flat_price.amount")):
                path = path.removesuffix(".amount")
        misspelt = _misspelt(path, lines)
        if misspelt is not None:
            parent, _, name = path.rpartition(".")
            hint = f"did you mean `{name}` where `{misspelt}` is? If not, {_snake(error.hint)}"
            raise CatalogFileError(what, path, hint, lines[f"{parent}.{misspelt}"]) from error
        raise error_at(what, path, _snake(error.hint), lines) from error


def _misspelt(path: str, lines: dict[str, int]) -> str | None:
    """Of a field that is missing, the name beside it in the file that may be meant for it."""
    if path in lines:
        return None
    parent, _, name = path.rpartition(".")
    beside = (other.removeprefix(f"{parent}.") for other in lines if other.startswith(f"{parent}."))
    found = get_close_matches(name, [one for one in beside if "." not in one and "[" not in one], n=1, cutoff=0.75)
    return found[0] if found else None


@contextmanager
def meter_errors_at(path: str) -> Iterator[None]:
    """Tell what a meter or feature says of itself with the path in the file, as an error of reading."""
    try:
        yield
    except MeterError as error:
        raise PriceError(error.what, f"{path}.{name_in_file(error.path)}", error.hint) from error


def check_keys_differ(keys: Sequence[str | None], path: str, lines: dict[str, int]) -> None:
    """Check that no key is there twice in the list at `path`. Raises `CatalogFileError`."""
    first: dict[str | None, int] = {}
    for index, key in enumerate(keys):
        if key in first:
            hint = f"the first one is `{path}[{first[key]}]`: remove or rename one"
            raise error_at(f"expected each key once, got `{key}` again", f"{path}[{index}].key", hint, lines)
        first[key] = index


def error_at(what: str, path: str, hint: str, lines: dict[str, int]) -> CatalogFileError:
    """The error of a path, with its line."""
    return CatalogFileError(what, path, hint, line_of(path, lines))


def line_of(path: str, lines: dict[str, int]) -> int | None:
    """The line of a path, or of the nearest one around it that is in the file."""
    while path not in lines:
        shorter = path[: max(path.rfind("."), path.rfind("["))]
        if not path or shorter == path:
            return None
        path = shorter
    return lines[path]


def name_in_file(path: str) -> str:
    """The path as a file has it, from that of a field of the catalog."""
    for name, in_file in _FIELD_IN_FILE.items():
        if path == name or path.endswith(f".{name}"):
            return path.removesuffix(name) + in_file
    return path


def _snake(text: str) -> str:
    return _CAPITAL.sub(lambda capital: "_" + capital[0].lower(), text)
