"""
Price models: what a quantity of usage costs within one billing period.

Amounts are exact decimals in the currency of the rate card. A price is read from, and written as, the JSON of
OpenMeter's v1 API, and is checked once, when it is read: the rest of the core trusts it. As a struct it is
stored in a JSON or MessagePack of its own, tagged by `type`, with decimals as strings.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias, assert_never

from msgspec import Struct

from rating.fields import Fields, read_decimal, unexpected
from rating.fields import PriceError as PriceError
from rating.money import ONE, QUOTIENT_DIGITS, ZERO, plain

Json: TypeAlias = dict[str, object]

PERCENTAGE_MAX: Final = Decimal(100)


class PaymentTerm(StrEnum):
    """Whether a flat price is due when its period opens or when it closes."""

    IN_ADVANCE = "in_advance"
    IN_ARREARS = "in_arrears"


class Operation(StrEnum):
    """What a conversion factor does to the metered quantity."""

    DIVIDE = "divide"
    MULTIPLY = "multiply"


class Rounding(StrEnum):
    """How a converted quantity is rounded: half up is half away from zero."""

    NONE = "none"
    CEILING = "ceiling"
    FLOOR = "floor"
    HALF_UP = "half_up"


class _Price(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What all prices share: they are tagged, and never change."""


class Free(_Price, frozen=True, tag="free"):
    """Costs nothing."""


class Flat(_Price, frozen=True, tag="flat"):
    """An amount once per billing period, without any usage."""

    amount: Decimal
    payment_term: PaymentTerm = PaymentTerm.IN_ADVANCE


class _UsagePrice(_Price, frozen=True, kw_only=True):
    """A price by usage, whose sum per billing period may be held between two commitments."""

    minimum_amount: Decimal | None = None
    maximum_amount: Decimal | None = None


class Unit(_UsagePrice, frozen=True, tag="unit"):
    """Each unit costs the same."""

    amount: Decimal


class Tier(Struct, frozen=True, forbid_unknown_fields=True):
    """Units above the tier below, up to and including `up_to_amount` (None: no end)."""

    up_to_amount: Decimal | None
    unit_price: Decimal | None = None
    flat_price: Decimal | None = None


class Graduated(_UsagePrice, frozen=True, tag="graduated"):
    """Each unit costs what the tier it falls in says; a tier's flat part is due once, on entering it."""

    tiers: tuple[Tier, ...]


class Volume(_UsagePrice, frozen=True, tag="volume"):
    """All units cost what the tier of their sum says, plus that tier's flat part."""

    tiers: tuple[Tier, ...]


class Package(_UsagePrice, frozen=True, tag="package"):
    """Units come in packages; one that is begun is paid whole."""

    amount: Decimal
    quantity_per_package: Decimal


class Dynamic(_UsagePrice, frozen=True, tag="dynamic"):
    """The metered value is itself money, times a multiplier."""

    multiplier: Decimal = ONE


UsagePrice: TypeAlias = Unit | Graduated | Volume | Package | Dynamic
Price: TypeAlias = Free | Flat | UsagePrice


class UnitConversion(Struct, frozen=True, forbid_unknown_fields=True):
    """From metered units to priced ones, as from bytes to gigabytes."""

    operation: Operation
    conversion_factor: Decimal
    rounding: Rounding = Rounding.NONE
    precision: int = 0
    """Digits after the point that `rounding` leaves; of no effect where it is "none"."""
    display_unit: str | None = None


class Discounts(Struct, frozen=True, forbid_unknown_fields=True):
    """What a rate card takes off: a percentage of the price, and the first units of each billing period."""

    percentage: Decimal | None = None
    usage: Decimal | None = None


class Pricing(Struct, frozen=True, forbid_unknown_fields=True):
    """All that turns the usage of a billing period into money."""

    price: Price
    currency: str
    conversion: UnitConversion | None = None
    discounts: Discounts = Discounts()


