"""
Catalog files: meters, features, plans and customers as one YAML file.

All scalars are kept as the text they were written in, so that no amount ever is a float: `0.1` and `"0.1"`
are the same amount, and `1e-7`, `010` and `2026-03-01` are not guessed at. A file either says something that
can be used, or is refused with the path, the line and the remedy. Applying one again changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml
from msgspec import Struct
from ulid import ULID

from rating.catalog import Customer, Phase, RateCard, Record, SettlementMode
from rating.fields import Fields, PriceError, read_decimal, unexpected
from rating.meters import Aggregation, Feature, Meter, MeterError, read_filters
from rating.prices import (
    Pricing,
    conversion_from_v1,
    discounts_from_v1,
    price_from_v1,
)
from tollway.control import (
    Changes,
    ControlCode,
    ControlError,
    ControlPlane,
    CustomerDraft,
    GrantDraft,
    PlanDraft,
    SubscriptionDraft,
    from_meter_error,
)

DEPTH_MAX: Final = 30
"""How deep a file may nest: far more than a catalog does."""

DEFAULT_KEY: Final = "default"
"""The key of a phase or a subscription that has none in the file."""

_T = TypeVar("_T")
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Knows texts, lists and mappings only, whatever tags a file has; in C where that is there."""

_WORDS: Final = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,8}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CAPITAL: Final = re.compile(r"(?<=[a-z])[A-Z]")
_TIER_PRICES: Final = ("unit_price", "flat_price", "unitPrice", "flatPrice")
_FIELD_IN_FILE: Final = {
    "meter_key": "meter",
    "feature_key": "feature",
    "active_from": "from",
    "pricing.currency": "price",
}


class CatalogFileError(ControlError):
    """A catalog file that can't be opened, is no YAML, or says something that can't be used."""

    def __init__(self, what: str, path: str, hint: str, line: int | None = None) -> None:
        super().__init__(ControlCode.INVALID, what, path, hint, line)


class CatalogFile(Struct, frozen=True):
    """What a catalog file says, in its order."""

    meters: tuple[Meter, ...]
    features: tuple[Feature, ...]
    plans: tuple[PlanDraft, ...]
    customers: tuple[CustomerDraft, ...]
    lines: dict[str, int]
    """The line of each path."""
    bare_plans: frozenset[int]
    """The plans with rate cards of their own, in place of phases."""


class Change(Struct, frozen=True):
    """What applying a file did about one thing in it."""

    kind: str
    key: str
    action: str
    """created, updated, unchanged, or published with a version."""
    detail: str = ""


def load_catalog_file(path: Path | str) -> CatalogFile:
    """
    Read a catalog file.

    Raises:
        CatalogFileError: It can't be opened, is no YAML, or says something that can't be used.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        what = f"can't open this file: {error.strerror}"
        hint = "name a YAML file, such as config/catalog/ai_tokens.yaml"
        raise CatalogFileError(what, str(path), hint) from error
    return read_catalog(text)


def read_catalog(text: str | bytes) -> CatalogFile:
    """Read what a catalog file holds. Raises `CatalogFileError` if that can't be used."""
    lines: dict[str, int] = {}
    value = _read_yaml(text, lines)
    bare_plans: set[int] = set()
    with _located(lines):
        fields = _fields(value, "$")
        file = CatalogFile(
            meters=_each(fields, "meters", _meter),
            features=_each(fields, "features", _feature),
            plans=_each(fields, "plans", lambda item, path: _plan(item, path, bare_plans)),
            customers=_each(fields, "customers", _customer),
            lines=lines,
            bare_plans=frozenset(bare_plans),
        )
        fields.end()
    for name in ("meters", "features", "plans", "customers"):
        _check_keys_differ([thing.key for thing in getattr(file, name)], f"$.{name}", lines)
    for index, customer in enumerate(file.customers):
        keys = [grant.key for grant in customer.grants]
        _check_keys_differ(keys, f"$.customers[{index}].grants", lines)
    return file


