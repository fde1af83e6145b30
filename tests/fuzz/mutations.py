"""
Events, messages and catalog files that are nearly right: spoilt in one to three places, the same for a seed.

An event comes in each of its forms: a line of a file, a message in structured, binary or batch mode, a body with one
event or many.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tests.api.fuzzing import DURATIONS, INSTANTS, TEXTS, nasty, spoilt, written

CUSTOMERS: Final = 20
"""Those of `tests.world`, with two subjects each."""

MESSAGES: Final = [
    "x - at `$.foo`", "Expected `str`, got `int` - at `$.id`", "Object missing required field `id`", "{braces} %s",
    " leading", "trailing ", "a\nb", "a\r\nb", "\x0b", "\x0c", "\ufeff", "$", "$.data", "a" * 320, "a" * 321,
]  # fmt: skip
"""Texts that look like what a decoder says, or that stand at an edge."""

VALUES: Final[list[Any]] = [
    0, 1, -1, 2**53, 2**63, 2**64, 10**99, 10**100, 0.5, 1e-7, 1.0, "1", "1.50", "-0", " 1", "1e5", "1e400", "NaN",
    "9" * 101, None, True, [], {}, [1], {"n": 1}, "acme", "",
]  # fmt: skip
"""Of a field that a meter reads."""

STRUCTURED: Final = ("content-type", b"application/cloudevents+json")
BATCH: Final = ("content-type", b"application/cloudevents-batch+json")
JSON: Final = ("content-type", b"application/json")

Headers = list[tuple[str, bytes]]


class Message(Struct, frozen=True):
    """A message of a topic."""

    value: bytes | None
    headers: Headers


def event(number: int, chance: random.Random, now: datetime) -> dict[str, Any]:
    """An event that counts, now and then with the id of one before it."""
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"f{number if chance.random() < 0.97 else chance.randrange(number + 1)}",
        "source": chance.choice(("fuzz", "fuzz", "other")),
        "subject": f"s{chance.randrange(CUSTOMERS)}{chance.choice('ab')}" if chance.random() < 0.95 else "nobody",
        "time": (now - timedelta(seconds=chance.random() * 86_400)).isoformat(),
    }
    match chance.randrange(4):
        case 0:
            return found | {"type": "call", "data": {}}
        case 1:
            return found | {"type": "store", "data": {"gigabytes": chance.choice(VALUES)}}
        case _:
            data = {"kind": chance.choice(("input", "output", "else", 1, None)), "tokens": chance.choice(VALUES)}
            return found | {"type": "prompt", "data": data}


def mutated(number: int, chance: random.Random, now: datetime) -> Any:
    """An event with something nasty in it, one to three times."""
    value: Any = event(number, chance, now)
    for _ in range(chance.choice((1, 1, 2, 3))):
        kind = chance.random()
        if not isinstance(value, dict) or kind < 0.3:
            value = spoilt(value, chance)
            continue
        name = chance.choice(("specversion", "id", "source", "type", "subject", "time", "data", "data", "extension"))
        texts = INSTANTS if name == "time" else MESSAGES
        value = value | {name: chance.choice(texts) if kind < 0.8 else nasty(chance)}
    return value


def line(number: int, chance: random.Random, now: datetime) -> bytes:
    """The bytes of one: a line of a file, or the body of a request."""
    return written(mutated(number, chance, now), chance)


def body(number: int, count: int, chance: random.Random, now: datetime) -> bytes:
    """A body with so many, of which few are bad: a bad one refuses all others."""
    members = [
        json.dumps(event(number + index, chance, now), ensure_ascii=chance.random() < 0.5).encode()
        for index in range(count)
    ]
    if chance.random() < 0.4:
        members[chance.randrange(count)] = line(number, chance, now)
    separator = chance.choice((b",", b", ", b",\n"))
    found = b"[" + separator.join(members) + b"]"
    return found if chance.random() < 0.97 else found[: chance.randrange(len(found))]


def message(number: int, chance: random.Random, now: datetime) -> tuple[Message, int]:
    """A message in one of the three modes, and how many events it was meant to have."""
    kind = chance.random()
    if kind < 0.4:
        return Message(line(number, chance, now), [STRUCTURED] if chance.random() < 0.5 else []), 1
    if kind < 0.8:
        return _binary(number, chance, now), 1
    count = chance.randrange(1, 20)
    return Message(body(number, count, chance, now), [BATCH]), count


def _binary(number: int, chance: random.Random, now: datetime) -> Message:
    found = event(number, chance, now)
    data = found.pop("data")
    headers: Headers = [(f"ce_{name}", str(text).encode()) for name, text in found.items()]
    value = json.dumps(data).encode()
    for _ in range(chance.choice((1, 1, 2))):
        place = chance.randrange(len(headers))
        name, text = headers[place]
        match chance.randrange(6):
            case 0:
                del headers[place]
            case 1:
                headers[place] = (name, chance.choice((b"\xff", b"", b"\0", b"a\nb", *map(_bytes, MESSAGES))))
            case 2:
                headers.insert(place, (name.upper() if chance.random() < 0.5 else "ce_data", text))
            case 3:
                headers.append(("ce_" + chance.choice(MESSAGES).replace("\0", ""), b"x"))
            case 4:
                value = written(spoilt(data, chance), chance)
            case _:
                value = chance.choice((b"", b" \n", b"null", b"\xff\xfe", b"{", b'{"a":1},"id":"other"', b"\0"))
        if not headers:
            break
    if chance.random() < 0.9:
        headers.append(JSON)
    return Message(value if chance.random() < 0.98 else None, headers)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


FOLDER: Final = Path(__file__).parents[2] / "config" / "catalog"


class Catalogs:
    """Makes catalog files out of the examples: values, keys and lines of theirs exchanged, doubled, cut off, spoilt."""

    def __init__(self) -> None:
        self._examples = [path.read_text() for path in sorted(FOLDER.glob("*.yaml"))]

    def make(self, chance: random.Random) -> str:
        """One file."""
        lines = chance.choice(self._examples).splitlines()
        for _ in range(chance.choice((1, 1, 2, 3))):
            self._spoil(lines, chance)
        text = "\n".join(lines) + "\n"
        if chance.random() < 0.02:
            text = text[: chance.randrange(len(text))]
        return text

    def _spoil(self, lines: list[str], chance: random.Random) -> None:
        place = chance.randrange(len(lines))
        found = lines[place]
        name, colon, value = found.partition(": ")
        match chance.randrange(9):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, found)
            case 2:
                lines[place] = "  " + found
            case 3:
                other = chance.randrange(len(lines))
                lines[place], lines[other] = lines[other], lines[place]
            case 4 if colon:
                borrowed = chance.choice(lines).partition(": ")[2] or value
                lines[place] = f"{name}: {borrowed}"
            case 5 if colon:
                text = chance.choice((*DURATIONS, *INSTANTS, "credit_only", "credit_then_invoice", "SUM", "MAX"))
                lines[place] = f"{name}: {text}"
            case 6:
                indent = " " * (len(found) - len(found.lstrip()))
                lines.insert(place, f"{indent}{chance.choice(FIELDS)}: {self._value(chance)}")
            case _ if colon:
                lines[place] = f"{name}: {self._value(chance)}"
            case _:
                lines[place] = found[: chance.randrange(len(found) + 1)]
        if not lines:
            lines.append("")

    def _value(self, chance: random.Random) -> str:
        kind = chance.random()
        if kind < 0.3:
            return str(chance.choice((0, 1, "0.5", "1e-7", "9" * 100, "9" * 101, "-1", "0x1", "1_0", ".5", "~", "yes")))
        if kind < 0.6:
            text = chance.choice((*TEXTS, *MESSAGES))
            return json.dumps(text, ensure_ascii=chance.random() < 0.5).encode(errors="replace").decode()
        return chance.choice(
            (
                "[]",
                "{}",
                "[[[]]]",
                "{a: {b: 1}}",
                "&a [*a]",
                "!!python/object:os.system x",
                "[" * 40 + "]" * 40,
                "|\n  x",
            )
        )


FIELDS: Final = (
    "key", "name", "cadence", "currency", "price", "type", "amount", "tiers", "up_to_amount", "unit_price",
    "flat_price", "feature", "meter", "event_type", "aggregation", "value_property", "group_by", "filters", "grants",
    "effective_at",
    "expires_at", "priority", "features", "subscription", "plan", "from", "to", "subjects", "low_balance_thresholds",
    "minimum", "maximum", "discount", "duration", "phases", "prorate", "billing_anchor", "deleted", "unheard_of",
)  # fmt: skip


def start_of(now: datetime | None = None) -> datetime:
    """The present to the second."""
    return (now or datetime.now(UTC)).replace(microsecond=0)
