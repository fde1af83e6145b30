"""Reading a catalog file: it either says something that can be used, or is refused with path, line and remedy."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec import Struct

from config.limits import CUSTOMERS_AT_ONCE, FILE_BYTES
from rating.meters import Feature, Meter
from tollway.catalog_file.customers import read_customer
from tollway.catalog_file.document import read_yaml
from tollway.catalog_file.fields import as_fields, take_each
from tollway.catalog_file.meters import read_feature, read_meter
from tollway.catalog_file.places import CatalogFileError, check_keys_differ, error_at, located
from tollway.catalog_file.plans import read_plan
from tollway.control import CustomerDraft, PlanDraft


class CatalogFile(Struct, frozen=True):
    """What a catalog file says, in its order."""

    meters: tuple[Meter, ...]
    features: tuple[Feature, ...]
    plans: tuple[PlanDraft, ...]
    customers: tuple[CustomerDraft, ...]
    lines: dict[str, int]
    """The line of each path."""
    bare_plans: frozenset[str]
    """The paths of plans with rate cards of their own, in place of phases."""


def load_catalog_file(path: Path | str) -> CatalogFile:
    """
    Read a catalog file, or standard input where it is called `-`.

    Raises:
        CatalogFileError: It can't be opened, is no YAML, or says something that can't be used.
    """
    try:
        # One byte more than is taken: who sends without an end is refused for that.
        text = sys.stdin.buffer.read(FILE_BYTES.number + 1) if str(path) == "-" else Path(path).read_bytes()
    except OSError as error:
        what = f"can't open this file: {error.strerror}"
        hint = "name a YAML file, such as config/catalog/ai_tokens.yaml"
        raise CatalogFileError(what, str(path), hint) from error
    return read_catalog(text)


def read_catalog(text: str | bytes) -> CatalogFile:
    """Read what a catalog file holds. Raises `CatalogFileError` if that can't be used."""
    lines: dict[str, int] = {}
    value = read_yaml(text, lines)
    bare_plans: set[str] = set()
    with located(lines):
        fields = as_fields(value, "$")
        file = CatalogFile(
            meters=take_each(fields, "meters", read_meter),
            features=take_each(fields, "features", read_feature),
            plans=take_each(fields, "plans", lambda item, path: read_plan(item, path, bare_plans)),
            customers=take_each(fields, "customers", read_customer),
            lines=lines,
            bare_plans=frozenset(bare_plans),
        )
        fields.end()
    if len(file.customers) > CUSTOMERS_AT_ONCE.number:
        what = f"expected {CUSTOMERS_AT_ONCE}, got {len(file.customers)}"
        raise error_at(what, "$.customers", f"split the file in several; {CUSTOMERS_AT_ONCE.hint}", lines)
    for name in ("meters", "features", "plans", "customers"):
        check_keys_differ([thing.key for thing in getattr(file, name)], f"$.{name}", lines)
    for index, customer in enumerate(file.customers):
        keys = [grant.key for grant in customer.grants]
        check_keys_differ(keys, f"$.customers[{index}].grants", lines)
    return file
