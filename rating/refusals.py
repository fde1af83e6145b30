"""
How an event ends when it is not rated: rejected for good, or parked until it can be.

Both are values, not exceptions. A message says what was expected where, what came instead and what to do;
it never repeats what the event carries.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import final

from msgspec import Struct


class RejectCode(StrEnum):
    """
    Why an event will never be rated, in order of precedence: of several, the first listed is reported.

    The values are public: they are on the dead-letter records and are a metric label.
    """

    TOO_LARGE = "too_large"
    """The event has more bytes than an event may have."""
    MALFORMED = "malformed"
    """The bytes are not one JSON value in UTF-8, or it is nested too deeply."""
    INVALID_ENVELOPE = "invalid_envelope"
    """An attribute is missing or not as CloudEvents 1.0 has it, or `data` is not an object."""
    NUMBER_UNREADABLE = "number_unreadable"
    """A number that a meter may look at has more digits, or a larger exponent, than can be read."""
    TIME_IN_FUTURE = "time_in_future"
    """The event's time is too far ahead of its arrival."""
    VALUE_MISSING = "value_missing"
    """The meter's value property is not in the event."""
    VALUE_NOT_A_NUMBER = "value_not_a_number"
    """The value is neither a number nor a string that holds one."""
    VALUE_NOT_A_TEXT = "value_not_a_text"
    """The value to count once is null, an array, an object or a number out of range."""
    VALUE_OUT_OF_RANGE = "value_out_of_range"
    """The value has too many digits before or after the point."""
    VALUE_NEGATIVE = "value_negative"
    """The value is below 0."""
    VALUE_TOO_MANY = "value_too_many"
    """The billing period has had as many different values as a meter counts, and this is another one."""
    FAILED = "failed"
    """The engine failed at the event, or at its customer's data: a defect, which is alerted."""


class ParkCode(StrEnum):
    """
    Why an event cannot be rated yet, in order of precedence: of several, the first listed is reported.

    The values are public: they are on the parked events and are a metric label.
    """

    UNKNOWN_SUBJECT = "unknown_subject"
    """The subject belongs to no customer."""
    NO_SUBSCRIPTION = "no_subscription"
    """The customer had no subscription at the time of the event."""
    NO_FEATURE = "no_feature"
    """No feature of the customer's plan meters events like this one, or the event has nothing that one would count."""
    PERIOD_CLOSED = "period_closed"
    """The billing period of the event has closed."""
    UNPRICED = "unpriced"
    """A meter of the plan counts the event, and no feature of it prices that usage; the event itself was rated."""


@final
class Rejected(Struct, frozen=True):
    """
    An event that will never be rated, or what of it: why, where in it (as in `$.data.tokens`), and its bytes.

    `meter` is the key of the one meter that it has no value for, where the rest of the event was rated.
    """

    code: RejectCode
    message: str
    path: str
    raw: bytes
    meter: str = ""


class Parked(Struct, frozen=True):
    """
    An event that waits until it can be rated, or what of it does.

    `customer` is an id, None while the subject is unknown. `meter` is the key of the one meter whose usage waits, where
    the rest of the event was rated: then `dimensions` are the texts by which no feature takes it.
    """

    code: ParkCode
    message: str
    source: str
    id: str
    subject: str
    customer: str | None
    time: datetime
    raw: bytes
    received_at: datetime
    """When the event was first received."""
    meter: str = ""
    dimensions: dict[str, str] = {}
    type: str = ""
    """The event's type, by which it is found again when a meter or a feature of such events changes."""
    quantity: Decimal | None = None
    """What the event adds to that meter; None where it is a text."""
    content: bytes = b""
    """The digest of what the event says, by which copies that are written otherwise are known."""


def waits_because(code: ParkCode, subject: str, event_type: str, meter: str = "") -> str:
    """Why an event waits, or what of it is for one meter, and what to do."""
    if meter:
        return _PART_MESSAGES[code].format(meter=meter)
    return _MESSAGES[code].format(subject=subject, type=event_type)


_MESSAGES = {
    ParkCode.UNKNOWN_SUBJECT: "no customer has the subject `{subject}`: add it to a customer's subjects",
    ParkCode.NO_SUBSCRIPTION: (
        "the customer of `{subject}` had no subscription at the event's time: subscribe it as of then, which is"
        " possible where it has had none since"
    ),
    ParkCode.NO_FEATURE: (
        "no feature of the customer's plan takes anything of this `{type}` event: add meter, feature and rate card, or"
        " see whether it has the value that they count"
    ),
    ParkCode.PERIOD_CLOSED: "the billing period of the event had closed when it arrived",
}
_PART_MESSAGES = {
    ParkCode.UNPRICED: "no feature of the customer's plan prices this usage of meter `{meter}`: add one, or its filter",
    ParkCode.PERIOD_CLOSED: "the billing period of a feature of meter `{meter}` had closed when the event arrived",
}
