"""
The plain oracle: what a whole history comes to, event by event and instant by instant, in loops and fractions.

It shares no code with the engine. A history is plain data: entries of the control log, and events, each with the
instant at which it was recorded or received. The rules that are followed here:

- An event is attributed by its own time: to whom its subject belonged, the subscription that was in force, the phase
  and the billing period. What can't be placed waits, and is placed by a later entry; the time of its first receipt
  says whether its period had closed.
- A period costs the price of its usage. A fee, or a first tier's flat part, is owed as of the period's start, one in
  arrears and a minimum as of its last instant.
- What is newly owed burns grants in their order, those that were effective at the time of use. What comes to cost less
  is taken off what is uncovered first, then given back in the reverse of that order.
- Under `credit_only` a grant that is active at any instant after the use repays what is uncovered; a grant that is
  recorded late pays for what was used since it took effect.
- Who paid depends on the order only where usage is not in the order of time, or where a period gets cheaper: such
  figures are marked as moot, and only what they add up to is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
NEVER = datetime.max.replace(tzinfo=UTC)
ZERO = Fraction(0)

Plain = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """An entry of the control log: when it was recorded, what it is about, and how that stands from then on."""

    at: datetime
    kind: str
    body: Plain


@dataclass(frozen=True)
class Arrival:
    """An event, and when the log received it."""

    received: datetime
    event: Plain


@dataclass
class History:
    """All that happened, up to an instant."""

    entries: list[Entry]
    arrivals: list[Arrival]
    until: datetime
    window: int = 3600
    late_windows: int = 2
    grace: timedelta = timedelta(hours=24)
    keep_closed: timedelta = timedelta(hours=24)
    max_ahead: timedelta = timedelta(minutes=5)
    stops: list[datetime] = field(default_factory=list)
    """Instants at which somebody looks."""
    traits: frozenset[str] = frozenset()
    """What of the unusual is in it."""


# -- time ---------------------------------------------------------------------------------------


def months_on(instant: datetime, months: int) -> datetime:
    """So many calendar months later; a day the month does not have becomes its last."""
    number = instant.year * 12 + instant.month - 1 + months
    year, month = number // 12, number % 12 + 1
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    last = (following - TICK).day
    return instant.replace(year=year, month=month, day=min(instant.day, last))


@lru_cache(maxsize=100_000)
def cadence_on(instant: datetime, cadence: str, times: int) -> datetime:
    """So many cadences later. Only `PnM`, `PnW`, `PnD`, `PTnH`, `PTnM` are known."""
    number = int(cadence.lstrip("PT")[:-1]) * times
    if cadence.startswith("PT"):
        return instant + timedelta(**{{"H": "hours", "M": "minutes", "S": "seconds"}[cadence[-1]]: number})
    if cadence[-1] == "M":
        return months_on(instant, number)
    return instant + timedelta(days=number * {"W": 7, "D": 1}[cadence[-1]])


@lru_cache(maxsize=100_000)
def cadence_period(anchor: datetime, cadence: str, at: datetime) -> tuple[datetime, datetime]:
    """The period an instant falls in, found step by step from a guess."""
    number = int((at - anchor) / (cadence_on(anchor, cadence, 1) - anchor))
    while cadence_on(anchor, cadence, number) > at:
        number -= 1
    while cadence_on(anchor, cadence, number + 1) <= at:
        number += 1
    return cadence_on(anchor, cadence, number), cadence_on(anchor, cadence, number + 1)


# -- prices -------------------------------------------------------------------------------------


def half_up(value: Fraction, digits: int) -> Fraction:
    """Rounded to so many digits, half away from zero."""
    scaled = abs(value) * 10**digits
    whole = Fraction(floor(scaled + Fraction(1, 2)), 10**digits)
    return whole if value >= 0 else -whole


def tiers_of(price: Plain) -> Iterator[tuple[Fraction, Fraction | None, Fraction, Fraction]]:
    """Each tier: above what, up to what, price of a unit, flat part."""
    below = ZERO
    for tier in price["tiers"]:
        top = None if tier.get("up_to") is None else Fraction(tier["up_to"])
        yield below, top, Fraction(tier.get("unit") or 0), Fraction(tier.get("flat") or 0)
        below = top if top is not None else below


def gross(price: Plain, usage: Fraction) -> Fraction:
    """What a usage costs under a price: no discount, no bound."""
    match price["type"]:
        case "unit" | "dynamic":
            return usage * Fraction(price["amount"])
        case "package":
            return ceil(usage / Fraction(price["size"])) * Fraction(price["amount"])
        case "graduated":
            cost = ZERO
            for below, top, unit, flat in tiers_of(price):
                if below == 0 or usage > below:
                    cost += flat + ((usage if top is None else min(usage, top)) - below) * unit
            return cost
        case "volume":
            for _, top, unit, flat in tiers_of(price):
                if top is None or usage <= top:
                    return usage * unit + flat
    raise AssertionError(price)


def billed(card: Plain, usage: Fraction) -> Fraction:
    """The quantity that a price sees: converted, less the free units."""
    conversion = card.get("conversion")
    if conversion is not None:
        factor = Fraction(conversion["factor"])
        usage = usage * factor if conversion["operation"] == "multiply" else usage / factor
        scale = 10 ** conversion["precision"]
        match conversion["rounding"]:
            case "ceiling":
                usage = Fraction(ceil(usage * scale), scale)
            case "floor":
                usage = Fraction(floor(usage * scale), scale)
            case "half_up":
                usage = half_up(usage, conversion["precision"])
            case _ if (denominator := usage.denominator) and 10**100 % denominator:
                usage = half_up(usage, 30)
    return max(usage - Fraction(card.get("free") or 0), ZERO)


def running(card: Plain, usage: Fraction, served: Fraction) -> Fraction:
    """What a period has come to at a usage; `served` is the share of the full period that it lasts."""
    price = card["price"]
    if price["type"] == "free":
        return ZERO
    share = 1 - Fraction(card.get("percentage") or 0) / 100
    if price["type"] == "flat":
        amount = Fraction(price["amount"])
        return (amount if served == 1 else half_up(amount * served, 30)) * share
    cost = gross(price, billed(card, usage)) * share
    return min(cost, Fraction(price["maximum"])) if price.get("maximum") is not None else cost


def minimum(card: Plain, served: Fraction) -> Fraction:
    """What a period costs at least, once it is closed."""
    least = Fraction(card["price"].get("minimum") or 0)
    return least if served == 1 else half_up(least * served, 30)


def aggregate(kind: str, values: list[tuple[datetime, str, Any]]) -> Fraction:
    """What the values of events come to: each with its event's time and id."""
    numbers = [value for _, _, value in values]
    if not numbers:
        return ZERO
    match kind:
        case "SUM":
            return sum(numbers, ZERO)
        case "COUNT":
            return Fraction(len(numbers))
        case "MIN":
            return Fraction(min(numbers))
        case "MAX":
            return Fraction(max(numbers))
        case "AVG":
            return half_up(sum(numbers, ZERO) / len(numbers), 18)
        case "LATEST":
            return Fraction(max(values)[2])
        case "UNIQUE_COUNT":
            return Fraction(len(set(numbers)))
    raise AssertionError(kind)


