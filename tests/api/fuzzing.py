"""
Requests that are nearly right: made from the API's own description, and then spoilt in one to three places.

What spoils them are the values that have broken others: numbers that are too long or not finite, instants at and beyond
the ends of the years, texts with NUL, half a surrogate pair or bytes that are no UTF-8, nesting without end, cursors
and pages of nowhere, names that look like other names, and bytes that were flipped, cut off or put twice.
"""

from __future__ import annotations

import json
import random
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

DEEP: Final = "\x00deep"
"""Stands in a body for JSON that nests deeply, which `json` itself could not write."""

TEXTS: Final = [
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "null", "‮", "é" * 400, "x" * 2000, "' or 1=1 --", "../..",
    "%00", "%s%n", "{}", "[", "[]", "-1", "1e999", "NaN", "Infinity", "🪙", "9" * 101, "9" * 5000, "0." + "1" * 101,
    "1e-7", "-0", "00", "１２", "+1", "0x10", "1_000", " 1", "1\n", "acme", "calls", "basic", "USD", "ASC", "P1M",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV", "00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
]  # fmt: skip
INSTANTS: Final = [
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00",
    "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z", "3000-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z", "2026-03-01T12:00:60Z", "2026-03-01T12:00:00", "2026-03-01",
    "2026-03-01T12:00:00.9999999999Z",
    "2026-03-01T24:00:00Z", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "immediate", "next_billing_cycle",
]  # fmt: skip
DURATIONS: Final = [
    "P1M", "PT1S", "PT0.5S", "PT0.000000001S", "P0D", "P-1M", "P9999Y", "P999999999Y", "P" + "9" * 400 + "D", "PT1H",
    "P1Y1M1DT1H1M1S", "P1W", "P1W1D", "P", "PT", "P1.5M", "P3652059D", "PT9999999999999S",
]  # fmt: skip
NUMBERS: Final = [0, 1, -1, 100, 1000, 1001, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 0.5]
OTHERS: Final[list[Any]] = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"": ""},
    {"a": {"b": {"c": 1}}},
    [None],
    DEEP,
    1e308,
    float("nan"),
]
BYTES: Final = ["%ff", "%C0%80", "%ED%A0%80", "%00", "%2e%2e%2f", "%F4%90%80%80", "%25", "%0a", "a" * 5000, "%5B", "+"]
CURSORS: Final = [
    "",
    "AAAA",
    "=" * 10,
    "eyJ9",
    "bnVsbA==",
    "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw",
    "é",
    "W10=",
    "e30=",
]

USUAL: Final[dict[str, list[Any]]] = {
    "key": ["calls", "pro", "acme-2"],
    "slug": ["calls"],
    "meter_slug": ["calls"],
    "currency": ["USD"],
    "event_type": ["call"],
    "aggregation": ["COUNT", "sum"],
    "amount": ["5", "0.000001"],
    "billing_cadence": ["P1M"],
    "duration": ["P1M", None],
    "expires_after": ["P1M"],
    "customer_key": ["acme"],
    "feature_key": ["calls"],
    "timing": ["immediate", "next_billing_cycle"],
    "config": ['{"seats":1}'],
    "price": [
        {"type": "unit", "amount": "0.5"},
        {"type": "flat", "amount": "1"},
        {"type": "tiered", "mode": "graduated", "tiers": [{"unitPrice": {"type": "unit", "amount": "1"}}]},
    ],
    "entitlement_template": [{"type": "metered", "issueAfterReset": 10}, {"type": "static", "config": "{}"}],
    "unit_config": [{"operation": "divide", "conversionFactor": "1000", "rounding": "ceiling"}],
    "discounts": [{"percentage": 10}],
}
"""By field in snake_case: what makes sense there."""


class Sent(Struct, frozen=True):
    """A request as it goes over the wire."""

    method: str
    target: str
    body: bytes | None
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        body = "" if self.body is None else f" {self.body[:600]!r}"
        return f"{self.method} {self.target[:600]}{body}"


