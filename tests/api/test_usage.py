"""Meter queries: what the ledger knows is told, and what it does not know is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.api.conftest import Client
from tests.conftest import Stores
from tests.engine_runs import drain

V1 = "/api/v1"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
MONTH = YESTERDAY.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
"""Billing periods are calendar months; usage is of the one before that of yesterday, and of that before."""
LAST = (MONTH - timedelta(days=1)).replace(day=1)
BEFORE = (LAST - timedelta(days=1)).replace(day=1)
MODELS = ("small", "large")

_ids = count(1)


def use(client: Client, *events: tuple[str, datetime, float, str]) -> None:
    """Events of subjects at instants, each with a size and a model."""
    body = [
        {
            "specversion": "1.0",
            "id": str(next(_ids)),
            "source": "test",
            "type": "request",
            "subject": subject,
            "time": at.isoformat(),
            "data": {"size": size, "model": model},
        }
        for subject, at, size, model in events
    ]
    answer = client.post(f"{V1}/events", json=body)
    assert answer.status_code == 204, answer.text


def ask(client: Client, meter: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a query that is answered."""
    if "start" in parameters:
        parameters["from"] = parameters.pop("start")
    answer = client.get(f"{V1}/meters/{meter}/query", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]  # type: ignore[no-any-return]


def refused(client: Client, meter: str, **parameters: Any) -> str:
    """Why a query is not answered."""
    if "start" in parameters:
        parameters["from"] = parameters.pop("start")
    answer = client.get(f"{V1}/meters/{meter}/query", params=parameters)
    assert answer.status_code == 400, answer.text
    return answer.json()["detail"]  # type: ignore[no-any-return]


def set_up(client: Client, aggregations: Iterable[str], customers: dict[str, list[str]], features: Any = None) -> None:
    """Meters by aggregation in lower case, with a feature each or with those that are given, and customers on all."""
    cards = []
    for name in aggregations:
        meter = {"slug": name, "eventType": "request", "aggregation": name.upper(), "groupBy": {"model": "$.model"}}
        if name == "unique_count":
            meter["valueProperty"] = "$.model"
        elif name != "count":
            meter["valueProperty"] = "$.size"
        assert client.post(f"{V1}/meters", json=meter).status_code == 201
        for key, filters in (features or {name: {}}).items():
            body = {"key": key, "name": key, "meterSlug": name, "meterGroupByFilters": filters}
            assert client.post(f"{V1}/features", json=body).status_code == 201, body
            cards.append(key)
    publish(client, "all", cards)
    for key, subjects in customers.items():
        body = {"key": key, "name": key, "usageAttribution": {"subjectKeys": subjects}}
        assert client.post(f"{V1}/customers", json=body).status_code == 201
        subscribe(client, key, "all")


def publish(client: Client, plan: str, features: Iterable[str]) -> None:
    """A plan on which features are free."""
    cards = [
        {"type": "usage_based", "key": key, "name": key, "featureKey": key, "billingCadence": "P1M", "price": None}
        for key in features
    ]
    phase = {"key": "main", "name": "Main", "duration": None, "rateCards": cards}
    body = {"key": plan, "name": plan, "currency": "USD", "billingCadence": "P1M", "phases": [phase]}
    draft = client.post(f"{V1}/plans", json=body)
    assert draft.status_code == 201, draft.text
    assert client.post(f"{V1}/plans/{draft.json()['id']}/publish").status_code == 200


def subscribe(client: Client, customer: str, plan: str) -> None:
    """Put a customer on a plan, from two months ago on."""
    body = {"plan": {"key": plan}, "customerKey": customer, "timing": BEFORE.isoformat()}
    answer = client.post(f"{V1}/subscriptions", json=body | {"billingAnchor": BEFORE.isoformat()})
    assert answer.status_code == 201, answer.text


def text(at: datetime) -> str:
    """An instant as the API writes it."""
    return at.isoformat().replace("+00:00", "Z")


