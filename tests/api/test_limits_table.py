"""Every limit of the table is enforced at its edge: so much works, and one more is refused by its name and number."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from config import limits
from config.limits import LIMITS, Limit
from rating.events import ATTRIBUTE_LENGTH_MAX, EVENT_BYTES_MAX, EVENT_DEPTH_MAX, is_deeper
from rating.meters import Feature
from tests.api.conftest import Client, plan
from tollway.api.routes.ingest import BATCH, INVALID_SHOWN, read_events
from tollway.catalog_file import apply, read_catalog
from tollway.control import ControlError, CustomerDraft, GrantDraft
from tollway.openmeter.problems import Problem

Try = Callable[[Client, int], tuple[int, str]]
"""Asks for so much of something. Returns the status of the answer, and what it says."""

EVENT = {"specversion": "1.0", "source": "test", "type": "call", "subject": "acme"}
TRIES: dict[str, Try] = {}


def of(limit: Limit) -> Callable[[Try], Try]:
    """Marks how one limit is tried."""

    def keep(function: Try) -> Try:
        TRIES[limit.name] = function
        return function

    return keep


def sent(client: Client, path: str, body: Any) -> tuple[int, str]:
    answer = client.post(path, json=body)
    return answer.status_code, answer.text


def posted(path: str, make: Callable[[int], dict[str, Any]]) -> Try:
    return lambda client, count: sent(client, path, make(count))


def read(text: str) -> tuple[int, str]:
    """What becomes of a catalog file: 201, or 400 and why."""
    try:
        read_catalog(text)
    except ControlError as error:
        return 400, str(error)
    return 201, ""


def meter(count: int, **fields: Any) -> dict[str, Any]:
    return {"slug": f"meter{count}", "eventType": "call", "aggregation": "SUM", "valueProperty": "$.n"} | fields


def customer(count: int, **fields: Any) -> dict[str, Any]:
    return {"key": f"customer-{count}", "name": "Customer"} | fields


def priced(count: int, price: dict[str, Any]) -> dict[str, Any]:
    found = plan(f"plan{count}")
    found["phases"][0]["rateCards"][0]["price"] = price
    return found


def phases(count: int) -> dict[str, Any]:
    found = plan(f"plan{count}")
    (phase,) = found["phases"]
    found["phases"] = [
        phase | {"key": f"phase{number}", "duration": None if number == count - 1 else "P1M"} for number in range(count)
    ]
    return found


def cards(count: int) -> dict[str, Any]:
    found = plan(f"plan{count}")
    found["phases"][0]["rateCards"] = [
        {"type": "flat_fee", "key": f"fee{number}", "name": "Fee", "price": {"type": "flat", "amount": "1"}}
        for number in range(count)
    ]
    return found


def tiers(count: int) -> dict[str, Any]:
    unit = {"type": "unit", "amount": "1"}
    found = [{"upToAmount": str(number + 1), "unitPrice": unit} for number in range(count - 1)]
    return priced(count, {"type": "tiered", "mode": "graduated", "tiers": [*found, {"unitPrice": unit}]})


def configured(count: int) -> dict[str, Any]:
    found = plan(f"plan{count}")
    config = json.dumps("x" * (count - 2))
    found["phases"][0]["rateCards"][0]["entitlementTemplate"] = {"type": "static", "config": config}
    return found


TRIES |= {
    limits.METER_DIMENSIONS.name: posted(
        "/api/v1/meters", lambda count: meter(count, groupBy={f"d{number}": "$.d" for number in range(count)})
    ),
    limits.PATH_LENGTH.name: posted(
        "/api/v1/meters", lambda count: meter(count, valueProperty="$." + "n" * (count - 2))
    ),
    limits.PATH_STEPS.name: posted("/api/v1/meters", lambda count: meter(count, groupBy={"d": "$" + ".d" * count})),
    limits.KEY_LENGTH.name: posted("/api/v1/plans", lambda count: plan("p" * count)),
    limits.CUSTOMER_KEY_LENGTH.name: posted("/api/v1/customers", lambda count: customer(count, key="c" * count)),
    limits.NAME_LENGTH.name: posted("/api/v1/customers", lambda count: customer(count, name="n" * count)),
    limits.DESCRIPTION_LENGTH.name: posted("/api/v1/meters", lambda count: meter(count, description="d" * count)),
    limits.PLAN_PHASES.name: posted("/api/v1/plans", phases),
    limits.PHASE_RATE_CARDS.name: posted("/api/v1/plans", cards),
    limits.PRICE_TIERS.name: posted("/api/v1/plans", tiers),
    limits.CONFIG_LENGTH.name: posted("/api/v1/plans", configured),
    limits.CUSTOMER_SUBJECTS.name: posted(
        "/api/v1/customers",
        lambda count: customer(
            count, usageAttribution={"subjectKeys": [f"subject-{count}-{number}" for number in range(count)]}
        ),
    ),
    limits.CUSTOMER_THRESHOLDS.name: posted(
        "/api/v1/customers",
        lambda count: customer(count, lowBalanceThresholds=[str(number + 1) for number in range(count)]),
    ),
    limits.METADATA_ENTRIES.name: posted(
        "/api/v1/customers", lambda count: customer(count, metadata={f"k{number}": "v" for number in range(count)})
    ),
    limits.METADATA_KEY_LENGTH.name: posted(
        "/api/v1/customers", lambda count: customer(count, metadata={"k" * count: "v"})
    ),
    limits.METADATA_VALUE_LENGTH.name: posted(
        "/api/v1/customers", lambda count: customer(count, metadata={"k": "v" * count})
    ),
}


@of(limits.FEATURE_FILTERS)
def _(client: Client, count: int) -> tuple[int, str]:
    names = [f"d{number}" for number in range(count)]
    sent(client, "/api/v1/meters", meter(count, groupBy=dict.fromkeys(names, "$.d")))
    filters = dict.fromkeys(names, "x")
    body = {"key": f"f{count}", "name": "F", "meterSlug": f"meter{count}", "meterGroupByFilters": filters}
    return sent(client, "/api/v1/features", body)


def _plane(client: Client, change: Callable[[Any], Any]) -> tuple[int, str]:
    """A change that the API has no form for, by the control plane itself."""
    try:
        with client.app.api_stores.plane.changing() as changes:
            change(changes)
    except ControlError as error:
        return 400, str(error)
    return 201, ""


def _filtered(texts: tuple[str, ...]) -> Feature:
    return Feature(f"f{len(texts)}_{len(texts[0])}", "", "by_model", {"model": texts})


@of(limits.FILTER_TEXTS)
def _(client: Client, count: int) -> tuple[int, str]:
    sent(client, "/api/v1/meters", meter(count, slug="by_model", groupBy={"model": "$.model"}))
    return _plane(client, lambda changes: changes.put_feature(_filtered(tuple(f"t{n}" for n in range(count)))))


@of(limits.FILTER_TEXT_LENGTH)
def _(client: Client, count: int) -> tuple[int, str]:
    sent(client, "/api/v1/meters", meter(count, slug="by_model", groupBy={"model": "$.model"}))
    return _plane(client, lambda changes: changes.put_feature(_filtered(("t" * count,))))


@of(limits.GRANT_FEATURES)
def _(client: Client, count: int) -> tuple[int, str]:
    keys = tuple(f"f{number}" for number in range(count))

    def change(changes: Any) -> None:
        changes.put_customer(CustomerDraft(key="acme"))
        for key in keys:
            changes.put_feature(Feature(key))
        changes.grant("acme", GrantDraft(amount=Decimal(1), features=keys))

    return _plane(client, change)


@of(limits.CUSTOMERS_AT_ONCE)
def _(_client: Client, count: int) -> tuple[int, str]:
    return read("customers: [" + ",".join(f"{{key: c{number}}}" for number in range(count)) + "]")


@of(limits.FILE_BYTES)
def _(_client: Client, count: int) -> tuple[int, str]:
    return read("meters: []".ljust(count))


@of(limits.FILE_DEPTH)
def _(_client: Client, count: int) -> tuple[int, str]:
    status, said = read("{meters: " + "[" * (count - 1) + "]" * (count - 1) + "}")
    return (status, said) if "level" in said else (201, said)


@of(limits.BODY_BYTES)
def _(client: Client, count: int) -> tuple[int, str]:
    body = json.dumps(customer(1)).encode().ljust(count)
    answer = client.post("/api/v1/customers", content=body, headers={"content-type": "application/json"})
    return answer.status_code, answer.text


@of(limits.BODY_DEPTH)
def _(client: Client, count: int) -> tuple[int, str]:
    value: Any = "deep"
    for _level in range(count - 1):
        value = [value]
    return sent(client, "/api/v1/customers", customer(count, billingAddress={"a": value[0]}))


def _events(client: Client, content: bytes) -> tuple[int, str]:
    answer = client.post("/api/v1/events", content=content, headers={"content-type": "application/json"})
    return {204: 201}.get(answer.status_code, answer.status_code), answer.text


@of(limits.EVENTS_BYTES)
def _(client: Client, count: int) -> tuple[int, str]:
    return _events(client, json.dumps(EVENT | {"id": "1"}).encode().ljust(count))


@of(limits.EVENTS_A_REQUEST)
def _(client: Client, count: int) -> tuple[int, str]:
    return _events(client, json.dumps([EVENT | {"id": str(number)} for number in range(count)]).encode())


@of(limits.EVENT_BYTES)
def _(client: Client, count: int) -> tuple[int, str]:
    event = json.dumps(EVENT | {"id": "1", "data": {"text": "%"}})
    return _events(client, event.replace("%", "x" * (count - len(event) + 1)).encode())


@of(limits.EVENT_DEPTH)
def _(client: Client, count: int) -> tuple[int, str]:
    deep = "[" * (count - 2) + "]" * (count - 2)
    return _events(client, json.dumps(EVENT | {"id": "1", "data": {"a": "%"}}).replace('"%"', deep).encode())


@of(limits.ATTRIBUTE_LENGTH)
def _(client: Client, count: int) -> tuple[int, str]:
    return _events(client, json.dumps(EVENT | {"id": "i" * count}).encode())


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_each_limit_is_enforced_at_its_edge(client: Client, limit: Limit) -> None:
    """So much is taken; one more is refused with 400 (413 for sizes), by the name and the number of the limit."""
    status, said = TRIES[limit.name](client, limit.number)
    assert status == 201, said
    status, said = TRIES[limit.name](client, limit.number + 1)
    assert status == (413 if limit.unit == "bytes" and limit.place != "file" else 400), said
    assert f"the limit is `{limit.name}`" in said
    assert f"at most {limit.number} {limit.unit}" in said or f"1 to {limit.number} {limit.unit}" in said


def test_each_limit_is_tried() -> None:
    """A limit that is added is tried above."""
    assert set(TRIES) == {limit.name for limit in LIMITS}
    assert len({limit.name for limit in LIMITS}) == len(LIMITS)


def test_the_core_has_the_same_limits() -> None:
    """The core knows nothing of the table, and holds events to it by itself."""
    assert limits.EVENT_BYTES.number == EVENT_BYTES_MAX
    assert limits.ATTRIBUTE_LENGTH.number == ATTRIBUTE_LENGTH_MAX
    assert limits.EVENT_DEPTH.number == EVENT_DEPTH_MAX


def test_what_was_there_before_a_limit_goes_on_to_work(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer with more subjects and a meter with more dimensions can be renamed, and the customer made smaller."""
    subjects = [f"s{number}" for number in range(20)]
    attribution = {"usageAttribution": {"subjectKeys": subjects}}
    assert sent(client, "/api/v1/customers", customer(1, **attribution))[0] == 201
    dimensions = {f"d{number}": "$.d" for number in range(20)}
    assert sent(client, "/api/v1/meters", meter(1, groupBy=dimensions))[0] == 201
    few = Limit("few", 10, "of them", "this test")
    monkeypatch.setattr("tollway.control.customers.CUSTOMER_SUBJECTS", few)
    monkeypatch.setattr("tollway.control.meters.METER_DIMENSIONS", few)
    assert sent(client, "/api/v1/meters", meter(2, groupBy=dimensions))[0] == 400
    path = "/api/v1/customers/customer-1"
    assert client.put(path, json=customer(1, **attribution) | {"name": "Renamed"}).status_code == 200
    fewer = {"usageAttribution": {"subjectKeys": subjects[1:]}}
    assert client.put(path, json=customer(1, **fewer)).status_code == 200
    assert client.put("/api/v1/meters/meter1", json={"name": "Renamed"}).status_code == 200


