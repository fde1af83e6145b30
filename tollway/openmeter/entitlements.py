"""
Entitlement templates, as OpenMeter's v1 and v3 write them.

Usage is counted by the billing period of the rate card, so that is the only usage period there is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias, assert_never

import msgspec

from config.limits import CONFIG_LENGTH
from rating.entitlements import BooleanEntitlement, Entitlement, MeteredEntitlement, StaticEntitlement
from rating.fields import Fields, read_decimal, unexpected
from tollway.openmeter.shapes import Number, Tagged

_numbers = msgspec.json.Encoder(decimal_format="number")


class MeteredTemplate(Tagged, frozen=True, tag="metered"):
    """Usage up to a limit in each billing period; without a limit it is only counted."""

    is_soft_limit: bool
    usage_period: str
    limit: Number | None = None


class StaticTemplate(Tagged, frozen=True, tag="static"):
    """A configuration, handed on as it is."""

    config: Any
    config_v1: str


class BooleanTemplate(Tagged, frozen=True, tag="boolean"):
    """The feature may be used."""


Template: TypeAlias = MeteredTemplate | StaticTemplate | BooleanTemplate


def template(given: Entitlement | None, cadence: str) -> Template | None:
    """An entitlement as it is shown on a rate card with a cadence."""
    match given:
        case None:
            return None
        case MeteredEntitlement(limit, is_soft):
            shown = None if limit is None else number(limit)
            return MeteredTemplate(is_soft_limit=is_soft, usage_period=cadence, limit=shown)
        case StaticEntitlement(config):
            return StaticTemplate(config=msgspec.json.decode(config), config_v1=config)
        case BooleanEntitlement():
            return BooleanTemplate()
        case _:
            assert_never(given)


def entitlement_from_v1(value: object, cadence: str, path: str = "$.entitlementTemplate") -> Entitlement | None:
    """
    Read an entitlement template, as OpenMeter's v1 or its v3 writes it.

    Args:
        value: `{type: metered, isSoftLimit, issueAfterReset | limit, usagePeriod}`, `{type: static, config}` or
            `{type: boolean}`; None: there is none.
        cadence: The rate card's billing cadence.
        path: Where it is written, for errors.

    Raises:
        PriceError: Naming the path of what is wrong.
    """
    if value is None:
        return None
    fields = Fields(value, path)
    found: Entitlement
    match fields.choice("type", ("metered", "static", "boolean")):
        case "metered":
            found = _metered(fields, cadence)
        case "static":
            found = StaticEntitlement(_config(*fields.take("config")))
        case _:
            found = BooleanEntitlement()
    fields.end()
    return found


def _metered(fields: Fields, cadence: str) -> MeteredEntitlement:
    soft, soft_path = fields.take("isSoftLimit")
    if not isinstance(soft, bool | None):
        raise unexpected(soft_path, "true or false", soft, "a soft limit only tells that it was reached")
    limit = _limit(*fields.take("issueAfterReset"))
    limit_v3, limit_path = fields.take("limit")
    if limit_v3 is not None:
        if limit is not None:
            raise unexpected(limit_path, "either `issueAfterReset` or `limit`", limit_v3, "remove one")
        limit = _limit(limit_v3, limit_path)
    period, period_path = fields.take("usagePeriod")
    if period is not None and period != cadence:
        hint = f"leave it out: usage is counted by the billing period of the rate card, {cadence}"
        raise unexpected(period_path, f'"{cadence}", the billing cadence of the rate card', period, hint)
    return MeteredEntitlement(limit, bool(soft))


def _limit(value: object, path: str) -> Decimal | None:
    """A limit may be a JSON number. A float has the digits that it is written with."""
    if value is None:
        return None
    return read_decimal(Decimal(repr(value)) if isinstance(value, float) else value, path)


def _config(value: object, path: str) -> str:
    """A configuration as JSON: v1 sends it as a string, v3 as what it is."""
    if not isinstance(value, str):
        if value is None:
            raise unexpected(path, "a configuration as JSON", value, 'write it, as in "{\\"seats\\": 5}"')
        value = _numbers.encode(value).decode()
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        hint = 'write JSON in a string, as in "{\\"seats\\": 5}"'
        raise unexpected(path, "a string with JSON in it", value, hint) from None
    if len(value) > CONFIG_LENGTH.number:
        raise unexpected(path, str(CONFIG_LENGTH), value, f"keep long texts elsewhere; {CONFIG_LENGTH.hint}")
    return value


def entitlement_to_v1(found: Entitlement | None) -> dict[str, Any] | None:
    """The inverse of `entitlement_from_v1`, as v1 writes it; the limit as the JSON number that OpenMeter has."""
    match found:
        case None:
            return None
        case MeteredEntitlement(limit, is_soft):
            written: dict[str, Any] = {"type": "metered", "isSoftLimit": is_soft}
            return written if limit is None else written | {"issueAfterReset": number(limit)}
        case StaticEntitlement(config):
            return {"type": "static", "config": config}
        case BooleanEntitlement():
            return {"type": "boolean"}
        case _:
            assert_never(found)


def number(value: Decimal) -> int | float:
    """A quantity as the JSON number that OpenMeter's clients read."""
    return int(value) if value == value.to_integral_value() else float(value)
