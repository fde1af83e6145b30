"""The demo runs to its end and checks itself, for programs and for people."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from rating.money import use_exact
from tests.e2e.command import Home, wait_for
from tollway.commands.show import _view
from tollway.console import talk
from tollway.demo import Picture

FAST = ("--events", "8000", "--rate", "6000")


def test_the_demo_prints_one_object_that_adds_up(tmp_path: Path) -> None:
    """With `--json`: exit code 0, one object on standard output, all figures agree, no server is left behind."""
    home = Home(tmp_path)
    result = home.ok("demo", *FAST, "--json")
    assert result.out.count("\n") == 1
    lines = result.err.splitlines()
    assert len([line for line in lines if "starting" in line]) <= 1
    assert len([line for line in lines if "events sent" in line]) < 12
    assert any(line.startswith("blocked: the gateway stops serving: ") for line in lines)
    found = result.json
    assert found["verified"] is True
    assert found["events"] == 8000
    assert found["event_to_block_ms"] > 0
    assert sum(Decimal(charge["amount"]) for charge in found["charges"]) == Decimal(found["credits"]["consumed"])
    credits_ = {name: Decimal(found["credits"][name]) for name in ("funded", "consumed", "available")}
    assert credits_["funded"] == credits_["consumed"] + credits_["available"]
    assert found["invoice"].keys() >= {"number", "total", "lines"}
    assert Decimal(found["invoice"]["total"]) == 0
    kinds = [raised["kind"] for raised in found["signals"]]
    assert [kind for kind in kinds if kind.startswith("access")] == ["access_blocked", "access_allowed"]
    assert not (tmp_path / "demo" / "valkey" / "valkey.pid").exists()


def test_the_demo_is_shown_live_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal it draws a picture while it runs, and says `verified: true` at the end."""
    mine, its = pty.openpty()
    environment = Home(tmp_path).environment() | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-m", "tollway", "demo", *FAST]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    shown = b""
    try:
        while chunk := os.read(mine, 65536):
            shown += chunk
    except OSError:
        pass  # a terminal ends so when its last user is gone
    finally:
        os.close(mine)
        wait_for(lambda: process.poll() is not None, "the end of the demo")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert process.returncode == 0, text[-3000:]
    assert "Traceback" not in text
    for words in ("╭", "blocked: the gateway stops serving", "signal", "access_blocked", "to pay after credits"):
        assert words in text
    assert text.rstrip().endswith("verified: true")


def test_the_picture_can_be_drawn_whatever_the_balance() -> None:
    """Drawing divides and rounds, also in a thread where money may not be rounded."""
    use_exact()
    for live in ("-0.0000001", "0", "23.8642755123456789", "70"):
        talk.render_lines(_view(Picture(live=Decimal(live), funded=Decimal(70), access="allowed")))


def test_a_demo_that_was_interrupted_while_its_servers_started_runs_again(tmp_path: Path) -> None:
    """What it left is its own from the first file on."""
    home = Home(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "tollway", "demo", *FAST], env=home.environment(), stderr=subprocess.PIPE
    )
    wait_for(lambda: (tmp_path / "demo" / "valkey").exists(), "the first server's folder")
    process.kill()
    process.communicate()
    assert home.ok("demo", *FAST, "--json").json["verified"] is True


def test_the_demo_removes_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    """A folder `demo` that happens to be in the home stays as it is."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.tex").write_text("precious")
    result = Home(tmp_path).run("demo", *FAST)
    assert result.code == 1
    assert "is not from a demo" in result.err
    assert "hint:" in result.err
    assert (tmp_path / "demo" / "thesis.tex").read_text() == "precious"