def apply(plane: ControlPlane, file: CatalogFile) -> list[Change]:
    """
    Bring the catalog to what a file says, all of it or, on any error, nothing.

    What the file does not mention stays. Done again, it changes nothing. Raises `ControlError`.
    """
    with plane.changing() as changes:
        changes.prefetch(file.customers)
        return _apply(changes, file)


def records(file: CatalogFile, now: datetime) -> list[Record]:
    """
    A file as the control records that it comes to in an empty catalog, with the same ids every time.

    Raises `ControlError` where the file does not stand on its own.
    """
    changes = Changes(None, lambda: now, _stable_ids())
    _apply(changes, file)
    return changes.records


def _stable_ids() -> Callable[..., str]:
    """Ids by what a thing is called. A customer's grants rise in the order of the file, as they burn."""
    numbers: Counter[tuple[str, ...]] = Counter()

    def identify(_at: datetime, *parts: str) -> str:
        numbers[parts[:2]] += 1
        digest = sha256("\x00".join(parts).encode()).digest()
        return str(ULID.from_bytes(numbers[parts[:2]].to_bytes(6, "big") + digest[:10]))

    return identify


# -- applying -----------------------------------------------------------------------------------


def _apply(changes: Changes, file: CatalogFile) -> list[Change]:
    done: list[Change] = []
    for index, meter in enumerate(file.meters):
        with _at(file, f"$.meters[{index}]"):
            known_meter = changes.find_meter(meter.key)
            done.append(_change("meter", meter.key, known_meter, changes.put_meter(meter)))
    for index, feature in enumerate(file.features):
        with _at(file, f"$.features[{index}]"):
            known_feature = changes.find_feature(feature.key)
            done.append(_change("feature", feature.key, known_feature, changes.put_feature(feature)))
    for index, plan in enumerate(file.plans):
        with _at(file, f"$.plans[{index}]", bare=index in file.bare_plans):
            versions = len(changes.plan_versions(plan.key))
            published = changes.publish_plan(plan)
            fresh = published.version > versions
            action = f"published v{published.version}" if fresh else "unchanged"
            done.append(Change("plan", plan.key, action, "" if fresh else f"v{published.version}"))
    customers = [changes.find_customer_by_key(draft.key) for draft in file.customers]
    _let_go_of_moving_subjects(changes, file)
    for index, draft in enumerate(file.customers):
        with _at(file, f"$.customers[{index}]"):
            bare = msgspec.structs.replace(draft, subscription=None, grants=())
            customer = changes.put_customer(bare)
            done.append(_change("customer", draft.key, customers[index], customer))
        if draft.subscription is not None:
            with _at(file, f"$.customers[{index}].subscription"):
                done.append(_subscribe(changes, customer, draft.subscription))
        for position, grant in enumerate(draft.grants):
            with _at(file, f"$.customers[{index}].grants[{position}]"):
                assert grant.key is not None
                known_grant = changes.grant_by_key(customer.id, grant.key)
                made = changes.grant(customer, grant)
                voided = "" if made.voided_at is None else "it was voided"
                done.append(_change("grant", f"{draft.key}/{grant.key}", known_grant, made, voided))
    return done


def _change(kind: str, key: str, before: _T | None, after: _T, detail: str = "") -> Change:
    action = "created" if before is None else "unchanged" if before == after else "updated"
    return Change(kind, key, action, detail)


def _let_go_of_moving_subjects(changes: Changes, file: CatalogFile) -> None:
    """Take from its customer each subject that the file gives to another: their order must not matter."""
    claimed = {draft.key: draft.key for draft in file.customers}
    claimed |= {subject: draft.key for draft in file.customers for subject in draft.subjects}
    for draft in file.customers:
        known = changes.find_customer_by_key(draft.key)
        if known is not None:
            kept = tuple(s for s in known.subjects if claimed.get(s, draft.key) == draft.key)
            if kept != known.subjects:
                changes.put_customer(
                    CustomerDraft(
                        key=known.key,
                        name=known.name,
                        currency=known.currency,
                        subjects=kept,
                        block_when_exhausted=known.block_when_exhausted,
                        low_balance_thresholds=known.low_balance_thresholds,
                    )
                )


