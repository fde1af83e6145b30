"""
How single fields of a catalog file are read: each is taken from its mapping, and refused if it is no such thing.

All scalars come as texts, so that what a field is follows from its name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, TypeVar

from rating.catalog import SettlementMode
from rating.fields import Fields, PriceError, unexpected
from tollway.control import MoveTiming
from tollway.instants import HOW, parse_instant

_T = TypeVar("_T")
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,8}")


def as_fields(value: object, path: str) -> Fields:
    """The fields of a mapping."""
    if not isinstance(value, dict):
        hint = "write fields and their values, as in key: pro"
        raise unexpected(path, "a mapping", value, hint)
    return Fields(value, path)


def take_each(fields: Fields, name: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
    """The items of a list, each read with its path; none if the field is not there."""
    value, path = fields.take(name)
    if value is None:
        return ()
    return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(as_list(value, path)))


def take_entries(fields: Fields, name: str) -> Iterator[tuple[str, object, str]]:
    """The names, values and paths of a mapping; none if the field is not there."""
    value, path = fields.take(name)
    if value is None:
        return
    if not isinstance(value, dict):
        raise unexpected(path, "a mapping", value, f"write {name} as in {name}: {{model: …}}")
    for key, item in value.items():
        yield key, item, f"{path}.{key}"


def take_texts(fields: Fields, name: str) -> tuple[str, ...]:
    """Texts, none if the field is not there."""
    return take_each(fields, name, as_text)


def take_text(fields: Fields, name: str) -> str:
    """A text that has to be there."""
    value, path = fields.take(name)
    return as_text(value, path)


def take_text_or_none(fields: Fields, name: str) -> str | None:
    """A text, if the field is there."""
    value, path = fields.take(name)
    return None if value is None else as_text(value, path)


def take_truth(fields: Fields, name: str) -> bool:
    """True or false, the latter if the field is not there."""
    value, path = fields.take(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise unexpected(path, "true or false", value, f"write {name}: true, without quotes")
    return value


def take_integer(fields: Fields, name: str) -> int | None:
    """An integer of at most nine digits, if the field is there."""
    value, path = fields.take(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise unexpected(path, "an integer", value, f"write {name} in digits only, as in {name}: 1")
    return int(value)


def take_instant(fields: Fields, name: str) -> datetime | None:
    """An instant with an offset, or a date for its start in UTC, if the field is there."""
    return _instant(*fields.take(name))


def _instant(value: object, path: str) -> datetime | None:
    if value is None:
        return None
    at = parse_instant(value) if isinstance(value, str) else None
    if at is None:
        raise unexpected(path, "an RFC 3339 instant with an offset", value, HOW)
    return at


def take_moment(fields: Fields, name: str) -> datetime | MoveTiming | None:
    """An instant as `take_instant` reads it, or a word for one, if the field is there."""
    value, path = fields.take(name)
    if isinstance(value, str) and value in tuple(MoveTiming):
        return MoveTiming(value)
    try:
        return _instant(value, path)
    except PriceError as error:
        words = ", ".join(f"`{word}`" for word in MoveTiming)
        raise unexpected(path, f"{words} or an RFC 3339 instant with an offset", value, error.hint) from None


def take_mode(fields: Fields) -> SettlementMode | None:
    """How charges are settled, if the file says."""
    mode = fields.choice("settlement_mode", tuple(SettlementMode), "")
    return SettlementMode(mode) if mode else None


def as_text(value: object, path: str) -> str:
    """The value, which has to be a text that is not empty."""
    if not isinstance(value, str) or not value:
        hint = "write a text here, in quotes if it is true, false or null"
        raise unexpected(path, "a text", value, hint)
    return value


def as_list(value: object, path: str) -> list[object]:
    """The value, which has to be a list."""
    if not isinstance(value, list):
        raise unexpected(path, "a list", value, "write each entry after a dash, or all in [brackets]")
    return value


def with_integer(value: object, name: str) -> object:
    """The mapping with a field that has to be an integer made one, if it looks like that."""
    if isinstance(value, dict) and isinstance(text := value.get(name), str) and _INTEGER.fullmatch(text):
        return value | {name: int(text)}
    return value
