"""A user's day: from an empty folder to an invoice, with what goes wrong on the way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.command import ROOT, Home, wait_for
from tests.waiting import PATIENCE_SECONDS

CATALOG = str(ROOT / "config" / "catalog" / "demo.yaml")


def event(number: int, tokens_out: int, **changes: Any) -> bytes:
    """An event as the demo's catalog meters it: 0.012 USD for each thousand output tokens."""
    data = {"input_tokens": 0, "output_tokens": tokens_out}
    body = {"specversion": "1.0", "id": f"e{number}", "source": "test", "type": "prompt", "subject": "acme-gateway"}
    return msgspec.json.encode(body | {"data": data} | changes) + b"\n"


def settled(home: Home, amount: str) -> bool:
    """Whether the ledger and the gate both have this live balance."""
    found = home.here("balance", "acme", "--json").json
    live = [Decimal(found[place].get("live", "-1")) for place in ("visible", "ledger")]
    return live == [Decimal(amount)] * 2


def test_from_an_empty_folder_to_an_invoice(tmp_path: Path) -> None:
    """`up`, set up, meter, look, top up, bill, stop: each command does its part, and all is there the next day."""
    home = Home(tmp_path / "home")
    with home.up() as engine:
        _set_up(home)
        _meter(home)
        _look(home)
        _bill(home)
        _run_no_second_engine(home)
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(PATIENCE_SECONDS) == 0
    log = home.log().read_text()
    assert "Stopped: everything read is in the ledger." in log
    assert "PostgreSQL stopped" in log
    assert "Traceback" not in log

    # The servers are down: a command that reads starts them for itself, and stops them.
    assert Decimal(home.ok("balance", "acme", "--json").json["ledger"]["live"]) == 18
    assert "No embedded server was running." in home.here("down").err

    with home.up():
        assert settled(home, "18")
        home.ok("ingest", "-", stdin=event(1, 1_000_000) + event(9, 1_000_000))
        wait_for(lambda: settled(home, "6"), "the balance: the first of the two is a duplicate")


def _set_up(home: Home) -> None:
    unknown = home.run("balance", "acme")
    assert (unknown.code, unknown.out) == (1, "")
    assert "no customer `acme`" in unknown.err

    first = home.ok("apply", CATALOG, "--json").json
    actions = {(change["kind"], change["key"]): change["action"] for change in first}
    assert actions["customer", "acme"] == "created"
    assert actions["plan", "pro"] == "published v1"
    second = home.here("apply", CATALOG, "--json")
    assert {change["action"] for change in second.json} == {"unchanged"}
    assert "8 entries: 0 changed, 8 unchanged." in second.err
    wait_for(lambda: settled(home, "20"), "the welcome credits")


def _meter(home: Home) -> None:
    lines = event(1, 1_000_000) + b"\nnot json\n" + event(2, 500_000) + event(3, 5, subject="") + b"\xff\xfe\n"
    lines += event(4, 7, subject="stranger") + event(5, -1)
    result = home.run("ingest", "-", "--json", stdin=lines)
    assert result.code == 1
    assert result.json["accepted"] == 4
    assert [(error["line"], error["code"], error["path"]) for error in result.json["errors"]] == [
        (3, "malformed", "$"),
        (5, "invalid_envelope", "$.subject"),
        (6, "malformed", "$"),
    ]
    assert "line 5: invalid_envelope: Bad event at `$.subject`" in result.err
    wait_for(lambda: settled(home, "2"), "the balance after 18 USD of usage")