def _subscribe(changes: Changes, customer: Customer, draft: SubscriptionDraft) -> Change:
    """
    Subscribe a customer, or change its subscription from now on if its terms are others.

    `from` is when the customer first subscribes: an instant that has passed does not move a change back.
    """
    assert draft.key is not None
    key = f"{customer.key}/{draft.key}"
    known = changes.subscription_by_key(customer.id, draft.key)
    if known is None:
        made = changes.subscribe(customer, draft)
        return Change("subscription", key, "created", _described(made.plan_key, made.plan_version))
    start = draft.active_from
    again = msgspec.structs.replace(draft, active_from=None)
    stays = changes.same_subscription(customer, again)
    if stays is None:
        later = start if start is not None and start > changes.now() else None
        made = changes.subscribe(customer, msgspec.structs.replace(draft, active_from=later))
        was = _described(known.plan_key, known.plan_version)
        detail = f"{_described(made.plan_key, made.plan_version)}, was {was}"
        return Change("subscription", key, "updated", detail)
    detail = _described(stays.plan_key, stays.plan_version)
    newest = changes.plan(stays.plan_key).version
    if newest != stays.plan_version and draft.version is None:
        detail += f"; to move it to the newest, write `version: {newest}`"
    return Change("subscription", key, "unchanged", detail)


def _described(plan_key: str, version: int) -> str:
    return f"{plan_key} v{version}"


# -- reading ------------------------------------------------------------------------------------


def _meter(value: object, path: str) -> Meter:
    fields = _fields(value, path)
    key = _text(fields, "key")
    event_type = _text(fields, "event_type")
    aggregation = Aggregation(fields.choice("aggregation", tuple(Aggregation)))
    value_property = _text_or_none(fields, "value_property")
    group_by = {name: _as_text(text, where) for name, text, where in _entries(fields, "group_by")}
    name = _text_or_none(fields, "name") or ""
    description = _text_or_none(fields, "description") or ""
    fields.end()
    with _from_meter(path):
        return Meter(key, event_type, aggregation, value_property, group_by, name, description)


def _feature(value: object, path: str) -> Feature:
    fields = _fields(value, path)
    key = _text(fields, "key")
    name = _text_or_none(fields, "name") or ""
    meter = _text_or_none(fields, "meter")
    filters: dict[str, list[str]] = {}
    for dimension, allowed, where in _entries(fields, "filters"):
        several = allowed if isinstance(allowed, list) else [allowed]
        filters[dimension] = [
            # An event's true matches the text "true".
            str(text).lower() if isinstance(text, bool) else _as_text(text, where)
            for text in several
        ]
    fields.end()
    with _from_meter(path):
        return Feature(key, name, meter, read_filters(filters))


def _plan(value: object, path: str, bare_plans: set[int]) -> PlanDraft:
    fields = _fields(value, path)
    key = _text(fields, "key")
    name = _text_or_none(fields, "name") or ""
    currency = _text_or_none(fields, "currency") or "USD"
    cadence = _text(fields, "cadence")
    mode = _mode(fields) or SettlementMode.CREDIT_THEN_INVOICE
    prorate = _truth(fields, "prorate")
    cards, cards_path = fields.take("rate_cards")
    phases_value, phases_path = fields.take("phases")
    fields.end()
    if cards is not None and phases_value is not None:
        hint = "put the rate cards into a phase, or leave the phases out"
        raise PriceError(f"`{path}`: expected one of `rate_cards` and `phases`, got both", path, hint)
    if phases_value is None:
        bare_plans.add(int(path.rpartition("[")[2].rstrip("]")))
        phases: tuple[Phase, ...] = (Phase(DEFAULT_KEY, _rate_cards(cards, cards_path, currency)),)
    else:
        phases = tuple(
            _phase(item, f"{phases_path}[{index}]", currency)
            for index, item in enumerate(_as_list(phases_value, phases_path))
        )
    return PlanDraft(
        key=key,
        name=name,
        currency=currency,
        cadence=cadence,
        phases=phases,
        settlement_mode=mode,
        prorate=prorate,
    )