# -- what is told -------------------------------------------------------------------------------


PeriodKey = tuple[str, str, str, datetime]
"""Customer, subscription, card, start."""


@dataclass
class Told:
    """What a period came to."""

    end: datetime
    usage: Fraction
    events: int
    amount: Fraction
    commitment: Fraction
    credits: Fraction
    uncovered: Fraction


@dataclass
class Balance:
    """What a customer has left."""

    funded: Fraction
    settled: Fraction
    pending: Fraction
    consumed: Fraction
    expired: Fraction
    voided: Fraction
    uncovered: Fraction
    overage: Fraction
    charged: Fraction
    blocked: bool
    blocked_features: list[str]
    level: int
    """How many of the thresholds, zero being the last, the live balance is not above."""
    limits: dict[tuple[str, datetime], Fraction]
    """What features with a metered entitlement were used in the periods that are not over."""
    paid: dict[str, Fraction]
    is_moot: bool = False
    """Whether who paid depends on the order."""
    is_moot_by_card: bool = False
    """Whether what was paid of which period does."""
    is_contested: bool = False
    """Whether some grant did not suffice for all that it might have paid."""
    is_moot_if_late: bool = False
    """Whether who paid depends on what of a grant, that was recorded after it took effect, was known when."""


# -- the loop -----------------------------------------------------------------------------------


@dataclass
class Piece:
    """What was newly owed at once, as of a time, and by whom it was paid."""

    at: datetime
    owed: Fraction
    dated: datetime
    """What stands for its time where a grant becomes known later: for usage, the start of its (part of a) window."""
    paid: dict[str, Fraction] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    """Grants that were known when it was charged."""

    def time_for(self, grant: Plain) -> datetime:
        """Its time, as far as a grant is concerned."""
        return self.at if grant["id"] in self.known else self.dated


