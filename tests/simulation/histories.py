"""
Whole histories by seed: catalogs that change and usage of every sort, with a liking for instants close to a boundary.

A history is plain data (`tests.simulation.plain`). `shrunk` drops what a failure does not need.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulation.plain import NEVER, TICK, Arrival, Entry, History, Plain, cadence_on

SHRINK_SECONDS = 60
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

TRAITS: dict[str, float] = {
    "untidy": 0.35,
    "early": 0.25,
    "no_time": 0.15,
    "duplicates": 0.4,
    "mismatches": 0.15,
    "missing": 0.3,
    "filters": 0.5,
    "aggregations": 0.25,
    "several_types": 0.4,
    "tiers": 0.5,
    "volume": 0.2,
    "packages": 0.25,
    "free_units": 0.3,
    "percentages": 0.2,
    "maximums": 0.2,
    "minimums": 0.25,
    "fees": 0.4,
    "arrears": 0.2,
    "prorate": 0.3,
    "phases": 0.35,
    "card_cadences": 0.25,
    "cancels": 0.35,
    "changes": 0.3,
    "later_starts": 0.25,
    "backdated_subscriptions": 0.15,
    "backdated_grants": 0.2,
    "future_grants": 0.4,
    "expiring_grants": 0.5,
    "voids": 0.2,
    "restricted_grants": 0.3,
    "late_customers": 0.15,
    "moves": 0.15,
    "block_policy": 0.2,
    "tiny": 0.15,
    "others": 0.2,
    "conversions": 0.2,
    "dynamic": 0.15,
    "once": 0.15,
    "entitlements": 0.25,
    "thresholds": 0.25,
}
"""What may be in a history, and how often."""

DELETES = 0.2
"""How often a customer is deleted. It is drawn apart, so that what a seed is otherwise stays."""

SPANS = {"PT1H": 5 * HOUR, "P1D": 4 * DAY, "P1W": 20 * DAY, "P1M": 70 * DAY}
STARTS = (
    datetime(2026, 1, 31, 10, 30, 0, 1, tzinfo=UTC),
    datetime(2026, 3, 1, tzinfo=UTC),
    datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 1, 30, 0, 17, 3, 250_000, tzinfo=UTC),
)


class Maker:
    """Makes one history."""

    def __init__(self, seed: int, without: Iterable[str] = ()) -> None:
        self.chance = chance = random.Random(seed)
        drawn = {trait for trait, often in TRAITS.items() if chance.random() < often}
        if "prorated_minimums" in without and "prorate" in drawn:
            drawn.discard("minimums")
        self.later = random.Random(f"{seed}, after all others")
        if self.later.random() < DELETES:
            drawn.add("deletes")
        self.traits = frozenset(drawn.difference(without))
        self.window = chance.choice([60, 3600, 3600])
        self.cadence = chance.choice(list(SPANS))
        self.start = chance.choice(STARTS)
        self.until = self.start + SPANS[self.cadence] * chance.uniform(0.4, 1)
        self.marks = [self.start]
        self.entries: list[Entry] = []
        self.features: list[Plain] = []
        self.types: list[str] = []
        self.fields: dict[str, list[str]] = {}
        self.subjects: list[str] = []

    def made(self) -> History:
        """The history."""
        chance = self.chance
        self._meters()
        for number in (1, 2):
            self._plan(f"p{number}")
        for number in range(chance.choice([1, 1, 2])):
            self._customer(number)
        if "moves" in self.traits and self.subjects:
            self._move()
        for mark in list(self.marks):
            for times in (-1, 1, 2):
                self.marks.append(cadence_on(mark, self.cadence, times))
        self.marks = [mark for mark in self.marks if self.start - DAY <= mark <= self.until]
        arrivals = self._arrivals()
        if "deletes" in self.traits:
            self.chance, self.later = self.later, chance
            self._delete(arrivals)
            self.chance, self.later = chance, self.chance
        grace, keep = chance.choice([(MINUTE, MINUTE), (HOUR, MINUTE), (24 * HOUR, 24 * HOUR), (400 * DAY, HOUR)])
        self.entries.sort(key=lambda entry: entry.at)
        last = max([self.until, *(arrival.received for arrival in arrivals)])
        until = last + chance.choice([timedelta(), SECOND, grace + SECOND, grace + keep + DAY])
        until = min(until, last + SPANS[self.cadence])
        stops = sorted(self._near(chance.choice(self.marks)) for _ in range(3))
        return History(
            [entry for entry in self.entries if entry.at <= until],
            arrivals,
            until,
            window=self.window,
            late_windows=chance.choice([1, 2, 2, 5]),
            grace=grace,
            keep_closed=keep,
            stops=[stop for stop in stops if self.start < stop < until],
            traits=self.traits,
        )

    # -- the catalog

    def _put(self, at: datetime, kind: str, body: Plain) -> None:
        self.entries.append(Entry(at, kind, body))

    def _meters(self) -> None:
        chance, traits = self.chance, self.traits
        before = self.start - DAY
        self.types = ["use", "call"] if "several_types" in traits else ["use"]
        for type_ in self.types:
            kinds = ["SUM"] if type_ == "use" or chance.random() < 0.5 else ["COUNT"]
            if "missing" in traits or chance.random() < 0.3:
                kinds.append(chance.choice(["SUM", "COUNT"]))
            if "aggregations" in traits:
                kinds.append(chance.choice(["MAX", "MIN", "AVG", "LATEST", "UNIQUE_COUNT"]))
            self.fields[type_] = []
            for number, kind in enumerate(kinds):
                key = f"{type_}_{number}"
                field = None if kind == "COUNT" else f"n{number}"
                if field is not None:
                    self.fields[type_].append(field)
                meter = {"key": key, "event_type": type_, "aggregation": kind, "field": field}
                self._put(before, "meter", meter)
                filters: list[dict[str, list[str]]] = [{}]
                if "filters" in traits and chance.random() < 0.6:
                    filters = chance.choice(
                        [
                            [{"kind": ["x"]}, {"kind": ["y"]}],
                            [{"kind": ["x"]}],
                            [{"kind": ["x", "y"]}, {}],
                            [{"kind": ["x"]}, {"kind": ["y"], "zone": ["a"]}],
                        ]
                    )
                for part, found in enumerate(filters):
                    others = "others" in traits and part == len(filters) - 1 and chance.random() < 0.7
                    feature = {"key": f"{key}_{part}", "meter": key, "filters": found, "others": others}
                    self.features.append(feature)
                    self._put(before, "feature", feature)

    def _plan(self, key: str) -> None:
        chance = self.chance
        phases: list[Plain] = []
        if "phases" in self.traits:
            for _ in range(chance.choice([1, 1, 2])):
                phases.append({"duration": self._duration(), "cards": self._cards(f"{key}_{len(phases)}")})
        phases.append({"duration": None, "cards": self._cards(f"{key}_last")})
        if chance.random() < 0.3:
            for phase in phases:
                phase["cards"] = phases[0]["cards"]
        plan = {
            "key": key,
            "version": 1,
            "cadence": self.cadence if chance.random() < 0.85 else chance.choice(list(SPANS)),
            "prorate": "prorate" in self.traits,
            "phases": phases,
        }
        if plan["cadence"] == "PT1H" and self.cadence in ("P1W", "P1M"):
            plan["cadence"] = "P1D"
        self._put(self.start - DAY, "plan", plan)

    def _duration(self) -> str:
        return self.chance.choice(
            {
                "PT1H": ["PT30M", "PT1H", "PT2H", "PT77M"],
                "P1D": ["PT1H", "P1D", "PT25H", "P2D"],
                "P1W": ["P1D", "P1W", "P3D"],
                "P1M": ["P1W", "P1M", "P14D", "PT1H"],
            }[self.cadence]
        )

    def _cards(self, prefix: str) -> list[Plain]:
        chance, traits = self.chance, self.traits
        features = [feature["key"] for feature in self.features if chance.random() < 0.8]
        cards: list[Plain] = []
        for feature in features or [self.features[0]["key"]]:
            card: Plain = {"key": f"{prefix}_{feature}", "feature": feature, "price": self._price()}
            if card["price"]["type"] != "flat":
                if "free_units" in traits and chance.random() < 0.5:
                    card["free"] = str(chance.randrange(1, 12))
                if "percentages" in traits and chance.random() < 0.5:
                    card["percentage"] = chance.choice(["10", "50", "33.3", "100"])
                if "conversions" in traits and chance.random() < 0.5:
                    card["conversion"] = {
                        "operation": chance.choice(["divide", "multiply"]),
                        "factor": chance.choice(["2", "10", "3", "0.7", "1000"]),
                        "rounding": chance.choice(["none", "ceiling", "floor", "half_up"]),
                        "precision": chance.choice([0, 0, 2]),
                    }
            if "entitlements" in traits and chance.random() < 0.6:
                card["metered"] = True
            cards.append(card)
        if "fees" in traits:
            for number in range(chance.choice([1, 1, 2])):
                price = {"type": "flat", "amount": self._amount(30), "arrears": self._arrears()}
                cards.append({"key": f"{prefix}_fee{number}", "feature": None, "price": price})
                if "once" in traits and chance.random() < 0.5:
                    cards[-1]["once"] = True
        if "card_cadences" in traits:
            for card in cards:
                if chance.random() < 0.4 and not card.get("once"):
                    order = list(SPANS)
                    place = order.index(self.cadence)
                    card["cadence"] = chance.choice(order[max(place - 1, 0) : place + 2])
        return cards

    def _arrears(self) -> bool:
        return "arrears" in self.traits and self.chance.random() < 0.6

    def _amount(self, most: int) -> str:
        chance = self.chance
        if "tiny" in self.traits and chance.random() < 0.3:
            return chance.choice(["0.000001", "0.01", "0.333333333333", "0.1"])
        return chance.choice(
            [str(chance.randrange(1, most)), str(chance.randrange(1, most)), f"{chance.randrange(1, 40) / 4}"]
        )

    def _price(self) -> Plain:
        chance, traits = self.chance, self.traits
        kinds = ["unit"] * 2
        kinds += ["graduated"] * 2 if "tiers" in traits else []
        kinds += ["volume"] * 2 if "volume" in traits else []
        kinds += ["package"] * 2 if "packages" in traits else []
        kinds += ["dynamic"] * 2 if "dynamic" in traits else []
        kinds += ["flat"] if "fees" in traits and chance.random() < 0.3 else []
        kind = chance.choice(kinds)
        price: Plain = {"type": kind}
        match kind:
            case "unit" | "dynamic":
                price["amount"] = chance.choice(["1", "1", "2", "0.5", "0.1", self._amount(5)])
            case "package":
                price |= {"amount": self._amount(8), "size": chance.choice(["2", "5", "10", "0.3"])}
            case "flat":
                return price | {"amount": self._amount(30), "arrears": self._arrears()}
            case _:
                tops = sorted(chance.sample(range(1, 40), chance.choice([1, 2])))
                price["tiers"] = [
                    {
                        "up_to": None if top is None else str(top),
                        "unit": chance.choice(["1", "0.5", "2", "0"]),
                        "flat": chance.choice([None, None, "3", "0.5"]),
                    }
                    for top in [*tops, None]
                ]
        if "minimums" in traits and chance.random() < 0.5:
            price["minimum"] = str(chance.randrange(1, 30))
        if "maximums" in traits and chance.random() < 0.5:
            price["maximum"] = str(int(price.get("minimum") or 0) + chance.randrange(1, 30))
        return price

    # -- customers

    def _customer(self, number: int) -> None:
        chance, traits = self.chance, self.traits
        name = f"customer{number}"
        born = self.start
        if "late_customers" in traits and chance.random() < 0.7:
            born = self._somewhere()
        subjects = [f"s{number}{letter}" for letter in "ab"[: chance.choice([1, 2])]]
        self.subjects += subjects
        customer = {
            "id": name,
            "key": f"k{number}",
            "subjects": subjects,
            "block": "block_policy" in traits and chance.random() < 0.6,
            "thresholds": chance.choice([["5"], ["1", "20"]]) if "thresholds" in traits else [],
        }
        self._put(born, "customer", customer)
        self._subscriptions(name, born)
        for count in range(chance.choice([0, 1, 1, 2, 3, 4])):
            self._grant(name, f"g{number}{count}", born)

    def _subscriptions(self, customer: str, born: datetime) -> None:
        chance, traits = self.chance, self.traits
        start = born
        recorded = born
        if "later_starts" in traits and chance.random() < 0.6:
            start = max(born, self._somewhere())
        elif "backdated_subscriptions" in traits and chance.random() < 0.7:
            start = born - chance.choice([TICK, MINUTE, HOUR, DAY, 3 * DAY]) * chance.random()
        anchor = start
        if chance.random() < 0.4:
            anchor = chance.choice([self.start, start - HOUR / 3, start - 11 * DAY, start + 7 * MINUTE + TICK])
        sub: Plain = {
            "id": f"{customer}-sub1",
            "customer": customer,
            "plan": chance.choice(["p1", "p2"]),
            "version": 1,
            "from": start,
            "to": None,
            "anchor": anchor,
            "recorded": recorded,
            "mode": chance.choice(["credit_only", "credit_then_invoice"]),
        }
        self.marks += [start, anchor, cadence_on(anchor, self.cadence, 1)]
        self._put(recorded, "subscription", sub)
        count = 1
        now = recorded
        while count < 4:
            change = "changes" in traits and chance.random() < 0.5
            cancel = "cancels" in traits and chance.random() < 0.5
            if not change and not cancel:
                return
            now = self._after(max(now, sub["from"] - MINUTE))
            if now >= self.until:
                return
            end = now
            if chance.random() < 0.25:
                end = self._after(now)
            end = max(end, sub["from"])
            self.marks.append(end)
            self._put(now, "subscription", sub | {"to": end})
            if cancel and not change and chance.random() < 0.6:
                return
            begin = end if change else self._after(end)
            count += 1
            sub = sub | {
                "id": f"{customer}-sub{count}",
                "plan": chance.choice(["p1", "p2"]),
                "from": begin,
                "anchor": chance.choice([sub["anchor"], begin]),
                "recorded": now,
                "mode": sub["mode"] if chance.random() < 0.7 else chance.choice(["credit_only", "credit_then_invoice"]),
            }
            self._put(now, "subscription", sub)
            self.marks.append(begin)

    def _grant(self, customer: str, name: str, born: datetime) -> None:
        chance, traits = self.chance, self.traits
        recorded = max(born, self.start) if chance.random() < 0.4 else self._after(born)
        start = recorded
        if "future_grants" in traits and chance.random() < 0.5:
            start = self._after(recorded)
        elif "backdated_grants" in traits and chance.random() < 0.6:
            start = recorded - chance.choice([TICK, MINUTE, HOUR, DAY]) * chance.random()
        end: datetime | None = None
        if "expiring_grants" in traits and chance.random() < 0.7:
            end = self._after(start)
            if end <= start:
                end = start + chance.choice([TICK, SECOND, HOUR])
        features = []
        if "restricted_grants" in traits and chance.random() < 0.6:
            features = [
                feature["key"]
                for feature in chance.sample(self.features, chance.choice([1, min(2, len(self.features))]))
            ]
        grant: Plain = {
            "id": name,
            "customer": customer,
            "amount": chance.choice([self._amount(20), self._amount(60), "1000"]),
            "from": start,
            "to": end,
            "created": recorded,
            "voided": None,
            "priority": chance.choice([1, 10, 10]),
            "features": features,
        }
        self._put(recorded, "grant", grant)
        self.marks += [start, *([end] if end is not None else [])]
        if "voids" in traits and chance.random() < 0.5:
            at = self._after(recorded)
            if at < (end or NEVER):
                self._put(at, "grant", grant | {"voided": at})
                self.marks.append(at)

    def _move(self) -> None:
        """A subject goes from one customer to another, or is let go of."""
        heads = {entry.body["id"]: entry for entry in self.entries if entry.kind == "customer"}
        born = max(entry.at for entry in heads.values())
        owners = [entry.body for entry in heads.values()]
        chance = self.chance
        giver = chance.choice(owners)
        subject = giver["subjects"][0]
        at = self._after(born)
        self._put(at, "customer", giver | {"subjects": [s for s in giver["subjects"] if s != subject]})
        self.marks.append(at)
        takers = [owner for owner in owners if owner is not giver]
        if takers:
            then = at if chance.random() < 0.6 else self._after(at)
            self._put(then, "customer", takers[0] | {"subjects": [*takers[0]["subjects"], subject]})
            self.marks.append(then)

    def _delete(self, arrivals: list[Arrival]) -> None:
        """A customer's subscriptions are cancelled, and it is deleted, at once or later."""
        heads = {entry.body["id"]: entry.body for entry in self.entries if entry.kind == "customer"}
        customer = self.chance.choice(sorted(heads))
        own = [entry for entry in self.entries if customer in (entry.body.get("customer"), entry.body.get("id"))]
        ended = self._after(max(entry.at for entry in own))
        at = ended if self.chance.random() < 0.5 else self._after(ended)
        early = [arrival for arrival in arrivals if arrival.event["time"] not in (None, arrival.received)]
        if any(arrival.received <= instant <= arrival.event["time"] for arrival in early for instant in (ended, at)):
            # Usage that came before its time is read by what is known.
            return
        for sub in {entry.body["id"]: entry.body for entry in own if entry.kind == "subscription"}.values():
            if sub["to"] is None or sub["to"] > ended:
                self._put(ended, "subscription", sub | {"to": max(ended, sub["from"])})
        self._put(at, "customer", heads[customer] | {"subjects": [], "deleted": True})

    # -- instants

    def _somewhere(self) -> datetime:
        return self.start + (self.until - self.start) * self.chance.random() ** 2

    def _after(self, instant: datetime) -> datetime:
        """An instant not before another, often close to a mark."""
        chance = self.chance
        later = [mark for mark in self.marks if mark >= instant]
        if later and chance.random() < 0.4:
            return max(instant, self._near(chance.choice(later)))
        if chance.random() < 0.25:
            return instant + chance.choice([timedelta(), TICK, SECOND, 7 * MINUTE])
        return instant + (max(self.until, instant + HOUR) - instant) * chance.random()

    def _near(self, mark: datetime) -> datetime:
        step = self.chance.choice([timedelta(), TICK, TICK, 2 * TICK, SECOND, MINUTE, 20 * MINUTE])
        return mark + self.chance.choice([-1, 0, 1, 1]) * step

    # -- usage

    def _arrivals(self) -> list[Arrival]:
        chance, traits = self.chance, self.traits
        count = chance.choice([3, 8, 15, 30, 50])
        times = sorted(max(self._time(), self.start - HOUR) for _ in range(count))
        found: list[Arrival] = []
        calm = self._calm()
        for number, at in enumerate(times):
            received = at
            if "untidy" in traits and chance.random() < 0.6:
                received = at + chance.choice([SECOND, MINUTE, HOUR, 3 * HOUR, DAY, 30 * HOUR]) * chance.random()
            elif "early" in traits and chance.random() < 0.5:
                received = at - chance.choice([TICK, SECOND, MINUTE, 5 * MINUTE, 5 * MINUTE + TICK])
                if not calm(received, at):
                    received = at
            event: Plain = {
                "source": chance.choice(["src", "src", "other"]),
                "id": f"e{number}",
                "subject": chance.choice([*self.subjects, *self.subjects, "k0"]),
                "type": chance.choice(self.types),
                "time": at,
                "data": {},
            }
            event["data"] = self._data(event["type"])
            if "no_time" in traits and chance.random() < 0.3 and received == at:
                event["time"] = None
            found.append(Arrival(received, event))
            if "duplicates" in traits and chance.random() < 0.2 and event["time"] is not None:
                again = received + chance.choice([timedelta(), TICK, SECOND, HOUR]) * chance.random()
                copy = event
                if "mismatches" in traits and chance.random() < 0.5:
                    copy = event | {"data": self._data(event["type"])}
                    again += TICK
                found.append(Arrival(again, copy))
        found.sort(key=lambda arrival: arrival.received)
        return found

    def _calm(self) -> Callable[[datetime, datetime], bool]:
        """
        Whether no entry but grants and voids is recorded between two instants, nor a customer that is new.

        What comes before its time is read by what is known of its customer.
        """
        instants = sorted({entry.at for entry in self.entries if entry.kind != "grant"})
        return lambda start, end: not any(start <= instant <= end for instant in instants)

    def _time(self) -> datetime:
        if self.chance.random() < 0.6:
            return self._near(self.chance.choice(self.marks))
        return self._somewhere()

    def _data(self, type_: str) -> dict[str, Any]:
        chance = self.chance
        data: dict[str, Any] = {"kind": chance.choice(["x", "y", "z"]), "zone": chance.choice(["a", "b"])}
        for field in self.fields[type_]:
            if "missing" in self.traits and chance.random() < 0.15:
                if chance.random() < 0.5:
                    data[field] = chance.choice([None, "many", "-1"])
                continue
            number = chance.choice(
                [str(chance.randrange(10)), str(chance.randrange(10)), f"{chance.randrange(100) / 8}"]
            )
            if "tiny" in self.traits and chance.random() < 0.3:
                number = chance.choice(["0.000000000000000001", "0.000001", "0"])
            data[field] = number if chance.random() < 0.3 or "." in number else int(number)
        return data


