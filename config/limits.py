"""
Limits: how much of a thing there may be, of all lists, texts and depths that come from outside.

One table, so that what bounds a request, a catalog file or an event can be read in one place. A limit is far above
what a catalog or an event has use for, and far below what would hold up everybody else. What is beyond one is refused,
and the refusal names the limit and its number; what was made before a limit was there goes on to work. None is a
setting: what one installation takes, every other one has to be able to rate again.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

Place = Literal["catalog", "request", "events", "file"]


class Limit(Struct, frozen=True):
    """At most `number` of `unit`, of what `bounds` says."""

    name: str
    number: int
    unit: str
    bounds: str
    place: Place = "catalog"

    def __str__(self) -> str:
        return f"at most {self.number} {self.unit}"

    @property
    def hint(self) -> str:
        """What a refusal says of it beside the number."""
        return f"the limit is `{self.name}`; docs/reference/limits.md lists them all"


MIB: Final = 1024 * 1024

METER_DIMENSIONS: Final = Limit("meter_dimensions", 100, "dimensions", "the `group_by` of a meter")
PATH_LENGTH: Final = Limit("path_length", 1024, "characters", "a path into `data`: a meter's value, or a dimension's")
PATH_STEPS: Final = Limit("path_steps", 32, "steps", "a path into `data`")
FEATURE_FILTERS: Final = Limit("feature_filters", 32, "dimensions", "the filters of a feature")
FILTER_TEXTS: Final = Limit("filter_texts", 1000, "texts", "what one filter of a feature allows")
FILTER_TEXT_LENGTH: Final = Limit("filter_text_length", 1024, "characters", "one text that a filter allows")
KEY_LENGTH: Final = Limit("key_length", 64, "characters", "the key of a meter, feature, plan, phase or rate card")
CUSTOMER_KEY_LENGTH: Final = Limit("customer_key_length", 256, "characters", "the key of a customer")
NAME_LENGTH: Final = Limit("name_length", 1024, "characters", "a name or a unit's name, of anything")
DESCRIPTION_LENGTH: Final = Limit("description_length", 1024, "characters", "a description, of anything")
PLAN_PHASES: Final = Limit("plan_phases", 50, "phases", "a plan")
PHASE_RATE_CARDS: Final = Limit("phase_rate_cards", 500, "rate cards", "a phase of a plan")
PRICE_TIERS: Final = Limit("price_tiers", 200, "tiers", "a price")
CONFIG_LENGTH: Final = Limit("config_length", 16_384, "characters", "the `config` of an entitlement, as JSON")
CUSTOMER_SUBJECTS: Final = Limit("customer_subjects", 1000, "subjects", "a customer, beside its key")
CUSTOMER_THRESHOLDS: Final = Limit("customer_thresholds", 100, "thresholds", "the low balances of a customer")
GRANT_FEATURES: Final = Limit("grant_features", 500, "features", "what a grant pays for")
CUSTOMERS_AT_ONCE: Final = Limit(
    "customers_at_once", 50_000, "customers", "a batch of customers, and a catalog file", "file"
)
FILE_BYTES: Final = Limit("file_bytes", 64 * MIB, "bytes", "a catalog file", "file")
FILE_DEPTH: Final = Limit("file_depth", 30, "levels", "how deep a catalog file nests", "file")

BODY_BYTES: Final = Limit("body_bytes", MIB, "bytes", "a body without events, unpacked", "request")
BODY_DEPTH: Final = Limit("body_depth", 50, "levels", "how deep a body without events nests", "request")
METADATA_ENTRIES: Final = Limit("metadata_entries", 50, "entries", "metadata, labels or an address", "request")
METADATA_KEY_LENGTH: Final = Limit("metadata_key_length", 128, "characters", "the name of such an entry", "request")
METADATA_VALUE_LENGTH: Final = Limit("metadata_value_length", 1024, "characters", "such an entry", "request")

EVENTS_BYTES: Final = Limit("events_bytes", 10 * MIB, "bytes", "a body with events, unpacked", "events")
EVENTS_A_REQUEST: Final = Limit("events_a_request", 50_000, "events", "a body with events", "events")
EVENT_BYTES: Final = Limit("event_bytes", MIB, "bytes", "one event, wherever it comes from", "events")
EVENT_DEPTH: Final = Limit("event_depth", 100, "levels", "how deep an event nests", "events")
ATTRIBUTE_LENGTH: Final = Limit(
    "attribute_length",
    320,
    "characters",
    "the `id`, `source`, `type` or `subject` of an event, and a subject",
    "events",
)

LIMITS: Final = tuple(found for found in vars().values() if isinstance(found, Limit))
"""All of them, in their order."""


def by_place(place: Place) -> list[Limit]:
    """The limits of what comes by one way."""
    return [limit for limit in LIMITS if limit.place == place]
