"""
From a struct in v3's words to the one that a dialect reads or writes; from values of one to values of the other.

msgspec decodes and encodes the derived structs as any other: what is wrong with a request is said in the names that
were sent, and the API's description follows from the same types.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

from tollway.openmeter.dialect import V1, Dialect
from tollway.openmeter.shapes import Body

T = TypeVar("T")


def wire(kind: Any, dialect: Dialect) -> Any:
    """The type as which a dialect reads or writes a type: the type itself where nothing in it differs."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(origin or kind, type) and issubclass(origin or kind, Struct):
        return _struct(kind, dialect)
    if origin is None or origin is Literal:
        return kind
    if origin is Annotated:
        return Annotated[(wire(parts[0], dialect), *parts[1:])]
    inner = tuple(wire(part, dialect) for part in parts)
    if inner == parts:
        return kind
    return reduce(or_, inner) if origin in (Union, UnionType) else origin[inner]


@cache
def _struct(kind: Any, dialect: Dialect) -> Any:
    owner = get_origin(kind) or kind
    config = owner.__struct_config__
    skips_unknown = dialect.skips_unknown and issubclass(owner, Body)
    names, definitions, differs = {}, [], skips_unknown
    for field in _fields_in(kind, dialect):
        inner = dialect.types.get(f"{owner.__name__}.{field.name}", field.type)
        names[field.name] = dialect.name_of(owner.__name__, field.encode_name)
        is_sent = f"{owner.__name__}.{field.name}" in dialect.required
        definitions.append(_definition(field, wire(inner, dialect), is_sent))
        differs |= is_sent or names[field.name] != field.encode_name or definitions[-1][1] != field.type
    if not differs and len(definitions) == len(fields(kind)):
        return kind
    return msgspec.defstruct(
        "".join([owner.__name__, *(f"_{part.__name__}_" for part in get_args(kind)), dialect.suffix]),
        definitions,
        rename=names,
        tag=config.tag,
        tag_field=config.tag_field,
        omit_defaults=config.omit_defaults,
        forbid_unknown_fields=config.forbid_unknown_fields and not skips_unknown,
        kw_only=True,
        frozen=True,
        namespace={"__doc__": owner.__doc__} | ({config.tag_field: config.tag} if config.tag_field else {}),
    )


def _fields_in(kind: Any, dialect: Dialect) -> list[FieldInfo]:
    """The fields that a dialect has: one whose name it gives to another field is an alias of that, and left out."""
    owner = (get_origin(kind) or kind).__name__
    known = [field for field in fields(kind) if f"{owner}.{field.name}" not in dialect.without]
    called = {field.name: dialect.name_of(owner, field.encode_name) for field in known}
    given = {name for field, name in called.items() if dialect.names_itself(owner, field)}
    return [field for field in known if dialect.names_itself(owner, field.name) or called[field.name] not in given]


def _definition(field: FieldInfo, kind: Any, is_sent: bool) -> tuple[Any, ...]:
    if field.default_factory is not NODEFAULT:
        return field.name, kind, msgspec.field(default_factory=field.default_factory)
    is_required = is_sent or field.required or (field.default is None and type(None) not in get_args(kind))
    return (field.name, kind) if is_required else (field.name, kind, field.default)


def taken(sent: Any, kind: type[T]) -> T:
    """What was decoded as the type of a dialect, as the type that a handler takes."""
    return msgspec.convert(sent, kind, from_attributes=True)


def shown(view: Any, kind: Any, dialect: Dialect) -> Any:
    """What a handler answers, as the type of a dialect."""
    return msgspec.convert(view, wire(kind, dialect), from_attributes=True)


def of_v1(written: Any, kind: Any) -> Any:
    """What is written as v1 does, as the type that a handler takes or answers."""
    return taken(msgspec.convert(written, wire(kind, V1)), kind)


def decode_v1(text: str, kind: type[T]) -> T:
    """The same of JSON."""
    return taken(msgspec.json.decode(text, type=wire(kind, V1)), kind)


def encode_v1(said: Any) -> str:
    """The JSON in which `decode_v1` finds the same."""
    return msgspec.json.encode(shown(said, type(said), V1)).decode()