def _look(home: Home) -> None:
    _wait_for_rows(home)
    (charge,) = (c for c in home.ok("charges", "acme", "--json").json if c["feature_key"] == "output_tokens")
    assert (charge["usage"], charge["amount"], charge["credits"]) == ("1500000", "18", "18")
    assert "1500000" in home.here("charges", "acme", "--windows", "--json").out
    assert home.here("parked", "--json", "--reason", "unknown_subject").json[0]["subject"] == "stranger"
    assert home.here("dead-letters", "--json").json[0]["reason"] == "value_negative"
    assert "balance_low" in {raised["kind"] for raised in home.ok("signals", "acme", "--json").json}

    granted = home.ok("grant", "acme", "16", "--key", "top-up", "--json").json
    assert home.here("grant", "acme", "16", "--key", "top-up", "--json").json["id"] == granted["id"]
    reused = home.here("grant", "acme", "17", "--key", "top-up")
    assert reused.code == 1
    assert "hint:" in reused.err
    assert home.here("grant", "nobody", "5").code == 1
    assert home.here("grant", "acme", "--", "-5").code == 2
    wait_for(lambda: settled(home, "18"), "the top-up")

    credits_ = home.here("credits", "acme", "--json").json
    assert [Decimal(moved["amount"]) for moved in credits_["transactions"]] == [20, -18, 16]
    told = home.ok("credits", "acme")
    assert "Welcome credits" in told.out
    assert told.err == ""


def _wait_for_rows(home: Home) -> None:
    """Wait until the ledger has a row of each kind: they come each by itself, and after the balance is seen."""
    for command, wanted in (
        ("charges", '"usage":"1500000"'),
        ("parked", '"stranger"'),
        ("dead-letters", '"value_negative"'),
        ("signals", '"balance_low"'),
    ):
        arguments = (command, "acme", "--json") if command in ("charges", "signals") else (command, "--json")
        wait_for(lambda: wanted in re.sub(r"\s", "", home.here(*arguments).out), command)  # noqa: B023


def _bill(home: Home) -> None:
    assert "INV-" not in home.here("invoice", "acme", "--preview", "--json").out
    drawn = home.ok("invoice", "acme", "--json").json
    assert drawn["number"].startswith("INV-")
    assert [Decimal(drawn["totals"][name]) for name in ("amount", "credits_total", "total")] == [18, 18, 0]
    stored = home.ok("invoices", "--number", drawn["number"], "--json").json
    assert (stored["id"], stored["lines"]) == (drawn["id"], drawn["lines"])
    assert home.here("invoices", "--number", drawn["number"]).out.startswith(f"Invoice {drawn['number']} (issued), ")
    assert "`tollway invoices`" in home.here("invoices", "--number", "INV-0").err
    again = home.run("invoice", "acme")
    assert (again.code, again.out) == (1, "")
    assert "invoice_create_no_lines" in again.err


def _run_no_second_engine(home: Home) -> None:
    """A second dataflow in the same home would write over the first one's state."""
    second = home.run("run")
    assert second.code == 2
    assert "already runs" in second.err
    assert "hint: stop that process first, or set `TOLLWAY_HOME`" in second.err
    assert home.here("down").code == 3
    checks = {check["check"]: check for check in home.ok("doctor", "--json").json}
    assert all(check["ok"] for check in checks.values()), checks
    assert "runs as process" in checks["dataflow"]["found"]


def test_a_dataflow_that_loses_its_ledger_says_so_and_goes_on_the_next_time(tmp_path: Path) -> None:
    """PostgreSQL dies: one message that says where to look, exit code 3; the next `up` starts it again."""
    home = Home(tmp_path / "home")
    with home.up() as engine:
        pid = int((home.path / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        assert engine.wait(PATIENCE_SECONDS) == 3
    said = home.log().read_text()
    assert "PostgreSQL went away" in said
    assert "crash.log" in said
    assert "hint: start it again" in said
    assert "panicked" not in said
    assert "Traceback" not in said
    assert "Traceback" in (home.path / "crash.log").read_text()
    doctor = home.run("doctor")
    assert doctor.code == 1
    assert "crash.log" in doctor.out
    with home.up():
        assert home.here("balance", "acme").code == 1
    assert not (home.path / "crash.log").exists()


def test_stopping_while_servers_start_leaves_none_behind(tmp_path: Path) -> None:
    """SIGTERM before the dataflow runs unwinds as it does later."""
    home = Home(tmp_path / "home")
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", "up", "--no-api"], env=home.environment(), stderr=subprocess.DEVNULL
    )
    wait_for(lambda: (home.path / "valkey" / "valkey.pid").exists(), "the first server")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) in (0, 128 + signal.SIGTERM)
    assert "No embedded server was running." in home.here("down").err
