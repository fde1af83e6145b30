"""
Reading a JSON object that people wrote: field by field, with an error that names the path.

A field may be written as OpenMeter's v1 writes it (`upToAmount`) or as its v3 does (`up_to_amount`). A field
that was never asked for is refused, since a misspelt maximum would otherwise be no maximum.
"""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Final

from rating.money import DIGITS_MAX, ZERO, is_within_bounds, parse_decimal
from rating.refusal import Refusal

_GOT_LENGTH_MAX: Final = 40
_CAPITAL: Final = re.compile("[A-Z]")


class PriceError(Refusal, ValueError):
    """A price, or what goes with it, that cannot be used as written."""


def unexpected(path: str, expected: str, got: object, hint: str) -> PriceError:
    """The error for a value that is not what its path asks for."""
    return PriceError(f"expected {expected}, got {_shown(got)}", path, hint)


def read_decimal(value: object, path: str) -> Decimal:
    """Read a decimal string, a JSON integer or an exact JSON decimal, 0 or more."""
    number = _number(value)
    if number is None or number < 0:
        hint = f'write a decimal string, as in "0.05", of at most {DIGITS_MAX} digits before and after the point'
        raise unexpected(path, "a decimal of 0 or more", value, hint)
    return number if number else ZERO


class Fields:
    """
    One JSON object: each field is taken once, then `end` refuses what is left.

    Fields are asked for by their v1 names; `in_snake_case` lists those that are known as v3 writes them.
    """

    def __init__(self, value: object, path: str, *, in_snake_case: bool = False) -> None:
        if not isinstance(value, dict):
            raise unexpected(path, "a JSON object", value, 'write it in braces, as in {"type": "free"}')
        self.path = path
        self._left: dict[object, object] = dict(value)
        self._known: list[str] = []
        self._in_snake_case = in_snake_case

    def take(self, name: str) -> tuple[object, str]:
        """The value of a field, None where it is missing, and its path as written."""
        snake = _CAPITAL.sub(lambda capital: "_" + capital[0].lower(), name)
        self._known.append(snake if self._in_snake_case else name)
        if snake != name and snake in self._left:
            if name in self._left:
                raise PriceError(
                    f"expected one of `{name}` and `{snake}`, got both",
                    self.path,
                    "remove one",
                )
            return self._left.pop(snake), f"{self.path}.{snake}"
        return self._left.pop(name, None), f"{self.path}.{name}"

    def decimal(self, name: str, default: Decimal | None = None) -> Decimal:
        """A decimal of 0 or more, which must be there unless it has a default."""
        value, path = self.take(name)
        return default if value is None and default is not None else read_decimal(value, path)

    def positive(self, name: str) -> Decimal:
        """A decimal above 0, which must be there."""
        value, path = self.take(name)
        number = read_decimal(value, path)
        if not number:
            raise unexpected(path, "a decimal above 0", value, f'write how much {name} is, such as "1000"')
        return number

    def decimal_or_none(self, name: str) -> Decimal | None:
        """A decimal of 0 or more, or None where it is missing or null."""
        value, path = self.take(name)
        return None if value is None else read_decimal(value, path)

    def choice(self, name: str, options: Sequence[str], default: str | None = None) -> str:
        """One of a few words, which must be there unless it has a default."""
        value, path = self.take(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in options:
            raise unexpected(path, "one of " + ", ".join(options), value, f'write {name} as "{options[0]}", say')
        return value

    def end(self) -> None:
        """Refuse fields that were never asked for."""
        for name in self._left:
            path = f"{self.path}.{_clipped(str(name))}"
            nearest = get_close_matches(str(name)[:_GOT_LENGTH_MAX], self._known, n=1)
            hint = f"did you mean `{nearest[0]}`? " if nearest else "remove it; "
            if str(name).isdecimal():
                # What is left of `{amount: 0,001}`: to remove it would leave a price of 0.
                hint = f"write decimals with a point, as in 0.{_clipped(str(name))}: a comma begins another field; "
            raise PriceError("unknown field", path, f"{hint}known here: {', '.join(self._known)}")


def _number(value: object) -> Decimal | None:
    match value:
        case str():
            try:
                return parse_decimal(value)
            except ValueError:
                return None
        case bool():
            return None
        case int() if abs(value) < 10**DIGITS_MAX:
            return Decimal(value)
        case Decimal() if is_within_bounds(value):
            return value
        case _:  # a float among them: its digits are not those that were written
            return None


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case str():
            return json.dumps(_clipped(value), ensure_ascii=False)
        case bool() | float():
            return f"{type(value).__name__} {value}"
        case dict():
            return "an object"
        case list() | tuple():
            return "an array"
        case int() if abs(value) < 10**_GOT_LENGTH_MAX:
            return str(value)
        case Decimal():
            return str(value) if len(value.as_tuple().digits) < _GOT_LENGTH_MAX else "a very long number"
        case _:
            return "a very long number" if isinstance(value, int) else type(value).__name__


def _clipped(text: str) -> str:
    return text if len(text) <= _GOT_LENGTH_MAX else text[:_GOT_LENGTH_MAX] + "…"
