"""
The control plane: the only writer of the catalog tables and of the control log.

Amounts are exact decimals in the customer's currency, instants are aware and in UTC. A change is its catalog
rows and its entries in the control log in one transaction, or nothing at all. All changes queue at one
advisory lock, so that entry ids become visible in order: a reader that saw entry 7 will never find a 6 later.

    plane                           ControlPlane: the catalog, changed one transaction at a time
    sessions                        its connections: transactions one after the other
    changes                         Changes: a transaction, and the operations on it
    meters, features, plans,        what may change of each resource, and what that comes to
    customers, deletion,
    subscriptions, terms, grants
    drafts, checks, errors          what is asked for, what is checked field by field, how it is refused
    transaction, subjects           what a transaction has read, and is going to write
    writing, head                   the log, the catalog rows, and the head in Redis
"""

from tollway.control.changes import Changes
from tollway.control.checks import YEAR_MAX, YEAR_MIN, check_count, check_length, instant_text
from tollway.control.deletion import check_not_deleted
from tollway.control.drafts import CustomerDraft, GrantDraft, MoveTiming, PlanDraft, SubscriptionDraft
from tollway.control.errors import ControlCode, ControlError, from_meter_error, within
from tollway.control.grants import PRIORITY_MAX
from tollway.control.moves import with_version_now
from tollway.control.plane import ControlPlane
from tollway.control.plans import version_of
from tollway.control.terms import SubscriptionStatus, goes_on, in_force, is_planned, never_was, planned, status_at
from tollway.control.transaction import Transaction, utc_now
from tollway.control.writing import CHANNEL, CONTROL_LOCK

__all__ = [
    "CHANNEL",
    "CONTROL_LOCK",
    "PRIORITY_MAX",
    "YEAR_MAX",
    "YEAR_MIN",
    "Changes",
    "ControlCode",
    "ControlError",
    "ControlPlane",
    "CustomerDraft",
    "GrantDraft",
    "MoveTiming",
    "PlanDraft",
    "SubscriptionDraft",
    "SubscriptionStatus",
    "Transaction",
    "check_count",
    "check_length",
    "check_not_deleted",
    "from_meter_error",
    "goes_on",
    "in_force",
    "instant_text",
    "is_planned",
    "never_was",
    "planned",
    "status_at",
    "utc_now",
    "version_of",
    "with_version_now",
    "within",
]