def test_usage_that_adds_up_is_told_by_window(client: Client, stores: Stores) -> None:
    """By hour, day and month, of all customers or of some, and apart by customer."""
    set_up(client, ("sum",), {"acme": [], "beta": []})
    day = LAST + timedelta(days=2)
    use(
        client,
        ("acme", day + timedelta(minutes=5), 1.5, "small"),
        ("acme", day + timedelta(minutes=65), 2, "small"),
        ("beta", day + timedelta(minutes=70), 4, "large"),
        ("acme", day + timedelta(days=1), 8, "large"),
        ("beta", MONTH + timedelta(minutes=1), 16, "small"),
    )
    drain(stores)

    def rows(**parameters: Any) -> list[tuple[datetime, float]]:
        found = ask(client, "sum", **parameters)
        return [(datetime.fromisoformat(row["windowStart"]), row["value"]) for row in found]

    hour = timedelta(hours=1)
    assert rows(windowSize="HOUR", to=text(MONTH)) == [(day, 1.5), (day + hour, 6), (day + 24 * hour, 8)]
    assert rows(windowSize="DAY", filterCustomerId="acme") == [(day, 3.5), (day + 24 * hour, 8)]
    assert rows(windowSize="MONTH") == [(LAST, 15.5), (MONTH, 16)]
    assert rows() == [(day, 31.5)]
    assert rows(start=text(day + hour), to=text(day + 3 * hour)) == [(day + hour, 6)]
    assert rows(start=text(MONTH + 5 * hour)) == []
    ids = {key: client.get(f"{V1}/customers/{key}").json()["id"] for key in ("acme", "beta")}
    apart = ask(client, "sum", windowSize="MONTH", groupBy="customer_id", to=text(MONTH))
    assert {row["customerId"]: row["value"] for row in apart} == {ids["acme"]: 11.5, ids["beta"]: 4}
    (last,) = ask(client, "sum", start=text(MONTH), to=text(MONTH + hour))
    assert (last["windowStart"], last["windowEnd"]) == (text(MONTH), text(MONTH + hour))


def test_a_window_that_would_be_cut_is_refused_unless_it_is_empty(client: Client, stores: Stores) -> None:
    """The ledger has an hour's usage as one number, so half of it is not known; half of nothing is."""
    set_up(client, ("sum",), {"acme": []})
    use(client, ("acme", LAST + timedelta(minutes=5), 1, "small"), ("acme", LAST + timedelta(hours=2), 2, "small"))
    drain(stores)
    within = text(LAST + timedelta(minutes=30))
    assert "`from`: expected a whole window" in refused(client, "sum", start=within)
    assert "`to`: expected a whole window" in refused(client, "sum", to=within)
    between = text(LAST + timedelta(minutes=90))
    assert [row["value"] for row in ask(client, "sum", start=between)] == [2]
    assert [row["value"] for row in ask(client, "sum", to=between)] == [1]
    now = text(datetime.now(UTC))
    assert [row["value"] for row in ask(client, "sum", to=now)] == [3]


