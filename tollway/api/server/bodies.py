"""
JSON bodies: read once, strictly, as the type that a handler asks for.

Strictly means that a number is not read from a text, nor an instant from a number: what is taken is what the API's
description says. A body has to be declared as JSON, which also keeps pages of other sites from posting to an API on
this machine: a browser asks before it sends that.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import msgspec
from litestar import Request

from config.limits import BODY_BYTES, BODY_DEPTH
from rating.events import BYTE_ORDER_MARK, is_deeper
from tollway.api.server.encoding import encoding_of, unpacked
from tollway.ledger_reads import is_storable
from tollway.openmeter import codec
from tollway.openmeter.dialect import dialect_of
from tollway.openmeter.problems import Invalid, Problem

JSON: Final = "application/json"


_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_FIELD: Final = re.compile(r"^Object (?:contains|missing) (?P<what>unknown|required) field `(?P<field>[^`]*)`$")
_CODES: Final = {"unknown": "unknown_property", "required": "required"}


class JsonRequest(Request[Any, Any, Any]):
    """A request whose body, where a handler takes one, is JSON."""

    async def json(self) -> Any:
        """The body as the handler's type. Raises `Problem`."""
        media_type = self.content_type[0].lower()
        if media_type != JSON:
            raise Problem(415, f"expected `{JSON}`, got `{media_type[:80]}`")
        field = self.route_handler.parsed_data_field
        assert field is not None, "only a handler with a body asks for it"
        encoding = encoding_of(self)
        body = await self.body()
        sent = body if encoding is None else unpacked(body, BODY_BYTES)
        dialect = dialect_of(self.route_handler)
        if dialect is None:
            return decoded(sent, field.annotation)
        return codec.taken(decoded(sent, codec.wire(field.annotation, dialect)), field.annotation)


def decoded(body: bytes, kind: Any) -> Any:
    """
    A body as a type.

    Raises:
        Problem: It is no JSON, or not of that type; the answer names the field.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    if is_deeper(body, BODY_DEPTH.number):
        message = f"expected {BODY_DEPTH} of arrays and objects, got more; {BODY_DEPTH.hint}"
        raise Problem(400, message, Invalid("$", "invalid", message))
    try:
        # A field that is skipped is not looked at by the decoder.
        text = body.decode()
        found = _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        invalid = _invalid(str(error))
        raise Problem(400, f"`{invalid.field}`: {invalid.message}", invalid) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # A decoder's own words name bytes and positions, but never what is there.
        message = f"expected JSON, got: {'nested too deeply' if isinstance(error, RecursionError) else error}"
        raise Problem(400, message, Invalid("$", "malformed", message)) from error
    if not is_storable(text) or ("\\u0000" in text and _has_nul(msgspec.json.decode(body))):
        message = "expected texts without a NUL in them"
        raise Problem(400, message, Invalid("$", "invalid", message))
    return found


def _invalid(said: str) -> Invalid:
    found = _PATH.match(said)
    assert found is not None, "anything matches"
    what, path = found["what"], (found["path"] or "").removeprefix(".")
    named = _FIELD.match(what)
    if named is None:
        return Invalid(path or "$", "invalid", what)
    return Invalid(".".join(filter(None, (path, named["field"]))), _CODES[named["what"]], what)


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(part) for item in value.items() for part in item)
        case list():
            return any(_has_nul(part) for part in value)
    return False


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
