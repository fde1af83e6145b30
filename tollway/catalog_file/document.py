"""
The YAML of a catalog file, as texts, lists and mappings, and the line that each of them is on.

All scalars are kept as the text they were written in, so that no amount ever is a float: `0.1` and `"0.1"`
are the same amount, and `1e-7`, `010` and `2026-03-01` are not guessed at. Only true, false and null stand
for something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml

from config.limits import FILE_BYTES, FILE_DEPTH
from tollway.catalog_file.places import CatalogFileError

_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Knows texts, lists and mappings only, whatever tags a file has; in C where that is there."""

_WORDS: Final = {"": None, "~": None, "null": None, "true": True, "false": False}


def read_yaml(text: str | bytes, lines: dict[str, int]) -> object:
    """What a YAML document holds; the line of each path is put into `lines`. Raises `CatalogFileError`."""
    if len(text) > FILE_BYTES.number:
        hint = f"split it in several; {FILE_BYTES.hint}"
        raise CatalogFileError(f"expected {FILE_BYTES}, got {len(text)}", "$", hint)
    try:
        return _YamlReader(text, lines).read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it has a character that YAML does not allow"
        line = None if mark is None else mark.line + 1
        hint = "correct the YAML; a text with special characters goes in quotes"
        raise CatalogFileError(f"this is no YAML: {problem}", "$", hint, line) from error


class _YamlReader:
    """
    Builds a document from the parser's events: texts, lists and mappings, true, false and None.

    Not from its nodes, since these are built by a recursion in C that deep nesting can crash.
    """

    def __init__(self, text: str | bytes, lines: dict[str, int]) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
        self._lines = lines
        self._anchored: dict[str, object] = {}

    def read(self) -> object:
        """The document; None for an empty file."""
        next(self._events)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), "$", 0)
        next(self._events)
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            line = event.start_mark.line + 1
            raise CatalogFileError("expected one document, got another", "$", "split the file in two", line)
        return value

    def _value(self, event: Any, path: str, depth: int) -> object:
        line = event.start_mark.line + 1
        self._lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchored:
                hint = f"write &{event.anchor} before the value that is meant, and before this place"
                raise CatalogFileError(f"expected the name of an anchor, got *{event.anchor}", path, hint, line)
            return self._anchored[event.anchor]
        if event.tag is not None:
            hint = f"remove {event.tag[:40]}: what each field is follows from its name"
            raise CatalogFileError("expected a value without a tag", path, hint, line)
        if depth >= FILE_DEPTH.number and not isinstance(event, yaml.ScalarEvent):
            hint = f"a catalog has no use for that: see config/catalog/ for examples; {FILE_DEPTH.hint}"
            raise CatalogFileError(f"expected {FILE_DEPTH}, got more", path, hint, line)
        match event:
            case yaml.ScalarEvent():
                value: object = event.value if event.style else _WORDS.get(event.value, event.value)
            case yaml.SequenceStartEvent():
                value = self._list(path, depth)
            case _:
                value = self._mapping(path, depth)
        if event.anchor is not None:
            self._anchored[event.anchor] = value
        return value

    def _list(self, path: str, depth: int) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, f"{path}[{len(items)}]", depth + 1))
        return items

    def _mapping(self, path: str, depth: int) -> dict[str, object]:
        fields: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                hint = "start the line with a field's name and a colon"
                raise CatalogFileError("expected a name, got a value", path, hint, line)
            name = event.value
            here = f"{path}.{name[:64]}"
            if name in fields:
                hint = f"the first one is on line {self._lines[here]}: remove one"
                raise CatalogFileError("expected the field once, got it again", here, hint, line)
            self._lines[here] = line
            fields[name] = self._value(next(self._events), here, depth + 1)
        return fields
