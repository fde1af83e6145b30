"""What is asked for has to be in the API's words: pages, filters, and fields that it knows."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.conftest import Client, plan
from tests.api.test_setup import V1, V3, got, made

CREDITS = f"{V3}/customers/acme/credits"
V1_PAGES = (
    f"{V1}/customers",
    f"{V1}/plans",
    f"{V1}/customers/acme/subscriptions",
    f"{V1}/billing/invoices",
)
V3_PAGES = (
    f"{V3}/customers",
    f"{V3}/meters",
    f"{V3}/features",
    f"{V3}/plans",
    f"{CREDITS}/grants",
    f"{V3}/customers/acme/charges",
)
SIZE_MAX = 1000


@pytest.fixture
def filled(shop: Client) -> Client:
    """The shop with five customers, meters, features and plans, and five grants."""
    for number in range(4):
        key = f"more_{number}"
        made(shop, f"{V1}/meters", {"slug": key, "eventType": "e", "aggregation": "COUNT"})
        made(shop, f"{V1}/features", {"key": f"calls_{number}", "name": key, "meterSlug": key})
        made(shop, f"{V1}/plans", plan(key))
        made(shop, f"{V1}/customers", {"key": key, "name": key})
    for number in range(5):
        body = {"name": "g", "funding_method": "none", "currency": "USD", "amount": "1", "key": f"grant_{number}"}
        made(shop, f"{CREDITS}/grants", body)
    return shop


@pytest.mark.parametrize("path", [f"{V1}/customers", f"{V1}/plans", f"{V3}/meters", f"{V3}/plans", f"{CREDITS}/grants"])
def test_the_pages_of_a_list_are_the_list(filled: Client, path: str) -> None:
    """Page after page, each thing once and in the same order; beyond the last page there is nothing."""
    v1 = path.startswith(V1)
    size, number = ("pageSize", "page") if v1 else ("page[size]", "page[number]")
    items = "items" if v1 else "data"
    whole = got(filled, path)[items]
    assert len(whole) == 5
    pages = [got(filled, path, **{size: 2, number: page}) for page in (1, 2, 3, 4)]
    assert [len(page[items]) for page in pages] == [2, 2, 1, 0]
    assert [item for page in pages for item in page[items]] == whole
    for index, page in enumerate(pages, 1):
        if v1:
            assert {key: page[key] for key in page if key != items} == {"totalCount": 5, "page": index, "pageSize": 2}
        else:
            assert page["meta"] == {"page": {"size": 2, "number": index, "total": 5}}


@pytest.mark.parametrize(
    ("paths", "size", "number"), [(V1_PAGES, "pageSize", "page"), (V3_PAGES, "page[size]", "page[number]")]
)
def test_a_page_out_of_range_is_refused(shop: Client, paths: tuple[str, ...], size: str, number: str) -> None:
    """Pages are counted from 1, and have 1 to 1000 things; the answer names what is wrong."""
    for path in paths:
        for name, value in ((size, 0), (size, SIZE_MAX + 1), (number, 0), (number, -1), (number, 10**30), (size, "x")):
            answer = shop.get(path, params={name: value})
            assert answer.status_code == 400, (path, name, value)
            problem = answer.json()
            found = problem.get("invalid_parameters") or problem["extensions"]["validationErrors"]
            assert [item["field"] for item in found] == [name], (path, problem)
        assert shop.get(path, params={size: SIZE_MAX, number: 1}).status_code == 200


def test_lists_are_filtered(filled: Client) -> None:
    """By key, subject, status and meter; a list of values may be repeated or have commas."""

    def keys(path: str, **parameters: Any) -> list[str]:
        found = got(filled, path, **parameters)
        items = found if isinstance(found, list) else found.get("items", found.get("data"))
        return [item["key"] for item in items]

    assert keys(f"{V1}/customers", key="more_1") == ["more_1"]
    assert keys(f"{V1}/customers", subject="acme-app") == ["acme"]
    assert keys(f"{V1}/customers", key="ORE_") == [f"more_{number}" for number in range(4)]
    assert keys(f"{V1}/customers", key="%") == keys(f"{V1}/customers", key="ore__") == []
    assert keys(f"{V1}/customers", subject="e-AP") == ["acme"]
    assert keys(f"{V1}/customers", planKey="basic") == ["acme"]
    assert keys(f"{V1}/features", meterSlug=["more_1", "more_2"]) == ["calls_1", "calls_2"]
    assert keys(f"{V1}/features", meterSlug="more_1,more_2") == ["calls_1", "calls_2"]
    assert keys(f"{V1}/plans", status="active") == ["basic"]
    assert keys(f"{V3}/plans", **{"filter[status]": "draft"}) == [f"more_{number}" for number in range(4)]
    assert keys(f"{V3}/plans", **{"filter[key][oeq]": "more_0, basic"}) == ["basic", "more_0"]
    assert keys(f"{V1}/plans", currency="EUR") == []
    for name in ("filter[key]", "filter[key][eq]"):
        assert keys(f"{CREDITS}/grants", **{name: "grant_3"}) == ["grant_3"]
    assert len(keys(f"{CREDITS}/grants", **{"filter[status]": "active", "filter[currency]": "USD"})) == 5
    assert keys(f"{CREDITS}/grants", **{"filter[currency]": "EUR"}) == []


def test_no_v3_operation_takes_a_field_that_it_does_not_know(shop: Client) -> None:
    """Whatever else the body lacks, the field is named; every body of the description is closed."""
    document = got(shop, "/openapi.json")
    tried = 0
    for path, item in document["paths"].items():
        for method in ("post", "put"):
            body = item.get(method, {}).get("requestBody", {}).get("content", {})
            if not path.startswith("/api/v3") or "application/cloudevents+json" in body or not body:
                continue
            named = path.replace("{customer}", "acme").replace("{plan}", "basic")
            answer = shop.request(method, named, json={"surprise": 1})
            assert answer.status_code == 400, (method, path, answer.text)
            (found,) = answer.json()["invalid_parameters"]
            assert (found["field"], found["rule"], found["source"]) == ("surprise", "unknown_property", "body")
            tried += 1
    assert tried >= 12
    nested = {"key": "x", "name": "X", "usage_attribution": {"subject_keys": [], "surprise": 1}}
    (found,) = shop.post(f"{V3}/customers", json=nested).json()["invalid_parameters"]
    assert found["field"] == "usage_attribution.surprise"


def test_every_operation_has_a_described_answer(client: Client) -> None:
    """Each has its own words and its answers, of which all that may fail have the problem's form."""
    document = got(client, "/openapi.json")
    schemas = document["components"]["schemas"]
    ids = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            ids.append(operation["operationId"])
            assert operation["summary"], path
            good = [code for code in operation["responses"] if code.startswith("2")]
            assert len(good) == 1, path
            for answer in operation["responses"].values():
                for media_type, content in answer.get("content", {}).items():
                    assert content["schema"] != {"type": "object"}, (method, path)
                    if media_type == "application/problem+json":
                        name = content["schema"]["$ref"].rpartition("/")[2]
                        assert schemas[name]["additionalProperties"] is False
    assert len(ids) == len(set(ids)) > 60
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', client.get("/openapi.json").text))
    assert named <= schemas.keys()
