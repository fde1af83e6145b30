"""
Why the control plane refuses: a code, the field, what was expected there and found, and what to do instead.

Every refusal is a `ControlError`. Its path is that of the field in the draft; whoever passes drafts on puts
a prefix to it with `within`, so that it ends up as the path in what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

from rating.meters import MeterError
from rating.refusal import Refusal

_T = TypeVar("_T")


class ControlCode(StrEnum):
    """Why the catalog was not changed, or had no answer."""

    NOT_FOUND = "not_found"
    INVALID = "invalid"
    CONFLICT = "conflict"
    """It contradicts what is there: a subject of another customer, another currency, an expired grant."""
    IMMUTABLE = "immutable"
    """What was metered so far would no longer be what it was."""
    KEY_REUSED = "key_reused"
    """The key was given to a grant with other content."""


class ControlError(Refusal):
    """
    A change that cannot be made as asked, or something asked for that is not there.

    Attributes:
        code: Which of the few kinds of trouble it is.
        line: The line of the file, where there is one.
    """

    def __init__(self, code: ControlCode, what: str, path: str, hint: str, line: int | None = None) -> None:
        self.code = code
        self.line = line
        super().__init__(what, path, hint)

    @property
    def message(self) -> str:
        """Where, what was expected there, and what was found."""
        return f"`{self.path}`{'' if self.line is None else f' (line {self.line})'}: {self.what}"


@contextmanager
def within(prefix: str) -> Iterator[None]:
    """Put a prefix to the path of a `ControlError` that is raised inside, as in `grants[0]`."""
    try:
        yield
    except ControlError as error:
        raise ControlError(error.code, error.what, f"{prefix}.{error.path}", error.hint, error.line) from error


def from_meter_error(error: MeterError) -> ControlError:
    """What a meter or feature says of itself, as an error of the control plane."""
    return ControlError(ControlCode.INVALID, error.what, error.path, error.hint)


def invalid(path: str, expected: str, got: str, hint: str) -> ControlError:
    """The error of a field that holds what cannot be."""
    return ControlError(ControlCode.INVALID, f"expected {expected}, got {got}", path, hint)


def conflict(path: str, what: str, hint: str) -> ControlError:
    """The error of a field that contradicts what is there."""
    return ControlError(ControlCode.CONFLICT, what, path, hint)


def found(thing: _T | None, kind: str, name: str, path: str) -> _T:
    """The thing that was looked for. Raises `ControlError` if that is None."""
    if thing is None:
        what = f"there is no {kind} `{name[:256]}`"
        hint = f"make it first, or correct the {'id' if path == 'id' else 'key'}"
        raise ControlError(ControlCode.NOT_FOUND, what, path, hint)
    return thing
