"""What many answers have: pages, periods, totals, and what is said when a request fails."""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

from msgspec import UNSET, Struct, UnsetType

T = TypeVar("T")

Number: TypeAlias = float | int
Optional: TypeAlias = T | UnsetType
"""Left out where there is no value."""


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """Has the fields that are named, and no others."""


class DataOf(Answer, Generic[T], frozen=True):
    """A list."""

    data: list[T]


class FieldAttributes(Answer, frozen=True):
    """Which event of a batch it is."""

    index: int


class ValidationError(Answer, frozen=True):
    """One thing that is wrong with a request."""

    field: str
    code: str
    message: str
    attributes: Optional[FieldAttributes] = UNSET


class ProblemExtensions(Answer, frozen=True):
    """All that is wrong with a request."""

    validation_errors: list[ValidationError]


class _Problem(Answer, frozen=True):
    type: str
    title: str
    status: int
    detail: str
    instance: str


class Problem(_Problem, frozen=True):
    """Why a request was not answered as asked."""

    extensions: Optional[ProblemExtensions] = UNSET


class InvalidParameter(Answer, frozen=True):
    """One thing that is wrong with a request."""

    field: str
    rule: str
    reason: str
    source: str
    code: str
    index: Optional[int] = UNSET


class ProblemV3(_Problem, frozen=True):
    """Why a request was not answered as asked."""

    invalid_parameters: Optional[list[InvalidParameter]] = UNSET
