"""
A customer's credit grants: in which order they burn, what each has left, and what all of them come to.

Burn order (OpenMeter's): lower priority first; at equal priority a grant restricted to features before
an unrestricted one; then earlier expiry, none last; then the older grant. A grant pays only for usage at
or after its effective instant and before it expired or was voided. All amounts are exact decimals.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from rating.catalog import NEVER, Grant
from rating.money import ZERO


class LiveGrant:
    """A grant that still has something to pay with, though perhaps only for usage of the past or the future."""

    __slots__ = ("effective_at", "ends_at", "grant", "remaining")

    def __init__(self, grant: Grant, remaining: Decimal) -> None:
        self.grant = grant
        self.remaining = remaining
        self.effective_at = grant.effective_at
        self.ends_at = ends_at(grant)


class Wallet:
    """
    The grants of one customer, weighed at an instant.

    Args:
        consumed: What each grant has paid in all, by its id. The account's state owns it; the wallet keeps it up.
    """

    __slots__ = (
        "boundaries", "by_grant", "consumed", "expired", "funded", "grants", "has_refunds", "live_grants", "pending",
        "restricted", "settled", "voided",
    )  # fmt: skip

    def __init__(self, consumed: dict[str, Decimal]) -> None:
        self.by_grant = consumed
        self.grants: Sequence[Grant] = ()
        """All that are known of, in burn order."""
        self.live_grants: list[LiveGrant] = []
        """Those of them that have something left, in burn order."""
        self.boundaries: list[datetime] = []
        """The instants at which a grant takes effect or ends, rising."""
        self.funded = self.consumed = ZERO
        """What all grants came to, and what they paid."""
        self.settled = self.pending = self.expired = self.voided = ZERO
        """What they have left: in force, not yet in force, and lost by expiry or by a void."""
        self.restricted = False
        """Whether a grant in force is for some features only."""
        self.has_refunds = False
        """Whether a grant got something back since what is uncovered was last looked at."""

    def take_over(self, grants: Sequence[Grant], now: datetime) -> set[datetime]:
        """Set the grants, in burn order. Returns the boundaries that are new."""
        known = self.boundaries
        self.grants = grants
        boundaries = {grant.effective_at for grant in grants}
        boundaries.update(grant.ends_at for grant in grants if grant.ends_at is not None)
        self.boundaries = sorted(boundaries)
        self.weigh(now)
        return boundaries.difference(known)

    def weigh(self, now: datetime) -> None:
        """Work out what each grant has left, and what all of them come to at an instant."""
        self.live_grants = []
        self.restricted = False
        self.funded = self.settled = self.pending = self.consumed = self.expired = self.voided = ZERO
        for grant in self.grants:
            consumed = self.by_grant.get(grant.id, ZERO)
            remaining = grant.amount - consumed
            self.funded += grant.amount
            self.consumed += consumed
            self._add_remainder(grant, remaining, now)
            if remaining > 0:
                self.live_grants.append(LiveGrant(grant, remaining))
            if grant.features and grant.effective_at <= now < ends_at(grant):
                self.restricted = True

    def _add_remainder(self, grant: Grant, remaining: Decimal, now: datetime) -> None:
        """Add a grant's remainder to settled, pending, expired or voided."""
        if grant.ends_at is not None and grant.ends_at <= now:
            if grant.ends_at == grant.voided_at:
                self.voided += remaining
            else:
                self.expired += remaining
        elif grant.effective_at > now:
            self.pending += remaining
        else:
            self.settled += remaining

    def pay(self, live: LiveGrant, amount: Decimal, now: datetime) -> Decimal:
        """Let a grant pay up to an amount. Returns what it paid."""
        taken = min(amount, live.remaining)
        if taken:
            live.remaining -= taken
            book(self.by_grant, live.grant.id, taken)
            self.consumed += taken
            self._add_remainder(live.grant, -taken, now)
        return taken

    def refund(self, grant_id: str, amount: Decimal) -> None:
        """Refund a grant. The wallet has to be weighed again before anything else is paid."""
        self.has_refunds = True
        book(self.by_grant, grant_id, -amount)

    def span_of(self, at: datetime) -> int:
        """Which stretch between two boundaries an instant is in: within one, the same grants may pay for usage."""
        return bisect_right(self.boundaries, at)

    def available_for(self, feature_key: str | None, now: datetime) -> Decimal:
        """What grants in force have left that may pay for a feature."""
        left = (live.remaining for live in self.in_force(now) if live.grant.pays_for(feature_key))
        return sum(left, ZERO)

    def in_force(self, now: datetime) -> list[LiveGrant]:
        """The grants that are in force at an instant, and had something left when they were weighed."""
        return [live for live in self.live_grants if live.effective_at <= now < live.ends_at]


def ends_at(grant: Grant) -> datetime:
    """When a grant expires or was voided; `NEVER` where it does not."""
    return grant.ends_at or NEVER


def may_pay(grant: Grant, used_at: datetime) -> bool:
    """Whether a grant may pay for usage of an instant, of some feature."""
    return grant.effective_at <= used_at < ends_at(grant)


def book(paid: dict[str, Decimal], grant_id: str, amount: Decimal) -> None:
    """Add to what a grant paid, or take off it."""
    paid[grant_id] = paid.get(grant_id, ZERO) + amount
    if not paid[grant_id]:
        del paid[grant_id]