class Requests:
    """
    Makes requests.

    Args:
        description: The API's, as `/openapi.json` has it.
        known: What paths may name, by parameter.
    """

    def __init__(self, description: dict[str, Any], known: dict[str, list[str]]) -> None:
        self._schemas: dict[str, Any] = description["components"]["schemas"]
        self._known = known
        self._operations = [
            (method.upper(), path, operation)
            for path, operations in description["paths"].items()
            for method, operation in operations.items()
            if method in ("get", "post", "put", "delete")
        ]

    def make(self, chance: random.Random) -> Sent:
        """One request."""
        method, path, operation = chance.choice(self._operations)
        if method == "DELETE" and chance.random() < 0.9:
            method = "GET"  # so that there is something to ask for
        query: list[str] = []
        spoilt_path = chance.random() < 0.2
        for parameter in operation.get("parameters", []):
            name = parameter["name"]
            if parameter["in"] == "path":
                usual = chance.choice(self._known.get(name, ["x"]))
                text = _in_path(chance) if spoilt_path else quote(usual, safe="")
                path = path.replace(f"{{{name}}}", text)
            elif chance.random() < 0.4:
                query += [f"{quote(name)}={_in_query(chance, self._known)}"]
        if chance.random() < 0.05:
            query += [
                f"{quote(chance.choice(TEXTS), safe='', errors='ignore')}=1",
                "filter[key][eq]=x",
                "filter[%ff]=x",
            ]
        target = path + (f"?{'&'.join(query)}" if query else "")
        content = operation.get("requestBody", {}).get("content", {})
        if path.endswith("/events"):
            return Sent(method, target, written(spoilt(_events(chance), chance), chance), (_json(chance),))
        if not content or method in ("GET", "DELETE"):
            return Sent(method, target, None)
        value = self._value(next(iter(content.values()))["schema"], "", chance, 0)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            value = spoilt(value, chance)
        return Sent(method, target, written(value, chance), (_json(chance),))

    def _value(self, schema: dict[str, Any], name: str, chance: random.Random, depth: int) -> Any:
        """A value that a schema asks for."""
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].split("/")[-1]]
        if "oneOf" in schema or "anyOf" in schema:
            return self._value(chance.choice(schema.get("oneOf") or schema["anyOf"]), name, chance, depth)
        usual = USUAL.get("".join(f"_{c.lower()}" if c.isupper() else c for c in name))
        if usual is not None:
            return chance.choice(usual)
        if name in ("customerId", "customer_id"):
            return self._known["customer"][0]
        if "enum" in schema:
            return chance.choice(schema["enum"])
        match schema.get("type"):
            case "object" if "properties" in schema:
                required = schema.get("required", ())
                return {
                    key: self._value(inner, key, chance, depth + 1)
                    for key, inner in schema["properties"].items()
                    if key in required or chance.random() < 0.4
                }
            case "object":
                return {"a": "b"}
            case "array":
                return [
                    self._value(schema.get("items", {}), name, chance, depth + 1) for _ in range(chance.randint(1, 2))
                ]
            case "integer":
                return chance.choice((1, 2, 10))
            case "number":
                return 100
            case "boolean":
                return chance.random() < 0.5
            case "null":
                return None
        if schema.get("format") == "date-time":
            return "2026-12-01T00:00:00Z"
        return chance.choice(("acme", "calls", "Name", "1"))


def _json(chance: random.Random) -> tuple[str, str]:
    if chance.random() < 0.97:
        return ("content-type", "application/json")
    return (
        "content-type",
        chance.choice(("text/plain", "application/json; charset=utf-16", "é", "application/xml", "")),
    )


def _events(chance: random.Random) -> Any:
    event: dict[str, Any] = {"specversion": "1.0", "id": str(chance.random()), "source": "fuzz", "type": "call"}
    event |= {"subject": "acme", "data": {"tokens": 1}}
    return event if chance.random() < 0.5 else [event] * chance.randint(0, 3)


def nasty(chance: random.Random) -> Any:
    return chance.choice(chance.choice((TEXTS, TEXTS, INSTANTS, DURATIONS, NUMBERS, OTHERS, CURSORS)))


def _in_path(chance: random.Random) -> str:
    if chance.random() < 0.4:
        return chance.choice(BYTES)
    return quote(str(chance.choice((*TEXTS, *CURSORS)))[:5000].encode(errors="surrogatepass"), safe="") or "x"


def _in_query(chance: random.Random, known: dict[str, list[str]]) -> str:
    kind = chance.random()
    if kind < 0.15:
        return chance.choice(BYTES)
    if kind < 0.4:
        return chance.choice(["1", "2", "acme", "calls", "basic", "HOUR", "DAY", "UTC", "Etc/UTC", *known["customer"]])
    return quote(str(nasty(chance))[:5000].encode(errors="surrogatepass"), safe="")


def spoilt(value: Any, chance: random.Random) -> Any:
    """The value with something nasty somewhere in it."""
    match value:
        case dict() if value and chance.random() < 0.9:
            found = dict(value)
            key = chance.choice(list(found))
            kind = chance.random()
            if kind < 0.08:
                del found[key]
            elif kind < 0.16:
                found[str(chance.choice(TEXTS))] = nasty(chance)
            else:
                found[key] = spoilt(found[key], chance)
            return found
        case list() if value and chance.random() < 0.9:
            kind = chance.random()
            if kind < 0.1:
                return value * chance.choice((2, 60))
            place = chance.randrange(len(value))
            return [spoilt(one, chance) if index == place else one for index, one in enumerate(value)]
    return nasty(chance)


def written(value: Any, chance: random.Random) -> bytes:
    """JSON, mostly."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.7)
    depth = chance.choice((40, 60, 980, 5000, 100_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    text = text.replace(json.dumps(DEEP), opening * depth + "1" + closing * depth)
    body = text.encode(errors="surrogatepass")
    if chance.random() < 0.08 and body:
        place = chance.randrange(len(body))
        match chance.randrange(4):
            case 0:
                body = body[:place]
            case 1:
                body = body[:place] + bytes([chance.randrange(256)]) + body[place + 1 :]
            case 2:
                body = body[:place] + body[place : place + 20] + body[place:]
            case _:
                body = b"\xef\xbb\xbf" + body
    return body
