"""`tollway apply` on servers of its own, beside the API: one instant, and nothing done twice."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from tests.api.service import NO_TLS
from tests.e2e.command import Home, wait_for
from tests.waiting import PATIENCE_SECONDS

LISTENS = re.compile(r"The API listens on (http://127\.0\.0\.1:\d+);")
FILE = """
meters: [{key: calls, event_type: call, aggregation: COUNT}]
features: [{key: calls, meter: calls}]
plans:
  - &plan
    key: prepaid
    cadence: P1M
    settlement_mode: credit_only
    rate_cards: &cards
      - {key: base, price: {type: flat, amount: 30}}
      - {feature: calls, price: {type: unit, amount: 0.5}}
  - {key: other, cadence: P1M, settlement_mode: credit_only, rate_cards: *cards}
customers:
  - key: acme
    subscription: {plan: prepaid}
    grants: [{key: welcome, amount: 50}]
"""


def test_a_file_is_applied_in_one_instant_and_beside_the_api(tmp_path: Path) -> None:
    """The grant pays the fee, as `tollway rate` says; what the API changed or cancelled the file does not do again."""
    home = Home(tmp_path / "home", {"TOLLWAY_API_PORT": "0"})
    file = tmp_path / "catalog.yaml"
    file.write_text(FILE)
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"")
    rated = home.here("rate", str(events), "--catalog", str(file), "--json").json
    (expected,) = rated["credits"]
    with home.up("up"), httpx.Client(timeout=PATIENCE_SECONDS, verify=NO_TLS) as client:
        found = LISTENS.search(home.log().read_text())
        assert found is not None
        client.base_url = found[1]

        def ledger() -> dict[str, Any]:
            body: dict[str, Any] = home.ok("balance", "acme", "--json").json["ledger"]
            return body

        def applied() -> dict[str, Any]:
            changes = home.ok("apply", str(file), "--json").json
            return next(change for change in changes if change["kind"] == "subscription")

        def post(path: str, body: dict[str, Any]) -> Any:
            answer = client.post(f"/api/v1/subscriptions/{path}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert applied()["action"] == "created"
        wait_for(lambda: Decimal(ledger()["consumed"]) == 30, "the fee")
        for figure in ("charged", "consumed", "uncovered", "live", "access"):
            assert str(ledger()[figure]) == str(expected[figure]), figure

        held = client.get("/api/v1/customers/acme").json()["currentSubscriptionId"]
        changed = post(f"{held}/change", {"timing": "immediate", "plan": {"key": "other"}})["next"]
        told = applied()
        assert (told["action"], "other v1 holds instead" in told["detail"]) == ("unchanged", True)
        post(f"{changed['id']}/cancel", {"timing": "immediate"})
        told = applied()
        assert (told["action"], "give it another key" in told["detail"]) == ("unchanged", True)
        assert client.get("/api/v1/customers/acme/subscriptions").json()["totalCount"] == 2
        assert client.delete("/api/v1/customers/acme").status_code == 204
        refused = home.run("apply", str(file))
        assert refused.code == 2
        assert "customers[0].key` (line 14)" in refused.err
        assert "deleted at" in refused.err
        wait_for(lambda: Decimal(ledger()["charged"]) == 60, "the fee of the change, and no other")