class Period:
    """One rate card of one subscription in one billing period."""

    def __init__(self, customer: str, subscription: str, card: Plain, start: datetime) -> None:
        self.customer = customer
        self.subscription = subscription
        self.card = card
        self.feature: str | None = card.get("feature")
        self.start = start
        self.end = start
        self.full = (start, start)
        self.served = Fraction(1)
        self.closes_at = NEVER
        self.repays = False
        self.values: list[tuple[datetime, str, Any]] = []
        self.usage = ZERO
        self.amount = ZERO
        self.commitment = ZERO
        self.is_begun = self.is_open = self.is_booked = self.is_closed = False
        self.pieces: list[Piece] = []
        self.latest: datetime | None = None

    @property
    def uncovered(self) -> Fraction:
        return sum((piece.owed for piece in self.pieces), ZERO)


@dataclass
class Placed:
    """What becomes of an event: what it counts towards, and by meter why a part of it waits."""

    counted: list[tuple[Period, Any]] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    is_refused: bool = False


class Oracle:
    """
    Goes through a history.

    Args:
        history: What happened.
        in_file: Whether it is rated as a file is: nothing is too late, and what is over is closed.
    """

    def __init__(self, history: History, in_file: bool = False) -> None:
        self.history = history
        self.in_file = in_file
        self.now = self.read_through = EPOCH
        self.meters: dict[str, Plain] = {}
        self.features: dict[str, Plain] = {}
        self.plans: dict[tuple[str, int], Plain] = {}
        self.customers: dict[str, Plain] = {}
        self.owners: dict[str, list[tuple[datetime, str | None]]] = defaultdict(list)
        """Of each subject: from when on it was whose."""
        self.subscriptions: dict[str, dict[str, Plain]] = defaultdict(dict)
        self.grants: dict[str, dict[str, Plain]] = defaultdict(dict)
        self.periods: dict[PeriodKey, Period] = {}
        self.paid: dict[str, Fraction] = defaultdict(Fraction)
        self.waiting: list[Arrival] = []
        self.seen: set[tuple[str, str, str]] = set()
        self.holders: dict[tuple[str, str, str], Arrival] = {}
        """The events that wait, by the identity that each has to itself until it is rated or refused."""
        self.followed: set[tuple[str, str, str]] = set()
        """Identities under which another content came while the first waited."""
        self.unowned: set[tuple[str, str, str]] = set()
        """Subjects, sources and ids of which the same holds, while the subject was nobody's."""
        self.ends: dict[str, int] = defaultdict(int)
        self.parked: dict[tuple[str, str, str, str], str] = {}
        """Subject, source, id and meter (empty: the whole event) of what waits, and why."""
        self.latest: dict[str, datetime] = {}
        """Of each customer: the latest time of use that was charged."""
        self.contested: set[str] = set()
        """Customers of whom some grant did not suffice for all that it might have paid."""
        self.disordered: set[str] = set()
        """Those that were not charged in the order of time."""
        self.tied: set[str] = set()
        """Those that were charged for several cards as of the same instant."""
        self.shared: set[str] = set()
        """Those of whom a grant repaid a part of what several periods owed."""
        self.surprised: set[str] = set()
        """Those that were charged as of the instant at which a grant was recorded: it may be read a moment later."""
        self.outlived: set[str] = set()
        """Those of whom a grant, that was recorded late, might have paid for a period that may have left the state."""
        self.returned: set[str] = set()
        """Those of whom a grant paid for what was told in a window that may have had to come back from the ledger."""
        self.tangled: set[str] = set()
        """Those of whom a period, whose units do not all cost the same, was not used in the order of time."""
        self.lost = False
        """Whether usage was not rated that would have been, had it been read later, or placed sooner."""
        self._latest_period: dict[str, Period] = {}
        self._entries = list(history.entries)
        self._arrivals = list(history.arrivals)

    # -- the loop

    def run(self, until: datetime) -> None:
        """Let all happen up to an instant, it included."""
        while True:
            coming = [
                *(entry.at for entry in self._entries[:1]),
                *(arrival.received for arrival in self._arrivals[:1]),
                *self._due(until),
            ]
            at = min((instant for instant in coming if instant <= until), default=None)
            if at is None:
                break
            self.now = max(self.now, at)
            took = False
            while self._entries and self._entries[0].at <= self.now:
                self._apply(self._entries.pop(0))
                took = True
            if took:
                self._follow()
            self._pass_time()
            if took:
                waiting, self.waiting = self.waiting, []
                for arrival in waiting:
                    self._take(arrival)
            while self._arrivals and self._arrivals[0].received <= self.now:
                self._take(self._arrivals.pop(0))
        self.now = max(self.now, until)

    def _due(self, until: datetime) -> list[datetime]:
        """Instants after the present one at which time alone does something; at most the next of each kind."""
        found: list[datetime] = []
        for grants in self.grants.values():
            for grant in grants.values():
                found += [grant["from"], ends(grant)]
        for of_customer in self.subscriptions.values():
            for sub in of_customer.values():
                found += [sub["from"], sub["to"] or NEVER]
                found += [at for at in self._starts(sub, until) if at > self.now][:1]
        for period in self.periods.values():
            found += [period.end, period.closes_at]
        return [instant for instant in found if self.now < instant <= until]

    def _starts(self, sub: Plain, until: datetime) -> Iterator[datetime]:
        """The instants at which some period of a subscription starts, rising, from around the present one."""
        at = sub.get("opened_to") or sub["from"]
        while at <= until and at < (sub["to"] or NEVER):
            yield at
            placed = self._placements(sub, at)
            end = self._phase(sub, at)
            if end is None:
                return
            at = min([found[2] for found in placed] + [end[2] or NEVER])

    # -- the catalog

    def _apply(self, entry: Entry) -> None:
        body = entry.body
        match entry.kind:
            case "meter":
                self.meters[body["key"]] = body
            case "feature":
                self.features[body["key"]] = body
            case "plan":
                self.plans[body["key"], body["version"]] = body
            case "customer":
                before = self.customers.get(body["id"])
                self.customers[body["id"]] = body
                had = set() if before is None else {before["key"], *before["subjects"]}
                has = set() if body.get("deleted") else {body["key"], *body["subjects"]}
                for subject in had - has:
                    if self.owners[subject] and self.owners[subject][-1][1] == body["id"]:
                        self.owners[subject].append((entry.at, None))
                for subject in has:
                    if not self.owners[subject] or self.owners[subject][-1][1] != body["id"]:
                        self.owners[subject].append((entry.at, body["id"]))
            case "subscription":
                known = self.subscriptions[body["customer"]].get(body["id"], {})
                self.subscriptions[body["customer"]][body["id"]] = known | body
            case "grant":
                self.grants[body["customer"]][body["id"]] = body
            case _:
                raise AssertionError(entry.kind)

    def owner(self, subject: str, at: datetime) -> str | None:
        """
        Whose a subject was at an instant: the first owner's for all time before; a gap goes to the next owner.
        """
        spans = self.owners.get(subject, [])
        owner: str | None = None
        for number, (since, whose) in enumerate(spans):
            if number == 0 or since <= at:
                owner = whose
                if whose is None and number + 1 < len(spans):
                    owner = spans[number + 1][1]
        return owner

    def _subscription(self, customer: str, at: datetime) -> Plain | None:
        current = [
            sub for sub in self.subscriptions[customer].values() if sub["from"] <= at and at < (sub["to"] or NEVER)
        ]
        return max(current, key=lambda sub: (sub["from"], sub["id"]), default=None)

    def _phase(self, sub: Plain, at: datetime) -> tuple[Plain, datetime, datetime | None] | None:
        plan = self.plans.get((sub["plan"], sub["version"]))
        start = sub["from"]
        for phase in plan["phases"] if plan is not None else []:
            end = cadence_on(start, phase["duration"], 1) if phase.get("duration") else None
            if end is None or at < end:
                return phase, start, end
            start = end
        return None

    def _placements(self, sub: Plain, at: datetime) -> list[tuple[Plain, datetime, datetime, datetime, datetime]]:
        """The cards in force: each with its period, and the whole period it is a part of."""
        found = self._phase(sub, at)
        if found is None:
            return []
        phase, phase_start, phase_end = found
        plan = self.plans[sub["plan"], sub["version"]]
        placed = []
        for card in phase["cards"]:
            full = cadence_period(sub["anchor"], card.get("cadence") or plan["cadence"], at)
            if card.get("once"):
                full = phase_start, phase_end or months_on(phase_start, 1200)
            start = max(full[0], phase_start)
            end = min(full[1], phase_end or NEVER, sub["to"] or NEVER)
            placed.append((card, start, end, *full))
        return placed

    # -- periods and time

    def _period(
        self, sub: Plain, card: Plain, start: datetime, end: datetime, full: tuple[datetime, datetime]
    ) -> Period:
        key = (sub["customer"], sub["id"], card["key"], start)
        period = self.periods.get(key)
        if period is None:
            period = self.periods[key] = Period(sub["customer"], sub["id"], card, start)
            period.repays = sub["mode"] == "credit_only"
        self._bound(period, sub, end, full)
        return period

    def _bound(self, period: Period, sub: Plain, end: datetime, full: tuple[datetime, datetime]) -> None:
        plan = self.plans[sub["plan"], sub["version"]]
        period.end, period.full = end, full
        period.served = Fraction(1)
        if plan.get("prorate") and not period.card.get("once"):
            period.served = Fraction((end - period.start) // TICK, (full[1] - full[0]) // TICK)
        recorded = sub["from"] if self.in_file else sub["recorded"]
        period.closes_at = max(end, recorded) + self.history.grace

    def _follow(self) -> None:
        """A subscription that was ended or changed moves the ends of its open periods."""
        for period in self.periods.values():
            sub = self.subscriptions[period.customer][period.subscription]
            for card, start, end, *full in self._placements(sub, period.start):
                if card is period.card and start == period.start and not period.is_closed:
                    self._bound(period, sub, end, (full[0], full[1]))
                    self._price(period, period.start)

    def _pass_time(self) -> None:
        """What the present instant does by itself, and those that passed before it was known what they do."""
        now = self.now
        self._cover()
        for customer in list(self.subscriptions):
            for sub in list(self.subscriptions[customer].values()):
                for at in self._starts(sub, now):
                    for card, start, end, *full in self._placements(sub, at):
                        if start == at or at == sub["from"]:
                            self._period(sub, card, start, end, (full[0], full[1]))
                    sub["opened_to"] = at
        found: list[tuple[datetime, int, Period]] = []
        for period in self.periods.values():
            if not period.is_begun:
                found.append((period.start, 0, period))
            if is_arrears(period.card) and not period.is_booked:
                found.append((period.end, 1, period))
            if not period.is_closed:
                found.append((period.closes_at, 2, period))
        for at, what, period in sorted(found, key=lambda one: one[:2]):
            if at > now:
                break
            self.now = at
            if what == 0:
                period.is_begun = True
                self._begin(period)
            elif what == 1:
                period.is_booked = True
                self._price(period, period.end - TICK)
            else:
                period.is_closed = True
                self._price(period, period.end - TICK)
            self._cover()
        self.now = now
        self._cover()

    def close_ended(self) -> None:
        """Close the periods that are over, without waiting for their grace to pass."""
        ended = [period for period in self.periods.values() if not period.is_closed and period.end <= self.now]
        for period in sorted(ended, key=lambda one: one.end):
            period.is_closed = True
            self._price(period, period.end - TICK)
        self._cover()

    # -- usage

    def _take(self, arrival: Arrival) -> None:
        event, received = arrival.event, arrival.received
        self.read_through = max(self.read_through, received)
        at = event["time"] or received
        if at > received + self.history.max_ahead:
            self.ends["rejected"] += 1
            return
        name = (event["subject"], event["source"], event["id"])
        customer = self.owner(event["subject"], min(at, received))
        identity = (customer or "", event["source"], event["id"])
        if identity in self.seen:
            self.ends["duplicate"] += 1
            self.parked.pop((*name, ""), None)
            return
        holder = self.holders.get(identity)
        if holder is not None and holder is not arrival:
            # The first received has the id, also while it waits.
            self.ends["duplicate"] += 1
            if holder.event["data"] != event["data"]:
                self.followed.add(identity)
            return
        placed = self._place(customer, event, at, received)
        if isinstance(placed, str):
            if self._waits_otherwise(arrival):
                # Read late, when the subject has a customer and the first is not back yet, this one is rated.
                self.lost = self.lost or customer is None
                self.unowned.add(name)
                return
            self.parked[(*name, "")] = placed
            if customer is not None:
                self.holders[identity] = arrival
            if placed != "period_closed":
                self.waiting.append(arrival)
            return
        self.parked.pop((*name, ""), None)
        if not placed.counted and "unpriced" not in placed.parts.values():
            self.ends["rejected"] += 1
            if identity in self.followed or name in self.unowned:
                # Where the first is refused at once, the next one under its id is rated.
                self.lost = True
            return
        assert customer is not None
        if any(self.now in (grant["from"], grant["created"]) for grant in self.grants[customer].values()):
            # Whether it pays for older overage first is not said: windows that left come back a little later.
            self.disordered.add(customer)
        self.seen.add(identity)
        self.ends["rated"] += 1
        self.parked |= {(*name, meter): code for meter, code in placed.parts.items()}
        for period, value in placed.counted:
            period.values.append((at, event["id"], value))
            meter = self.meters[self.features[period.feature or ""]["meter"]]
            period.usage = aggregate(meter["aggregation"], period.values)
            if not is_linear(period.card) or meter["aggregation"] not in ("SUM", "COUNT"):
                if period.latest is not None and at < period.latest:
                    self.tangled.add(customer)
                period.latest = max(at, period.latest or at)
            self._price(period, at)
        self._cover()

    def _has_left(self, period: Period, meter: Plain) -> bool:
        """Whether a period is not in the state any more, and can't be gone on with from what the ledger has of it."""
        if meter["aggregation"] not in ("AVG", "LATEST", "UNIQUE_COUNT") or self.in_file:
            return False
        has_left = period.closes_at + self.history.keep_closed <= self.read_through
        self.lost = self.lost or has_left
        return has_left

    def _waits_otherwise(self, arrival: Arrival) -> bool:
        """Whether an event with the same identity and other content waits already."""
        names = ("subject", "source", "id")
        return any(
            all(other.event[name] == arrival.event[name] for name in names)
            and other.event["data"] != arrival.event["data"]
            for other in self.waiting
        )

    def _place(self, customer: str | None, event: Plain, at: datetime, received: datetime) -> Placed | str:
        """What an event counts towards, meter by meter; or why all of it waits."""
        if customer is None:
            return "unknown_subject"
        sub = self._subscription(customer, at)
        if sub is None:
            return "no_subscription"
        cards = defaultdict(list)
        for found in self._placements(sub, at):
            feature = self.features.get(found[0].get("feature") or "")
            meter = self.meters.get(feature["meter"]) if feature is not None else None
            if meter is not None and meter["event_type"] == event["type"]:
                cards[meter["key"]].append(found)
        placed = Placed()
        for key, of_meter in cards.items():
            meter = self.meters[key]
            takers = [found for found in of_meter if takes(self.features[found[0]["feature"]], event["data"])]
            most = [found for found in takers if not self.features[found[0]["feature"]].get("others")]
            takers = most or takers
            value = Fraction(1) if meter["aggregation"] == "COUNT" else read(event["data"], meter)
            if value is None:
                placed.is_refused = placed.is_refused or bool(takers) or meter["field"] in event["data"]
            elif not takers and (value or meter["aggregation"] != "SUM"):
                placed.parts[key] = "unpriced"
            for card, start, end, *full in takers if value is not None else []:
                period = self._period(sub, card, start, end, (full[0], full[1]))
                if self._has_left(period, meter):
                    placed.parts[key] = "period_closed"
                elif received < period.closes_at or self.in_file:
                    placed.counted.append((period, value))
                else:
                    placed.parts[key] = "period_closed"
        if placed.counted or "unpriced" in placed.parts.values():
            return placed
        if not (placed.parts or placed.is_refused):
            return "no_feature"
        return "period_closed" if placed.parts else placed

    # -- money

    def _begin(self, period: Period) -> None:
        """Price a period as it begins: what it costs in any case, then what was used ahead, each as of its time."""
        values, period.values = sorted(period.values, key=lambda value: value[:2]), []
        usage, period.usage = period.usage, ZERO
        self._price(period, period.start)
        for value in values:
            period.values.append(value)
            meter = self.meters[self.features[period.feature or ""]["meter"]]
            period.usage = aggregate(meter["aggregation"], period.values)
            self._price(period, value[0])
        assert period.usage == usage, "it comes to the same event by event"

    def _price(self, period: Period, at: datetime) -> None:
        """Charge what a period costs now over what it cost before, as of a time of use."""
        if is_arrears(period.card) and not period.is_booked:
            return
        if self.now < period.start:
            # Usage ahead of its period is priced once that begins.
            return
        if not period.is_open:
            period.is_open = True
            standing = running(period.card, ZERO, period.served)
            if standing and not is_arrears(period.card):
                self._charge(period, period.start, standing)
        amount = running(period.card, period.usage, period.served)
        if period.is_closed:
            period.commitment = max(minimum(period.card, period.served) - amount, ZERO)
        self._charge(period, at, amount + period.commitment)

    def _charge(self, period: Period, at: datetime, cost: Fraction) -> None:
        change = cost - period.amount
        period.amount = cost
        if not change:
            return
        latest = self.latest.get(period.customer, at)
        if at < latest:
            self.disordered.add(period.customer)
        if at == latest and self._latest_period.get(period.customer, period) is not period:
            self.tied.add(period.customer)
        if any(grant["created"] == self.now for grant in self.grants[period.customer].values()):
            self.surprised.add(period.customer)
        self.latest[period.customer] = max(at, latest)
        self._latest_period[period.customer] = period
        if change > 0:
            piece = self._piece(period, at, change)
            period.pieces.append(piece)
            for grant in self._in_order(period.customer):
                if pays(grant, period.feature) and grant["from"] <= at < ends(grant):
                    self._pay(period, piece, grant)
            if piece.owed:
                self.contested.add(period.customer)
            return
        self.disordered.add(period.customer)
        self._give_back(period, at, -change)

    def _piece(self, period: Period, at: datetime, owed: Fraction) -> Piece:
        grants = self.grants[period.customer].values()
        window = timedelta(seconds=self.history.window)
        cuts = [instant for grant in grants for instant in (grant["from"], ends(grant)) if instant <= at]
        dated = max([EPOCH + (at - EPOCH) // window * window, period.start, *cuts])
        if at == period.end - TICK:
            # What is due at the end has its own date.
            dated = at
        return Piece(at, owed, dated, known={grant["id"] for grant in grants})

    def _give_back(self, period: Period, at: datetime, amount: Fraction) -> None:
        for piece in reversed(period.pieces):
            taken = min(amount, piece.owed)
            piece.owed -= taken
            amount -= taken
        order = list(reversed(self._in_order(period.customer)))
        order.sort(key=lambda grant: not grant["from"] <= at < ends(grant))
        for grant in order:
            for piece in reversed(period.pieces):
                taken = min(amount, piece.paid.get(grant["id"], ZERO))
                if taken:
                    piece.paid[grant["id"]] -= taken
                    self.paid[grant["id"]] -= taken
                    amount -= taken
        assert amount == 0, "a period gives back no more than it was charged"

    def _pay(self, period: Period, piece: Piece, grant: Plain) -> None:
        taken = min(piece.owed, self.left(grant))
        if taken:
            piece.owed -= taken
            piece.paid[grant["id"]] = piece.paid.get(grant["id"], ZERO) + taken
            self.paid[grant["id"]] += taken
        if piece.owed:
            self.contested.add(period.customer)

    def _cover(self) -> None:
        """
        Let grants pay for what is uncovered: of their own time, and what `credit_only` went beyond.

        In the order in which they could first have paid, had all been known.
        """
        for customer in self.grants:
            owing = [p for p in self.periods.values() if p.customer == customer and any(x.owed for x in p.pieces)]
            if not owing:
                continue
            self.contested.add(customer)
            able: list[tuple[datetime, int, int, Period, Piece, Plain]] = []
            for place, grant in enumerate(self._in_order(customer)):
                if not self.left(grant) or not grant["from"] <= self.now or not grant["from"] < ends(grant):
                    continue
                for number, period in enumerate(owing):
                    for piece in period.pieces if pays(grant, period.feature) else []:
                        at = piece.time_for(grant)
                        if piece.owed and at < ends(grant) and (period.repays or grant["from"] <= at):
                            if not period.repays and period.closes_at + self.history.keep_closed <= grant["created"]:
                                self.outlived.add(customer)
                            able.append((max(grant["from"], at), place, number, period, piece, grant))
            for *_, period, piece, grant in sorted(able, key=lambda found: found[:3]):
                if piece.owed and self.left(grant) and self._has_window_left(period, piece):
                    self.returned.add(customer)
                self._pay(period, piece, grant)
                if not self.left(grant) and len(owing) > 1:
                    self.shared.add(customer)

    def _has_window_left(self, period: Period, piece: Piece) -> bool:
        """Whether what a piece was told in may have left the state: it then comes back an epoch later."""
        newest = max([piece.dated, *(at for at, _, _ in period.values)])
        late = timedelta(seconds=self.history.window * self.history.late_windows)
        return period.is_closed or newest - piece.dated >= late

    def _in_order(self, customer: str) -> list[Plain]:
        """Grants in the order in which they burn."""
        return sorted(
            self.grants[customer].values(),
            key=lambda grant: (
                grant["priority"],
                not grant["features"],
                grant["to"] or NEVER,
                grant["created"],
                grant["from"],
                grant["id"],
            ),
        )

    def left(self, grant: Plain) -> Fraction:
        """What a grant has not paid yet."""
        return Fraction(grant["amount"]) - self.paid[grant["id"]]

    # -- what it comes to

    def charges(self) -> dict[PeriodKey, Told]:
        """Every period that was used or cost something."""
        found = {}
        for key, period in self.periods.items():
            uncovered = period.uncovered
            is_told = self.now >= period.start and (period.is_booked or not is_arrears(period.card))
            told = Told(
                period.end,
                period.usage if is_told else ZERO,
                len(period.values) if is_told else 0,
                period.amount,
                period.commitment,
                period.amount - uncovered,
                uncovered,
            )
            if told.usage or told.amount or told.events:
                found[key] = told
        return found

    def balance(self, customer: str) -> Balance:
        """What a customer has left at the present instant."""
        sums: dict[str, Fraction] = defaultdict(Fraction)
        for grant in self.grants[customer].values():
            left = self.left(grant)
            sums["funded"] += Fraction(grant["amount"])
            sums["consumed"] += self.paid[grant["id"]]
            if ends(grant) <= self.now:
                sums["voided" if grant["voided"] == ends(grant) else "expired"] += left
            elif grant["from"] > self.now:
                sums["pending"] += left
            else:
                sums["settled"] += left
        own = [period for period in self.periods.values() if period.customer == customer]
        overage = sum((period.uncovered for period in own if period.repays), ZERO)
        sub = self._subscription(customer, self.now)
        blocks = sub is not None and (sub["mode"] == "credit_only" or self.customers[customer]["block"])
        is_blocked = blocks and sums["settled"] - overage <= 0
        limits = [Fraction(0), *map(Fraction, self.customers[customer]["thresholds"])] if sums["funded"] else []
        is_narrow = any(grant["features"] for grant in self.grants[customer].values())
        unordered = self.disordered | (self.tied if is_narrow else set())
        is_moot = customer in self.tangled | (self.contested & unordered) | (set() if self.in_file else self.outlived)
        return Balance(
            funded=sums["funded"],
            settled=sums["settled"],
            pending=sums["pending"],
            consumed=sums["consumed"],
            expired=sums["expired"],
            voided=sums["voided"],
            uncovered=sum((period.uncovered for period in own), ZERO),
            overage=overage,
            charged=sum((period.amount for period in own), ZERO),
            blocked=is_blocked or bool(self.customers[customer].get("deleted")),
            blocked_features=self._shut(customer, sub, overage) if blocks and not is_blocked else [],
            level=sum(sums["settled"] - overage <= limit for limit in limits),
            limits=self._limits(own),
            paid={grant: paid for grant, paid in self.paid.items() if paid and grant in self.grants[customer]},
            is_moot=is_moot,
            is_contested=customer in self.contested,
            is_moot_if_late=customer in self.surprised | (set() if self.in_file else self.returned)
            or any(grant["from"] < grant["created"] for grant in self.grants[customer].values()),
            is_moot_by_card=is_moot or customer in self.shared | (self.contested & self.tied),
        )

    def _active(self, customer: str) -> list[Plain]:
        return [grant for grant in self.grants[customer].values() if grant["from"] <= self.now < ends(grant)]

    def _shut(self, customer: str, sub: Plain | None, overage: Fraction) -> list[str]:
        """Features for which no credit is left, where some credit is for some features only."""
        active = self._active(customer)
        if sub is None or not any(grant["features"] for grant in active):
            return []
        features = {found[0]["feature"] for found in self._placements(sub, self.now)} - {None}
        left = {name: sum((self.left(g) for g in active if pays(g, name)), ZERO) - overage for name in features}
        return sorted(name for name in features if left[name] <= 0)

    def _limits(self, own: list[Period]) -> dict[tuple[str, datetime], Fraction]:
        metered: set[str] = set()
        for sub in self.subscriptions[own[0].customer].values() if own else ():
            for phase in self.plans[sub["plan"], sub["version"]]["phases"]:
                metered.update(card["feature"] for card in phase["cards"] if card.get("metered"))
        found = [period for period in own if self.now < period.end and period.usage]
        return {(p.feature, p.start): p.usage for p in found if p.feature is not None and p.feature in metered}


def is_arrears(card: Plain) -> bool:
    """Whether a card is a fee that is due at the end."""
    return bool(card["price"]["type"] == "flat" and card["price"].get("arrears"))


def is_linear(card: Plain) -> bool:
    """Whether each unit costs the same, whatever was used before."""
    price = card["price"]
    bounded = any(price.get(name) is not None for name in ("minimum", "maximum"))
    converted = card.get("free") or card.get("conversion")
    return price["type"] == "flat" or (price["type"] in ("unit", "dynamic") and not bounded and not converted)


def ends(grant: Plain) -> datetime:
    """From when on a grant pays no more."""
    return min(grant["to"] or NEVER, grant["voided"] or NEVER)


def pays(grant: Plain, feature: str | None) -> bool:
    """Whether a grant may pay for a feature."""
    return not grant["features"] or feature in grant["features"]


def takes(feature: Plain, data: Plain) -> bool:
    """Whether a feature's filters let an event pass."""
    return all(text(data, name) in allowed for name, allowed in feature["filters"].items())


def text(data: Plain, name: str) -> str | None:
    """A dimension of an event."""
    value = data.get(name)
    return value if isinstance(value, str) else None


def read(data: Plain, meter: Plain) -> Any:
    """The value of an event for a meter; None where it is missing or bad."""
    value = data.get(meter["field"])
    if meter["aggregation"] == "UNIQUE_COUNT":
        return None if value is None else str(value)
    try:
        number = Fraction(str(value))
    except ValueError:
        return None
    return number if number >= 0 else None