def _phase(value: object, path: str, currency: str) -> Phase:
    fields = _fields(value, path)
    key = _text(fields, "key")
    name = _text_or_none(fields, "name") or ""
    duration = _text_or_none(fields, "duration")
    cards, cards_path = fields.take("rate_cards")
    fields.end()
    return Phase(key, _rate_cards(cards, cards_path, currency), duration, name)


def _rate_cards(value: object, path: str, currency: str) -> tuple[RateCard, ...]:
    items = _as_list(value, path)
    return tuple(_rate_card(item, f"{path}[{index}]", currency) for index, item in enumerate(items))


def _rate_card(value: object, path: str, currency: str) -> RateCard:
    fields = _fields(value, path)
    feature = _text_or_none(fields, "feature")
    key = _text_or_none(fields, "key") or feature
    name = _text_or_none(fields, "name") or ""
    cadence = _text_or_none(fields, "cadence")
    price_value, price_path = fields.take("price")
    discounts_value, discounts_path = fields.take("discounts")
    conversion_value, conversion_path = fields.take("unit_config")
    fields.end()
    if key is None:
        hint = "name the feature it prices, or give a fee of the plan itself a key"
        raise PriceError(f"`{path}`: expected a `feature` or a `key`, got neither", path, hint)
    if price_value is None:
        raise unexpected(price_path, "a price", None, "write {type: free} if it costs nothing")
    price = price_from_v1(_with_tier_prices(price_value), price_path)
    discounts = discounts_from_v1(discounts_value, discounts_path)
    conversion = conversion_from_v1(_with_integer(conversion_value, "precision"), conversion_path)
    return RateCard(key, feature, Pricing(price, currency, conversion, discounts), name, cadence)


def _customer(value: object, path: str) -> CustomerDraft:
    fields = _fields(value, path)
    draft = CustomerDraft(
        key=_text(fields, "key"),
        name=_text_or_none(fields, "name") or "",
        currency=_text_or_none(fields, "currency") or "USD",
        subjects=_texts(fields, "subjects"),
        block_when_exhausted=_truth(fields, "block_when_exhausted"),
        low_balance_thresholds=_each(fields, "low_balance_thresholds", read_decimal),
        subscription=_subscription(*fields.take("subscription")),
        grants=_each(fields, "grants", _grant),
    )
    fields.end()
    return draft


def _subscription(value: object, path: str) -> SubscriptionDraft | None:
    if value is None:
        return None
    fields = _fields(value, path)
    draft = SubscriptionDraft(
        plan=_text(fields, "plan"),
        version=_integer(fields, "version"),
        active_from=_instant(fields, "from"),
        anchor=_instant(fields, "anchor"),
        settlement_mode=_mode(fields),
        key=_text_or_none(fields, "key") or DEFAULT_KEY,
    )
    fields.end()
    return draft


def _grant(value: object, path: str) -> GrantDraft:
    fields = _fields(value, path)
    priority = _integer(fields, "priority")
    draft = GrantDraft(
        key=_text(fields, "key"),
        amount=fields.positive("amount"),
        currency=_text_or_none(fields, "currency"),
        priority=10 if priority is None else priority,
        features=_texts(fields, "features"),
        effective_at=_instant(fields, "effective_at"),
        expires_at=_instant(fields, "expires_at"),
        expires_after=_text_or_none(fields, "expires_after"),
        name=_text_or_none(fields, "name") or "",
    )
    fields.end()
    return draft


# -- fields -------------------------------------------------------------------------------------


def _fields(value: object, path: str) -> Fields:
    if not isinstance(value, dict):
        hint = "write fields and their values, as in key: pro"
        raise unexpected(path, "a mapping", value, hint)
    return Fields(value, path)


def _each(fields: Fields, name: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
    value, path = fields.take(name)
    if value is None:
        return ()
    return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(_as_list(value, path)))


