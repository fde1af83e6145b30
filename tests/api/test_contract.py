"""
Whatever is sent to a running API, it answers as its own description says, and never fails.

`CONTRACT_EXAMPLES`, `CONTRACT_SEED` and `CONTRACT_PHASES` in the environment make for another, or a longer, run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.api.conftest import plan
from tests.api.service import Service, api_process
from tests.conftest import Stores
from tests.engine_runs import engine_log, engine_process, wait_for

V1, V3 = "/api/v1", "/api/v3/openmeter"
EXAMPLES = os.environ.get("CONTRACT_EXAMPLES", "2")
"""So many requests are made up for each operation, on top of those that try the limits of each field."""
SEED = os.environ.get("CONTRACT_SEED", "20260302")
PHASES = os.environ.get("CONTRACT_PHASES", "examples,coverage,fuzzing")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
NASTY = ["\0", "null", "\u202e", "é" * 300, "' or 1=1 --", "../..", "%00", "{}", "9" * 400, "-1", "1e999", "NaN", "🪙"]
"""Texts that have broken others."""
BODY: dict[str, list[Any]] = {
    "body.currency": ["USD"],
    "body.amount": ["5", "0.000001", "9" * 30],
    "body.billing_cadence": ["P1M"],
    "body.billingCadence": ["P1M"],
    "body.timing": ["immediate", "next_billing_cycle", "2030-01-01T00:00:00Z"],
    "body.plan.key": ["basic"],
    "body.customerKey": ["acme"],
    "body.customer_key": ["acme"],
    "body.expires_after": ["P1M", "PT0.5S"],
}
"""What bodies say now and then, so that not all are refused."""


@pytest.fixture
def service(stores: Stores) -> Iterator[Service]:
    """A running API and engine."""
    with api_process(stores) as running, engine_process(stores) as engine:
        yield running
        assert engine.poll() is None, engine_log(stores)


@pytest.fixture
def known(service: Service) -> dict[str, list[str]]:
    """One of each thing, with usage: what a path may name, by the name of the parameter."""
    service.post(f"{V1}/meters", {"slug": "calls", "eventType": "call", "aggregation": "COUNT"})
    service.post(f"{V1}/features", {"key": "calls", "name": "Calls", "meterSlug": "calls"})
    published = service.post(f"{V1}/plans", plan("basic"))["id"]
    service.post(f"{V1}/plans/{published}/publish", code=200)
    draft = service.post(f"{V1}/plans", plan("basic"))["id"]
    customer = service.post(f"{V1}/customers", {"key": "acme", "name": "Acme"})["id"]
    held = service.post(f"{V1}/subscriptions", {"plan": {"key": "basic"}, "customerKey": "acme"})["id"]
    body = {"name": "Top-up", "funding_method": "none", "currency": "USD", "amount": "5"}
    path = f"{V3}/customers/acme"
    grants = [service.post(f"{path}/credits/grants", body | {"key": key})["id"] for key in ("one", "two")]
    event = {"specversion": "1.0", "source": "test", "type": "call", "subject": "acme"}
    stray = [event | {"id": "stray", "subject": "nobody"}, event | {"id": "far", "time": "2900-01-01T00:00:00Z"}]
    service.post(f"{V1}/events", [event | {"id": str(number)} for number in range(22)] + stray, 204)
    wait_for(lambda: len(service.get(f"{path}/credits/transactions")["data"]) > 3, "the usage to be charged")
    wait_for(lambda: service.get("/api/v3/tollway/customers/acme/signals")["data"], "a signal")
    wait_for(lambda: service.get("/api/v3/tollway/parked-events")["data"], "a parked event")
    wait_for(lambda: service.get("/api/v3/tollway/dead-letters")["data"], "a dead letter")
    (invoice,) = service.post(f"{V1}/billing/invoices/invoice", {"customerId": customer})
    return {
        "meter": ["calls"],
        "feature": ["calls"],
        "plan": [published, draft, "basic"],
        "customer": [customer, "acme"],
        "subscription": [held],
        "grant": grants,
        "invoice": [invoice["id"]],
    }


def configuration(known: dict[str, list[str]]) -> str:
    """Schemathesis's settings: of the names in paths most are of things that are there, of all texts some are nasty."""
    found: dict[str, list[Any]] = {f"path.{name}": values for name, values in known.items()}
    found |= BODY | {"body.customerId": known["customer"], "body.customer_id": known["customer"]}
    lines = ["[dictionaries]", f"nasty = {{ values = {toml(NASTY)} }}"]
    lines += [f"{name.replace('.', '_')} = {{ values = {toml(values)} }}" for name, values in found.items()]
    lines += ["[parameters]"]
    lines += [f'"{name}" = {{ dictionary = "{name.replace(".", "_")}", probability = 0.7 }}' for name in found]
    lines += ["[phases.coverage]", 'unexpected-methods = ["PATCH"]']
    lines += ["[generation.dictionaries]", 'string = { dictionary = "nasty", probability = 0.1 }']
    return "\n".join(lines) + "\n"


def toml(values: list[Any]) -> str:
    """A list as TOML writes it, which for texts is as JSON does."""
    return re.sub(r"\x7f|[\ud800-\udfff]", "", msgspec.json.encode(values).decode())


@pytest.mark.timeout(1200)
def test_every_answer_is_as_described(service: Service, known: dict[str, list[str]], tmp_path: Path) -> None:
    """No failure of the server; no status, media type, field or header that the description does not have."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(configuration(known))
    command = [
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file",
        str(config),
        "run",
    ]
    command += [f"{service.url}/openapi.json", "--checks", ",".join(CHECKS), "--max-examples", EXAMPLES]
    command += ["--seed", SEED, "--phases", PHASES, "--no-color", "--no-shrink"]
    command += ["--continue-on-failure", "--generation-database", "none", "--suppress-health-check", "all"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Unresolvable" not in ended.stdout, ended.stdout
    tried = re.search(r"(\d+) generated, (\d+) passed", ended.stdout)
    assert tried is not None, ended.stdout
    assert int(tried[1]) > 1000