def test_minutes_need_a_ledger_that_has_them(client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Charge windows of a minute or less tell minutes; longer ones do not, and hours need windows that divide them."""
    set_up(client, ("sum",), {"acme": []})
    use(client, *(("acme", LAST + timedelta(seconds=seconds), 1, "small") for seconds in (1, 59, 61)))
    drain(stores, window_seconds=30)
    assert "expected windows that are made of the ledger's, which are 3600 s" in refused(
        client, "sum", windowSize="MINUTE"
    )
    monkeypatch.setenv("TOLLWAY_WINDOW_SECONDS", "30")
    assert [row["value"] for row in ask(client, "sum", windowSize="MINUTE")] == [2, 1]
    monkeypatch.setenv("TOLLWAY_WINDOW_SECONDS", "7200")
    assert "which are 7200 s" in refused(client, "sum", windowSize="HOUR")


NOT_ADDING_UP = ("avg", "min", "max", "latest", "unique_count")


def test_other_meters_are_told_by_billing_period(client: Client, stores: Stores) -> None:
    """Of a customer's period, and of several where they tell what they come to together."""
    set_up(client, NOT_ADDING_UP, {"acme": [], "beta": []})
    day = timedelta(days=1)
    use(
        client,
        ("acme", BEFORE + day, 3, "small"),
        ("acme", BEFORE + 2 * day, 5, "large"),
        ("acme", LAST + day, 10, "small"),
        ("beta", LAST + 2 * day, 1, "small"),
        ("beta", LAST + 3 * day, 2, "small"),
    )
    drain(stores)

    def values(meter: str, **parameters: Any) -> list[float]:
        return [row["value"] for row in ask(client, meter, **parameters)]

    of_acme = {"filterCustomerId": "acme"}
    by_month = {name: values(name, windowSize="MONTH", **of_acme) for name in NOT_ADDING_UP}
    assert by_month == {"avg": [4, 10], "min": [3, 10], "max": [5, 10], "latest": [5, 10], "unique_count": [2, 1]}
    assert [values(name, **of_acme) for name in ("avg", "min", "max", "latest")] == [[6], [3], [10], [10]]
    assert [values(name, start=text(LAST), to=text(MONTH)) for name in ("min", "max")] == [[1], [10]]
    assert values("avg") == [4.2]
    assert values("latest", start=text(LAST), groupBy="customer_id") == [10, 2] or values(
        "latest", start=text(LAST), groupBy="customer_id"
    ) == [2, 10]
    assert "what they have in common is not known" in refused(client, "unique_count", **of_acme)
    assert "which of them came last is not known" in refused(client, "latest", windowSize="MONTH")
    for name in NOT_ADDING_UP:
        assert "by billing period only" in refused(client, name, windowSize="DAY", **of_acme)
        assert "by billing period only" in refused(client, name, start=text(BEFORE + 2 * day), **of_acme)


def test_a_dimension_is_told_through_features_that_differ_in_it(client: Client, stores: Stores) -> None:
    """Usage by model is that of the features for each model; another dimension, or another text, is not known."""
    features = {"small": {"model": "small"}, "large": {"model": "large"}}
    set_up(client, ("count",), {"acme": []}, features)
    use(client, *(("acme", LAST, 1, model) for model in ("small", "small", "large")))
    drain(stores)
    assert [row["value"] for row in ask(client, "count")] == [3]
    found = ask(client, "count", groupBy="model")
    assert {row["groupBy"]["model"]: row["value"] for row in found} == {"small": 2, "large": 1}
    assert [row["value"] for row in ask(client, "count", **{"filterGroupBy[model]": "small"})] == [2]
    both = ask(client, "count", groupBy="model", **{"filterGroupBy[model]": "large"})
    assert [(row["groupBy"], row["value"]) for row in both] == [({"model": "large"}, 1)]
    assert "`huge` of `model` alone" in refused(client, "count", **{"filterGroupBy[model]": "huge"})
    assert "expected one of customer_id, model, got `size`" in refused(client, "count", groupBy="size")
    assert "by customer, not by subject" in refused(client, "count", groupBy="subject")
    assert "advancedMeterGroupByFilters" in refused(client, "count", **{"advancedMeterGroupByFilters[model]": "x"})


def test_usage_is_told_whichever_feature_a_plan_has(client: Client, stores: Stores) -> None:
    """One plan has a feature with all usage, one has it twice, and one has features for parts of it."""
    features = {"whole": {}, "again": {}, "small": {"model": "small"}, "large": {"model": "large"}}
    set_up(client, ("count",), {"acme": []}, features)
    for plan, keys in {"once": ["whole", "small"], "twice": ["whole", "again"], "parts": ["small", "large"]}.items():
        publish(client, plan, keys)
        client.post(f"{V1}/customers", json={"key": plan, "name": plan})
        subscribe(client, plan, plan)
    for customer in ("acme", "once", "twice", "parts"):
        use(client, *((customer, LAST, 1, model) for model in ("small", "small", "large")))
    drain(stores)
    for customer in ("acme", "once", "twice", "parts"):
        assert [row["value"] for row in ask(client, "count", filterCustomerId=customer)] == [3], customer
    assert [row["value"] for row in ask(client, "count")] == [12]


def test_features_that_share_usage_do_not_tell_the_meter(client: Client, stores: Stores) -> None:
    """Neither by themselves, nor for a plan that has no feature with all of it."""
    features = {"small": {"model": "small"}, "also": {"model": "small"}}
    set_up(client, ("count",), {"acme": []}, features)
    client.post(f"{V1}/meters", json={"slug": "idle", "eventType": "request", "aggregation": "COUNT"})
    assert "there is none" in refused(client, "idle")
    assert "share usage" in refused(client, "count")
    client.post(f"{V1}/features", json={"key": "whole", "name": "Whole", "meterSlug": "count"})
    assert ask(client, "count") == []
    use(client, ("acme", LAST, 1, "small"))
    drain(stores)
    assert "expected a feature with all usage of the meter in each plan" in refused(client, "count")


def test_a_subject_is_told_where_all_usage_of_its_customer_came_under_it(client: Client, stores: Stores) -> None:
    """The ledger has usage by customer. Names that no usage came under are no hindrance."""
    set_up(client, ("count",), {"acme": [], "beta": ["beta-app", "beta-test"]})
    use(client, ("acme", LAST, 1, "small"), ("beta-app", LAST, 1, "small"), ("beta-app", LAST, 1, "large"))
    drain(stores)
    assert [(row["subject"], row["value"]) for row in ask(client, "count", subject="acme")] == [("acme", 1)]
    assert [(row["subject"], row["value"]) for row in ask(client, "count", subject="beta-app")] == [("beta-app", 2)]
    assert ask(client, "count", subject="beta-test") == []
    assert ask(client, "count", subject="nobody") == []
    use(client, ("beta", LAST, 1, "small"))
    drain(stores)
    assert "`beta` too" in refused(client, "count", subject="beta-app")
    assert "`beta-app` too" in refused(client, "count", subject="beta")
    both = ask(client, "count", subject=["beta-app", "beta", "beta-test"])
    assert [(row["subject"], row["value"]) for row in both] == [(None, 3)]
    client.put(f"{V1}/customers/acme", json={"name": "Acme", "usageAttribution": {"subjectKeys": ["acme-app"]}})
    use(client, ("acme-app", LAST, 1, "small"))
    drain(stores)
    assert "`acme-app` too" in refused(client, "count", subject="acme")
    client.put(f"{V1}/customers/acme", json={"name": "Acme", "usageAttribution": {"subjectKeys": []}})
    assert "`acme-app` too" in refused(client, "count", subject="acme")


def test_a_subject_that_moved_is_told_with_the_usage_of_all_who_had_it(client: Client, stores: Stores) -> None:
    """Usage of before stays with the former owner, and is told beside the next one's."""
    set_up(client, ("count",), {"acme": ["app"], "beta": []})
    use(client, ("app", LAST, 1, "small"))
    drain(stores)
    for key, subjects in (("acme", []), ("beta", ["app"])):
        body = {"name": key, "usageAttribution": {"subjectKeys": subjects}}
        assert client.put(f"{V1}/customers/{key}", json=body).status_code == 200
    now = datetime.now(UTC)
    use(client, ("app", LAST, 1, "large"), ("app", now, 1, "small"))
    drain(stores)
    apart = ask(client, "count", subject="app", groupBy="customer_id")
    assert [(row["subject"], row["value"]) for row in apart] == [("app", 2), ("app", 1)]
    assert [(row["subject"], row["value"]) for row in ask(client, "count", subject="app")] == [("app", 3)]
    of_one = ask(client, "count", subject="app", filterCustomerId="beta")
    assert [(row["subject"], row["value"]) for row in of_one] == [("app", 1)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"windowSize": "WEEK"}, "expected one of MINUTE, HOUR, DAY, MONTH, got `WEEK`"),
        ({"windowTimeZone": "Europe/Berlin"}, "expected UTC"),
        ({"from": "2026-03-01T00:00:00"}, "expected an instant with an offset"),
        ({"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "expected an instant after `from`"),
        ({"filterGroupBy": "model"}, "filterGroupBy"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(client: Client, parameters: dict[str, str], message: str) -> None:
    """The answer names the parameter."""
    set_up(client, ("count",), {})
    answer = client.get(f"{V1}/meters/count/query", params=parameters)
    assert answer.status_code == 400
    assert message in answer.json()["detail"]
    assert client.get(f"{V1}/meters/nothing/query").status_code == 404