def _entries(fields: Fields, name: str) -> Iterator[tuple[str, object, str]]:
    value, path = fields.take(name)
    if value is None:
        return
    if not isinstance(value, dict):
        raise unexpected(path, "a mapping", value, f"write {name} as in {name}: {{model: …}}")
    for key, item in value.items():
        yield key, item, f"{path}.{key}"


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    return _each(fields, name, _as_text)


def _text(fields: Fields, name: str) -> str:
    value, path = fields.take(name)
    return _as_text(value, path)


def _text_or_none(fields: Fields, name: str) -> str | None:
    value, path = fields.take(name)
    return None if value is None else _as_text(value, path)


def _as_text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        hint = "write a text here, in quotes if it is true, false or null"
        raise unexpected(path, "a text", value, hint)
    return value


def _as_list(value: object, path: str) -> list[object]:
    if not isinstance(value, list):
        raise unexpected(path, "a list", value, "write each entry after a dash, or all in [brackets]")
    return value


def _truth(fields: Fields, name: str) -> bool:
    value, path = fields.take(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise unexpected(path, "true or false", value, f"write {name}: true, without quotes")
    return value


def _integer(fields: Fields, name: str) -> int | None:
    value, path = fields.take(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise unexpected(path, "an integer", value, f"write {name} in digits only, as in {name}: 1")
    return int(value)


def _with_tier_prices(value: object) -> object:
    """The price with the parts of its tiers as the core reads them: `unit_price: 0.01` is an object there."""
    if not isinstance(value, dict) or not isinstance(tiers := value.get("tiers"), list):
        return value
    return value | {
        "tiers": [
            {
                name: {"amount": part} if name in _TIER_PRICES and isinstance(part, str) else part
                for name, part in tier.items()
            }
            if isinstance(tier, dict)
            else tier
            for tier in tiers
        ]
    }


def _with_integer(value: object, name: str) -> object:
    """The mapping with a field that has to be an integer made one, if it looks like that."""
    if isinstance(value, dict) and isinstance(text := value.get(name), str) and _INTEGER.fullmatch(text):
        return value | {name: int(text)}
    return value


def _instant(fields: Fields, name: str) -> datetime | None:
    value, path = fields.take(name)
    if value is None:
        return None
    hint = "write it as in 2026-03-01T12:00:00Z, or as 2026-03-01 for the start of that day in UTC"
    if isinstance(value, str):
        text = f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value
        try:
            at: datetime = msgspec.convert(text, datetime)
        except msgspec.ValidationError:
            pass
        else:
            if at.tzinfo is not None:
                return at
    raise unexpected(path, "an RFC 3339 instant with an offset", value, hint)


def _mode(fields: Fields) -> SettlementMode | None:
    mode = fields.choice("settlement_mode", tuple(SettlementMode), "")
    return SettlementMode(mode) if mode else None


# -- YAML, and where things are -----------------------------------------------------------------


def _read_yaml(text: str | bytes, lines: dict[str, int]) -> object:
    try:
        return _YamlReader(text, lines).read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it has a character that YAML does not allow"
        line = None if mark is None else mark.line + 1
        hint = "correct the YAML; a text with special characters goes in quotes"
        raise CatalogFileError(f"this is no YAML: {problem}", "$", hint, line) from error


class _YamlReader:
    """
    Builds a document from the parser's events: texts, lists and mappings, true, false and None.

    Not from its nodes, since these are built by a recursion in C that deep nesting can crash.
    """

    def __init__(self, text: str | bytes, lines: dict[str, int]) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
        self._lines = lines
        self._anchored: dict[str, object] = {}

    def read(self) -> object:
        """The document; None for an empty file."""
        next(self._events)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), "$", 0)
        next(self._events)
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            line = event.start_mark.line + 1
            raise CatalogFileError("expected one document, got another", "$", "split the file in two", line)
        return value

    def _value(self, event: Any, path: str, depth: int) -> object:
        line = event.start_mark.line + 1
        self._lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchored:
                hint = f"write &{event.anchor} before the value that is meant, and before this place"
                raise CatalogFileError(f"expected the name of an anchor, got *{event.anchor}", path, hint, line)
            return self._anchored[event.anchor]
        if event.tag is not None:
            hint = f"remove {event.tag[:40]}: what each field is follows from its name"
            raise CatalogFileError("expected a value without a tag", path, hint, line)
        if depth > DEPTH_MAX:
            hint = "a catalog has no use for that: see config/catalog/ for examples"
            raise CatalogFileError(f"expected at most {DEPTH_MAX} levels, got more", path, hint, line)
        match event:
            case yaml.ScalarEvent():
                value: object = event.value if event.style else _WORDS.get(event.value, event.value)
            case yaml.SequenceStartEvent():
                value = self._list(path, depth)
            case _:
                value = self._mapping(path, depth)
        if event.anchor is not None:
            self._anchored[event.anchor] = value
        return value

    def _list(self, path: str, depth: int) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, f"{path}[{len(items)}]", depth + 1))
        return items

    def _mapping(self, path: str, depth: int) -> dict[str, object]:
        fields: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                hint = "start the line with a field's name and a colon"
                raise CatalogFileError("expected a name, got a value", path, hint, line)
            name = event.value
            here = f"{path}.{name[:64]}"
            if name in fields:
                hint = f"the first one is on line {self._lines[here]}: remove one"
                raise CatalogFileError("expected the field once, got it again", here, hint, line)
            self._lines[here] = line
            fields[name] = self._value(next(self._events), here, depth + 1)
        return fields


