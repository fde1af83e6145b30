"""Each filter that the description names does what it says on real rows, and what it does not name is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import Client, plan

V1, V3 = "/api/v1", "/api/v3/openmeter"
KEYS = ("a_c", "abc", "ABC", "a%c", "zabcz", "é-🪙")
"""Of customers: what would be wildcards, what differs only in case, what another has in it."""
PLACES = {
    "usage_attribution_subject_key": ("usage_attribution", "subject_keys"),
    "plan_id": ("plan", "id"),
}
"""Where rows have what a filter is about, if not under its name."""


@pytest.fixture
def filled(shop: Client) -> Client:
    """Several of each thing, some without what others have."""
    for number, key in enumerate(KEYS):
        body: dict[str, Any] = {"key": key, "name": f"{key}_{number % 3}"}
        if number % 2:
            body |= {"primaryEmail": f"{number}@example.com", "usageAttribution": {"subjectKeys": [f"s_{number}", "t"]}}
            body["usageAttribution"]["subjectKeys"][1] += str(number)
        made(shop, f"{V1}/customers", body)
    for key in ("calls_eu", "callsxeu"):
        made(shop, f"{V1}/meters", {"slug": key, "eventType": "e", "aggregation": "COUNT", "name": key.title()})
        made(shop, f"{V1}/features", {"key": key, "name": key.upper(), "meterSlug": key})
    other = plan("other", currency="EUR")
    other["phases"][0]["rateCards"] += [
        {
            "type": "flat_fee",
            "key": "fee",
            "name": "Fee",
            "billingCadence": "P1M",
            "price": {"type": "flat", "amount": "1"},
        }
    ]
    made(shop, f"{V1}/plans", other)
    shop.post(f"{V1}/plans/other/publish").raise_for_status()
    made(shop, f"{V1}/plans", plan("other"))
    made(shop, f"{V1}/plans", plan("draft_1"))
    for key, name, timing in (("abc", "other", "immediate"), ("a_c", "basic", "2090-01-01T00:00:00Z")):
        made(shop, f"{V1}/subscriptions", {"customerKey": key, "plan": {"key": name}, "timing": timing})
    for number, more in enumerate(({"key": "g_1"}, {"key": "gx1"}, {}, {"effective_at": "2090-01-01T00:00:00Z"})):
        grant = {"name": f"g{number}", "funding_method": "none", "currency": "USD", "amount": "1", **more}
        made(shop, f"{V3}/customers/acme/credits/grants", grant)
    return shop


def made(client: Client, path: str, body: dict[str, Any]) -> Any:
    """What was made."""
    answer = client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def rows(client: Client, path: str, **parameters: str) -> list[dict[str, Any]]:
    """All rows of a list."""
    answer = client.get(path, params={"page[size]": "1000", **parameters})
    assert answer.status_code == 200, (parameters, answer.text)
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


MEANINGS: dict[str, Callable[[set[str], str], bool]] = {
    "": lambda has, wanted: wanted in has,
    "[eq]": lambda has, wanted: wanted in has,
    "[neq]": lambda has, wanted: wanted not in has,
    "[oeq]": lambda has, wanted: bool(has & set(wanted.split(","))),
    "[contains]": lambda has, wanted: any(wanted.lower() in text.lower() for text in has),
    "[ocontains]": lambda has, wanted: any(part.lower() in text.lower() for part in wanted.split(",") for text in has),
    "[gt]": lambda has, wanted: any(text > wanted for text in has),
    "[gte]": lambda has, wanted: any(text >= wanted for text in has),
    "[lt]": lambda has, wanted: any(text < wanted for text in has),
    "[lte]": lambda has, wanted: any(text <= wanted for text in has),
    "[exists]": lambda has, wanted: bool(has) == (wanted == "true"),
}
"""What each operator asks of the values that a row has, written down once more."""


def values_of(row: dict[str, Any], field: str, meters: dict[str, str]) -> set[str]:
    """The values that a row has of a field."""
    if field == "meter_id":
        return {meters[row["meter_slug"]]} if "meter_slug" in row else set()
    if field == "plan_key" and "plan" in row:
        return {row["plan"]["key"]}
    if field == "customer_id" and "customer" in row:
        return {row["customer"]["id"]}
    found: Any = row
    for name in PLACES.get(field, (field,)):
        found = found.get(name) if found else None
    return set(found) if isinstance(found, list) else set() if found is None else {found}


def test_every_filter_of_the_description_does_what_it_says(filled: Client) -> None:
    """Each operator of each field of each list, with each value that a row has, parts of it, and several."""
    meters = {row["slug"]: row["id"] for row in rows(filled, f"{V3}/meters")}
    plans_of = {row["customer"]["id"]: row["plan"]["key"] for row in rows(filled, f"{V3}/subscriptions")}
    tried = set()
    for path, item in filled.get("/openapi.json").json()["paths"].items():
        parameters = [one for one in item.get("get", {}).get("parameters", ()) if one["name"].startswith("filter[")]
        if not path.startswith(V3) or path.endswith(("/balance", "/transactions")):
            continue
        path = path.replace("{customer}", "abc" if path.endswith("/charges") else "acme")
        everything = rows(filled, path) if parameters else []
        for parameter in parameters:
            field = parameter["name"].removeprefix("filter[").removesuffix("]")
            has = {row["id"]: values_of(row, field, meters) for row in everything}
            if field == "plan_key" and path.endswith("/customers"):
                active = {row["id"] for row in everything if "current_subscription_id" in row}
                has = {one: {plans_of[one]} if one in active else set() for one in has}
            assert any(has.values()), (path, field)
            simple, operators = parameter["schema"]["anyOf"]
            for operator in ("", *(f"[{name}]" for name in operators["properties"])):
                meaning = MEANINGS["[oeq]" if "enum" in simple and not operator else operator]
                for wanted in wanted_of(set().union(*has.values()), operator, simple):
                    found = rows(filled, path, **{f"{parameter['name']}{operator}": wanted})
                    expected = [one for one, values in has.items() if meaning(values, wanted)]
                    assert [row["id"] for row in found] == expected, (path, field, operator, wanted)
                    tried.add((path, field, operator))
    assert len(tried) > 120


def wanted_of(values: set[str], operator: str, schema: dict[str, Any]) -> list[str]:
    """What to ask for."""
    if operator == "[exists]":
        return ["true", "false"]
    some = sorted(values)[:4]
    if "enum" in schema:
        return [*schema["enum"], ",".join(schema["enum"][:2])] if operator in ("", "[oeq]") else schema["enum"]
    if operator in ("[oeq]", "[ocontains]"):
        return [*some, ",".join(some), "nothing,nobody"]
    parts = [text[1:3] for text in some if len(text) > 2] if operator == "[contains]" else []
    return [*some, *parts, *(["_", "%", "c"] if operator != "" else []), "nothing"]


def test_filters_hold_together(filled: Client) -> None:
    """Several of one field are a range; those of several fields hold at once. Encoded brackets are brackets."""
    asked = {"filter[key][gte]": "abc", "filter[key][lt]": "z", "filter[name][contains]": "_1"}
    assert [row["key"] for row in rows(filled, f"{V3}/customers", **asked)] == ["abc"]
    answer = filled.get(f"{V3}/customers?filter%5Bkey%5D%5Beq%5D=a_c")
    assert [row["key"] for row in answer.json()["data"]] == ["a_c"]
    assert answer.json()["meta"]["page"]["total"] == 1


CUSTOMERS = f"{V3}/customers"
GRANTS = f"{V3}/customers/acme/credits/grants"
REFUSED: list[tuple[str, str, str]] = [
    # path, query, the parameter that the answer names
    (CUSTOMERS, "filter[key][like]=a", "filter[key][like]"),
    (CUSTOMERS, "filter[key][EQ]=a", "filter[key][EQ]"),
    (CUSTOMERS, "filter[key][eq][any]=a", "filter[key][eq][any]"),
    (CUSTOMERS, "filter[kye]=a", "filter[kye]"),
    (CUSTOMERS, "filter[key=a", "filter[key"),
    (CUSTOMERS, "filter=a", "filter"),
    (CUSTOMERS, "key=a", "key"),
    (CUSTOMERS, "filter[billing_profile_id]=a", "filter[billing_profile_id]"),
    (CUSTOMERS, "filter[key][eq]=", "filter[key][eq]"),
    (CUSTOMERS, "filter[key][oeq]=,", "filter[key][oeq]"),
    (CUSTOMERS, "filter[key][exists]=perhaps", "filter[key][exists]"),
    (CUSTOMERS, "filter[key][eq]=a&filter[key][eq]=b", "filter[key][eq]"),
    (CUSTOMERS, f"filter[key]={'a' * 1025}", "filter[key]"),
    (CUSTOMERS, f"filter[key][oeq]={','.join('a' * 51)}", "filter[key][oeq]"),
    (CUSTOMERS, "filter[key]=%00", "filter[key]"),
    (GRANTS, "filter[status]=open", "filter[status]"),
    (GRANTS, "filter[status][eq]=active,expired", "filter[status][eq]"),
    (GRANTS, "filter[status][contains]=act", "filter[status][contains]"),
    (GRANTS, "filter[name]=g", "filter[name]"),
    (f"{V3}/customers/acme/credits/balance", "filter[feature_key][neq]=a", "filter[feature_key][neq]"),
    (f"{V3}/customers/acme/credits/transactions", "filter[type]=earned", "filter[type]"),
    (f"{V3}/plans", "filter[status][gt]=active", "filter[status][gt]"),
    (f"{V3}/subscriptions", "filter[customer]=a", "filter[customer]"),
    (f"{V3}/customers/acme", "filter[key]=a", "filter[key]"),
    ("/api/v3/tollway/parked-events", "filter[reason][neq]=a", "filter[reason][neq]"),
    ("/api/v3/tollway/parked-events", "filter[raeson]=a", "filter[raeson]"),
    ("/api/v3/tollway/parked-events", f"filter[reason]={'a' * 1025}", "filter[reason]"),
    ("/api/v3/tollway/parked-events", "filter[reason]=a&filter[reason][eq]=b", "filter[reason][eq]"),
    ("/api/v3/tollway/parked-events", "filter[reason]=bogus", "filter[reason]"),
    ("/api/v3/tollway/dead-letters", "filter[reason]=bogus", "filter[reason]"),
    (f"{V1}/customers", "filter[key][eq]=acme", "filter[key][eq]"),
    (f"{V1}/customers", "nmae=acme", "nmae"),
    (f"{V1}/features", "key=calls", "key"),
    (f"{V1}/billing/invoices", "status=issued", "status"),
    (f"{V1}/billing/invoices", "statuses=bogus", "statuses"),
    (f"{V1}/billing/invoices", "extendedStatuses=bogus.created", "extendedStatuses"),
    (f"{V1}/plans", "status=bogus", "status"),
]


@pytest.mark.parametrize(("path", "query", "name"), REFUSED, ids=[f"{path} {query[:60]}" for path, query, _ in REFUSED])
def test_what_is_not_understood_is_refused_by_name(shop: Client, path: str, query: str, name: str) -> None:
    """A client that misspells a filter, or asks for what there is not, is not given everything instead."""
    answer = shop.get(f"{path}?{query}")
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    found = problem.get("invalid_parameters") or problem["extensions"]["validationErrors"]
    assert [item["field"] for item in found] == [name], problem


@pytest.mark.parametrize("query", ["order=ASC&orderBy=key&includeDeleted=false", "expand=lines"])
def test_what_clients_of_v1_send_and_what_chooses_nothing_is_passed_over(shop: Client, query: str) -> None:
    """OpenMeter's clients send their defaults."""
    for path in ("customers", "plans", "features", "meters", "billing/invoices"):
        assert shop.get(f"{V1}/{path}?{query}").status_code == 200


@pytest.mark.parametrize("operator", ["", "[eq]"])
def test_filters_of_operations_may_say_eq(shop: Client, operator: str) -> None:
    """What else lists can be filtered by takes one value."""
    for path, reason in (("parked-events", "no_feature"), ("dead-letters", "malformed")):
        answer = shop.get(f"/api/v3/tollway/{path}?filter[reason]{operator}={reason}")
        assert (answer.status_code, answer.json()["data"]) == (200, [])
