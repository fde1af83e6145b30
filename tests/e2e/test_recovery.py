"""`tollway recovery`: the store is copied, lost, and made anew."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

from tests.e2e.command import ROOT, Home
from tests.e2e.test_story import event
from tollway.console import BAD_INPUT, REFUSED

CATALOG = str(ROOT / "config" / "catalog" / "demo.yaml")


def test_a_lost_recovery_store_is_made_anew(tmp_path: Path) -> None:
    """Without it the dataflow refuses, and names the command; after that the balance is the same, and goes on."""
    home = Home(tmp_path / "home")
    assert "there is no ledger yet" in home.run("recovery", "list").err
    home.ok("apply", CATALOG)
    nothing = home.run("recovery", "copy")
    assert (nothing.code, "no recovery store to copy" in nothing.err) == (REFUSED, True)
    for number in (1, 2, 3):
        home.ok("ingest", "-", stdin=event(number, 100_000))
        home.ok("up", "--drain")
        if number == 1:
            (copied,) = home.ok("recovery", "copy", "--json").json
            assert copied["parts"] == [0, 1, 2, 3]
    assert home.ok("recovery", "list", "--json").json == [copied]
    assert copied["copied_at"][:10] in home.ok("recovery", "list").out
    live = home.ok("balance", "acme", "--json").json["ledger"]["live"]

    there = home.run("recovery", "rebuild")
    assert (there.code, "there is a recovery store" in there.err) == (BAD_INPUT, True)
    shutil.rmtree(home.path / "recovery")
    refused = home.run("up", "--drain")
    assert refused.code == BAD_INPUT
    assert "`tollway recovery rebuild` makes it anew" in refused.err
    shutil.rmtree(home.path / "recovery")
    made = home.ok("recovery", "rebuild", "--json").json
    assert made["copied_at"] == copied["copied_at"]
    assert made["rows_taken_back"] > 0
    home.ok("ingest", "-", stdin=event(3, 100_000) + event(4, 100_000))
    home.ok("up", "--drain")
    after = home.ok("balance", "acme", "--json").json
    assert Decimal(live) - Decimal(after["ledger"]["live"]) == Decimal("1.2")
    assert after["ledger"]["live"] == after["visible"]["live"]