@contextmanager
def _located(lines: dict[str, int]) -> Iterator[None]:
    """Tell errors of reading as `CatalogFileError`, with the line."""
    try:
        yield
    except PriceError as error:
        path, what = error.path, error.message.removeprefix(f"`{error.path}`: ")
        if path not in lines:
            # The core calls what is missing by its name in v1, and a tier's price is an object to it.
            path = _snake(path)
            if path.endswith(("unit_price.amount", "flat_price.amount")):
                path = path.removesuffix(".amount")
        raise _error(what, path, _snake(error.hint), lines) from error


@contextmanager
def _from_meter(path: str) -> Iterator[None]:
    try:
        yield
    except MeterError as error:
        found = from_meter_error(error)
        where = f"{path}.{_in_file(found.path)}"
        raise PriceError(f"`{where}`: {found.what}", where, found.hint) from error


@contextmanager
def _at(file: CatalogFile, path: str, bare: bool = False) -> Iterator[None]:
    """Tell where in the file an error of the control plane came from."""
    try:
        yield
    except ControlError as error:
        inner = _in_file(error.path)
        if bare:
            inner = inner.removeprefix("phases[0].")
        where = f"{path}.{inner}"
        line = _line(where, file.lines)
        raise ControlError(error.code, error.what, where, error.hint, line) from error


def _check_keys_differ(keys: Sequence[str | None], path: str, lines: dict[str, int]) -> None:
    first: dict[str | None, int] = {}
    for index, key in enumerate(keys):
        if key in first:
            hint = f"the first one is `{path}[{first[key]}]`: remove or rename one"
            raise _error(f"expected each key once, got `{key}` again", f"{path}[{index}].key", hint, lines)
        first[key] = index


def _error(what: str, path: str, hint: str, lines: dict[str, int]) -> CatalogFileError:
    return CatalogFileError(what, path, hint, _line(path, lines))


def _line(path: str, lines: dict[str, int]) -> int | None:
    """The line of a path, or of the nearest one around it that is in the file."""
    while path not in lines:
        shorter = path[: max(path.rfind("."), path.rfind("["))]
        if not path or shorter == path:
            return None
        path = shorter
    return lines[path]


def _in_file(path: str) -> str:
    for name, in_file in _FIELD_IN_FILE.items():
        if path == name or path.endswith(f".{name}"):
            return path.removesuffix(name) + in_file
    return path


def _snake(text: str) -> str:
    return _CAPITAL.sub(lambda capital: "_" + capital[0].lower(), text)
