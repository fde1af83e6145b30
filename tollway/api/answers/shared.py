"""What many answers have: pages, periods, totals, and what is said when a request fails."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, TypeAlias, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

T = TypeVar("T")

Amount = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$", description="An exact decimal.")]
Number: TypeAlias = float | int
Optional: TypeAlias = T | UnsetType
"""Left out where there is no value."""


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """Has the fields that are named, and no others."""


class Page(Answer, Generic[T], frozen=True):
    """A page of a list, counted from 1."""

    total_count: int
    page: int
    page_size: int
    items: list[T]


class PageNumber(Answer, frozen=True):
    """Which page it is, counted from 1, and how many things there are in all."""

    size: int
    number: int
    total: int


class PageMeta(Answer, frozen=True):
    """About a page."""

    page: PageNumber


class NumberedPage(Answer, Generic[T], frozen=True):
    """A page of a list."""

    data: list[T]
    meta: PageMeta


class Cursors(Answer, frozen=True):
    """Where the pages before and after this one begin; null where there are none."""

    size: int
    next: str | None
    previous: str | None


class CursorMeta(Answer, frozen=True):
    """About a page."""

    page: Cursors


class CursorPage(Answer, Generic[T], frozen=True):
    """A page of a list that grows while it is read."""

    data: list[T]
    meta: CursorMeta


class DataOf(Answer, Generic[T], frozen=True):
    """A list."""

    data: list[T]


class Reference(Answer, frozen=True):
    """Something by its id."""

    id: str


class Period(Answer, frozen=True, rename={"from_": "from"}):
    """From an instant up to, but not including, another."""

    from_: datetime
    to: datetime


class Totals(Answer, frozen=True):
    """What something comes to: amount + charges − discounts − credits − overage + taxes = total."""

    amount: Amount
    charges_total: Amount
    discounts_total: Amount
    credits_total: Amount
    overage_total: Amount
    taxes_total: Amount
    total: Amount


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