def make(seed: int, without: Iterable[str] = ()) -> History:
    """The history of a seed."""
    return Maker(seed, without).made()


def shrunk(history: History, fails: Callable[[History], bool]) -> History:
    """A smaller history that still fails: whatever can be left out is, while it does and `SHRINK_SECONDS` last."""
    ends_at = time.monotonic() + SHRINK_SECONDS
    still_fails, fails = fails, lambda smaller: time.monotonic() < ends_at and still_fails(smaller)
    while True:
        before = len(written(history))
        for name in ("arrivals", "stops", "entries"):
            history = _with_fewer(history, name, fails)
        for plainer in _plainer(history):
            if fails(plainer):
                history = plainer
                break
        else:
            if len(written(history)) >= before:
                return history


def _with_fewer(history: History, name: str, fails: Callable[[History], bool]) -> History:
    size = max(len(getattr(history, name)) // 2, 1)
    while size:
        at = 0
        while at < len(getattr(history, name)):
            items = getattr(history, name)
            smaller = replace(history, **{name: items[:at] + items[at + size :]})
            if fails(smaller):
                history = smaller
            else:
                at += size
        size //= 2
    return history


def _plainer(history: History) -> Iterator[History]:
    """The history with one thing less in one of its plans, customers, grants or events."""
    for place, entry in enumerate(history.entries):
        for body in _plainer_body(entry):
            entries = [*history.entries]
            entries[place] = replace(entry, body=body)
            yield replace(history, entries=entries)
    for place, arrival in enumerate(history.arrivals):
        for name in arrival.event["data"]:
            data = {key: value for key, value in arrival.event["data"].items() if key != name}
            arrivals = [*history.arrivals]
            arrivals[place] = replace(arrival, event=arrival.event | {"data": data})
            yield replace(history, arrivals=arrivals)


def _plainer_body(entry: Entry) -> Iterator[Plain]:
    body = entry.body
    match entry.kind:
        case "feature" if body["filters"] or body["others"]:
            yield body | {"filters": {}, "others": False}
        case "grant" if body["features"]:
            yield body | {"features": []}
        case "plan":
            if body["prorate"]:
                yield body | {"prorate": False}
            for number, phase in enumerate(body["phases"]):
                others = body["phases"][:number], body["phases"][number + 1 :]
                if phase["duration"] is not None:
                    yield body | {"phases": [*others[0], *others[1]]}
                for place, card in enumerate(phase["cards"]):
                    for changed in (None, *_plainer_card(card)):
                        cards = [*phase["cards"]]
                        cards[place : place + 1] = [] if changed is None else [changed]
                        yield body | {"phases": [*others[0], phase | {"cards": cards}, *others[1]]}


def _plainer_card(card: Plain) -> Iterator[Plain]:
    for name in ("free", "percentage", "cadence", "conversion", "once", "metered"):
        if name in card:
            yield {key: value for key, value in card.items() if key != name}
    price = card["price"]
    for name in ("minimum", "maximum"):
        if name in price:
            yield card | {"price": {key: value for key, value in price.items() if key != name}}
    if price["type"] in ("graduated", "volume", "package"):
        yield card | {"price": {"type": "unit", "amount": "1"}}


def written(history: History) -> str:
    """A history for people, in order of time."""
    lines = [
        f"window {history.window} s, {history.late_windows} late, grace {history.grace}, kept {history.keep_closed}, "
        f"until {history.until}, stops {[str(stop) for stop in history.stops]}, {', '.join(sorted(history.traits))}"
    ]
    told = [(entry.at, 0, f"{entry.kind} {_brief(entry.body)}") for entry in history.entries]
    told += [(arrival.received, 1, f"event {_brief(arrival.event)}") for arrival in history.arrivals]
    lines += [f"{at.isoformat()} {text}" for at, _, text in sorted(told, key=lambda line: line[:2])]
    return "\n".join(lines)


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_brief, value)) + "]"
    return value.isoformat() if isinstance(value, datetime) else str(value)
