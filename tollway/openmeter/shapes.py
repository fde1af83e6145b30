"""What bodies and views are, and what many of them have: pages, amounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Generic, TypeAlias, TypeVar

from msgspec import Meta, Struct

T = TypeVar("T")

Number: TypeAlias = float | int
Quantity: TypeAlias = Decimal
"""Written as a JSON number, with all of its digits."""
Amount = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$", description="An exact decimal.")]


class Body(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a request says."""


class View(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is answered. A field whose default is None is left out where it has no value."""


class Tagged(View, frozen=True, tag_field="type"):
    """What is one of several kinds, as its tag tells."""

    @property
    def type(self) -> str:
        """The tag, for the struct of another dialect to be read from this one."""
        return str(self.__struct_config__.tag)


class DataOf(View, Generic[T], frozen=True):
    """A list."""

    data: list[T]


class Page(View, Generic[T], frozen=True):
    """A page of a list, counted from 1."""

    total_count: int
    page: int
    page_size: int
    items: list[T]

    @classmethod
    def of(cls, found: Sequence[T], page: int, size: int) -> Page[T]:
        """One page of all that was found."""
        return Page(total_count=len(found), page=page, page_size=size, items=_part(found, page, size))


class PageNumber(View, frozen=True):
    """Which page it is, counted from 1, and how many things there are in all."""

    size: int
    number: int
    total: int


class PageMeta(View, frozen=True):
    """About a page."""

    page: PageNumber


class NumberedPage(View, Generic[T], frozen=True):
    """A page of a list."""

    data: list[T]
    meta: PageMeta

    @classmethod
    def of(cls, found: Sequence[T], number: int, size: int) -> NumberedPage[T]:
        """One page of all that was found."""
        return cls.part(_part(found, number, size), number, size, len(found))

    @classmethod
    def part(cls, data: list[T], number: int, size: int, total: int) -> NumberedPage[T]:
        """One page, of so many things in all."""
        return NumberedPage(data=data, meta=PageMeta(page=PageNumber(size=size, number=number, total=total)))


class Cursors(View, frozen=True):
    """Where the pages before and after this one begin; null where there are none."""

    size: int
    next: str | None
    previous: str | None


class CursorMeta(View, frozen=True):
    """About a page."""

    page: Cursors


class CursorPage(View, Generic[T], frozen=True):
    """A page of a list that grows while it is read."""

    data: list[T]
    meta: CursorMeta

    @classmethod
    def of(cls, data: list[T], size: int, *, following: str | None, preceding: str | None) -> CursorPage[T]:
        """A page, and the cursors of those around it."""
        return CursorPage(data=data, meta=CursorMeta(page=Cursors(size=size, next=following, previous=preceding)))


class Reference(View, frozen=True):
    """Something by its id."""

    id: str


class Period(View, frozen=True, rename={"from_": "from"}):
    """From an instant up to, but not including, another."""

    from_: datetime
    to: datetime


class Totals(View, frozen=True):
    """What something comes to: amount + charges − discounts − credits − overage + taxes = total."""

    amount: Amount
    charges_total: Amount
    discounts_total: Amount
    credits_total: Amount
    overage_total: Amount
    taxes_total: Amount
    total: Amount


def _part(found: Sequence[T], page: int, size: int) -> list[T]:
    return list(found[(page - 1) * size : page * size])