@pytest.mark.parametrize("member", [b"0", b"{}", b"[]", b'""', b'{"a":[{},{},{}]}'])
@pytest.mark.parametrize("end", [b"]", b""])
def test_a_batch_of_what_are_no_events_takes_little_memory(member: bytes, end: bytes) -> None:
    """10 MiB of members that are no events are refused without being kept: not as many times as large."""
    count = limits.EVENTS_BYTES.number // (len(member) + 1)
    body = b"[" + b",".join([member] * count) + end
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as refused:
            read_events(body, BATCH)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.status == 400
    assert len(refused.value.invalid) <= INVALID_SHOWN
    assert peak < 4 * limits.EVENTS_BYTES.number


def test_bad_events_of_a_batch_are_told_up_to_a_hundred() -> None:
    """Not more are looked for, and the answer says so."""
    with pytest.raises(Problem) as refused:
        read_events(json.dumps([{"specversion": "1.0"}] * 5000).encode(), BATCH)
    assert len(refused.value.invalid) == INVALID_SHOWN
    assert "100 events, and perhaps more," in refused.value.detail


def test_depth_is_counted_outside_of_texts() -> None:
    """Brackets in a text do not nest, whatever is escaped in it."""
    deep = json.dumps({"a": "[" * 100, 'b"[': '\\"[[[' * 40, "c": [[["]"]]]}).encode()
    assert not is_deeper(deep, 4)
    assert is_deeper(deep, 3)
    assert is_deeper(b"[" * 1_000_000, 50)


def test_a_plan_may_not_be_described_at_length(client: Client) -> None:
    """What is written on a plan, its phases and its rate cards is bounded as on all else, and the field is told."""
    found = plan("described")
    found["phases"][0]["rateCards"][0]["metadata"] = {"k": "v" * 2000}
    status, said = sent(client, "/api/v1/plans", found)
    assert status == 400
    assert "phases[0].rateCards[0].metadata.k" in said
    assert "metadata_value_length" in said


def test_a_file_is_refused_with_the_line(client: Client) -> None:
    """What the control plane refuses of a file has its path there, and its line."""
    text = "plans:\n- key: pro\n  cadence: P1M\n  rate_cards:\n"
    text += "".join(f"  - {{key: fee{number}, price: {{type: flat, amount: 1}}}}\n" for number in range(501))
    with pytest.raises(ControlError) as refused:
        apply(client.app.api_stores.plane, read_catalog(text))
    assert refused.value.path == "$.plans[0].rate_cards"
    assert refused.value.line == 4
    assert "phase_rate_cards" in str(refused.value)