def price_from_v1(value: object, path: str = "$.price") -> Price:
    """
    Read a price as v1 writes it (null: free); v3's `graduated`, `volume` and `free` are understood too.

    Raises:
        PriceError: Naming the path of what is wrong.
    """
    if value is None:
        return Free()
    fields = Fields(value, path)
    kind = fields.choice("type", ("unit", "tiered", "graduated", "volume", "package", "dynamic", "flat", "free"))
    if kind == "tiered":
        kind = fields.choice("mode", ("graduated", "volume"))
    price: Price
    match kind:
        case "free":
            price = Free()
        case "flat":
            term = fields.choice("paymentTerm", tuple(PaymentTerm), PaymentTerm.IN_ADVANCE)
            price = Flat(fields.decimal("amount"), PaymentTerm(term))
        case "unit":
            price = Unit(fields.decimal("amount"), **_commitments(fields))
        case "graduated":
            price = Graduated(_tiers(fields), **_commitments(fields))
        case "volume":
            price = Volume(_tiers(fields), **_commitments(fields))
        case "package":
            size = fields.positive("quantityPerPackage")
            price = Package(fields.decimal("amount"), size, **_commitments(fields))
        case _:
            price = Dynamic(fields.decimal("multiplier", ONE), **_commitments(fields))
    fields.end()
    return price


def discounts_from_v1(value: object, path: str = "$.discounts") -> Discounts:
    """Read `{percentage: {percentage}, usage: {quantity}}`, or the decimals alone: `{percentage, usage}`."""
    if value is None:
        return Discounts()
    fields = Fields(value, path)
    percentage, percentage_path = _wrapped_decimal(fields, "percentage", "percentage")
    usage, _ = _wrapped_decimal(fields, "usage", "quantity")
    fields.end()
    if percentage is not None and percentage > PERCENTAGE_MAX:
        raise unexpected(percentage_path, "at most 100", percentage, "a discount of 100 makes it free")
    return Discounts(percentage, usage)


def conversion_from_v1(value: object, path: str = "$.unitConfig") -> UnitConversion | None:
    """Read a unit conversion, `{operation, conversionFactor, rounding, precision, displayUnit}`."""
    if value is None:
        return None
    fields = Fields(value, path)
    operation = fields.choice("operation", tuple(Operation))
    factor = fields.positive("conversionFactor")
    rounding = fields.choice("rounding", tuple(Rounding), Rounding.NONE)
    precision, precision_path = fields.take("precision")
    unit, unit_path = fields.take("displayUnit")
    fields.end()
    if precision is None:
        precision = 0
    if not isinstance(precision, int) or isinstance(precision, bool) or not 0 <= precision <= QUOTIENT_DIGITS:
        hint = "it counts the digits after the point"
        raise unexpected(precision_path, f"an integer of 0 to {QUOTIENT_DIGITS}", precision, hint)
    if unit is not None and not isinstance(unit, str):
        raise unexpected(unit_path, "a string", unit, 'name the unit that is priced, such as "GB"')
    return UnitConversion(Operation(operation), factor, Rounding(rounding), precision, unit)


def price_to_v1(price: Price) -> Json | None:
    """Write a price as v1 does: `price_from_v1` reads it back as the same price."""
    match price:
        case Free():
            return None
        case Flat():
            return {"type": "flat", "amount": plain(price.amount), "paymentTerm": price.payment_term.value}
        case Unit():
            written: Json = {"type": "unit", "amount": plain(price.amount)}
        case Graduated() | Volume():
            mode = "graduated" if isinstance(price, Graduated) else "volume"
            written = {"type": "tiered", "mode": mode, "tiers": [_tier_to_v1(tier) for tier in price.tiers]}
        case Package():
            size = plain(price.quantity_per_package)
            written = {"type": "package", "amount": plain(price.amount), "quantityPerPackage": size}
        case Dynamic():
            written = {"type": "dynamic", "multiplier": plain(price.multiplier)}
        case _:
            assert_never(price)
    limits = {"minimumAmount": price.minimum_amount, "maximumAmount": price.maximum_amount}
    return written | {name: plain(limit) for name, limit in limits.items() if limit is not None}


def discounts_to_v1(discounts: Discounts) -> Json | None:
    """Write discounts as v1 does, None where there are none."""
    written: Json = {}
    if discounts.percentage is not None:
        written["percentage"] = {"percentage": plain(discounts.percentage)}
    if discounts.usage is not None:
        written["usage"] = {"quantity": plain(discounts.usage)}
    return written or None


def conversion_to_v1(conversion: UnitConversion | None) -> Json | None:
    """Write a unit conversion in camelCase, None where there is none."""
    if conversion is None:
        return None
    return {
        "operation": conversion.operation.value,
        "conversionFactor": plain(conversion.conversion_factor),
        "rounding": conversion.rounding.value,
        "precision": conversion.precision,
        "displayUnit": conversion.display_unit,
    }


def _commitments(fields: Fields) -> dict[str, Decimal | None]:
    written, path = fields.take("minimumAmount")
    minimum = None if written is None else read_decimal(written, path)
    maximum = fields.decimal_or_none("maximumAmount")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise unexpected(path, f"at most the maximum of {plain(maximum)}", minimum, "lower it, or raise the maximum")
    return {"minimum_amount": minimum, "maximum_amount": maximum}


def _tiers(fields: Fields) -> tuple[Tier, ...]:
    values, path = fields.take("tiers")
    if not isinstance(values, list) or not values:
        raise unexpected(path, "an array of tiers", values, 'one tier without an end is {"unitPrice": …}')
    tiers: list[Tier] = []
    lower = ZERO
    for index, value in enumerate(values):
        here = f"{path}[{index}]"
        tier, up_to_path = _tier(value, here)
        up_to = tier.up_to_amount
        if up_to is None and index < len(values) - 1:
            raise unexpected(up_to_path, "an end, since tiers follow", up_to, "only the last tier has no end")
        if up_to is not None and index == len(values) - 1:
            raise unexpected(up_to_path, "no end in the last tier", up_to, "leave it out, or add a tier without one")
        if up_to is not None and up_to <= lower:
            raise unexpected(up_to_path, f"more than {plain(lower)}", up_to, "list the tiers from low to high")
        lower = up_to or lower
        tiers.append(tier)
    return tuple(tiers)


def _tier(value: object, path: str) -> tuple[Tier, str]:
    fields = Fields(value, path)
    up_to, up_to_path = fields.take("upToAmount")
    unit = _tier_part(fields, "unitPrice", "unit")
    flat = _tier_part(fields, "flatPrice", "flat")
    fields.end()
    if unit is None and flat is None:
        hint = 'a tier that costs nothing has a unitPrice of {"type": "unit", "amount": "0"}'
        raise PriceError("expected `unitPrice`, `flatPrice` or both, got neither", path, hint)
    return Tier(None if up_to is None else read_decimal(up_to, up_to_path), unit, flat), up_to_path


def _tier_part(fields: Fields, name: str, kind: str) -> Decimal | None:
    value, path = fields.take(name)
    if value is None:
        return None
    part = Fields(value, path)
    part.choice("type", (kind,), kind)
    amount = part.decimal("amount")
    part.end()
    return amount


def _wrapped_decimal(fields: Fields, name: str, inner: str) -> tuple[Decimal | None, str]:
    """
    With its wrapper or without, and its path as written.

    Of OpenMeter's clients it is a float: it has the digits that it is written with.
    """
    value, path = fields.take(name)
    if isinstance(value, dict):
        wrapped = Fields(value, path)
        value, path = wrapped.take(inner)
        wrapped.end()
    elif value is None:
        return None, path
    return read_decimal(Decimal(repr(value)) if isinstance(value, float) else value, path), path


def _tier_to_v1(tier: Tier) -> Json:
    written: Json = {} if tier.up_to_amount is None else {"upToAmount": plain(tier.up_to_amount)}
    for name, kind, amount in (
        ("unitPrice", "unit", tier.unit_price),
        ("flatPrice", "flat", tier.flat_price),
    ):
        written[name] = None if amount is None else {"type": kind, "amount": plain(amount)}
    return written
