"""The demo, and its live view."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tollway.commands.tables import print_invoice
from tollway.console import OK, REFUSED, money, print_json, print_table, say, settings, talk
from tollway.demo import TIER_TOP, Demo, Picture

REFRESH_SECONDS = 0.1
LINE_SECONDS = 5.0
"""So far apart are lines about one and the same step, where they are not on a terminal."""
SIGNALS_SHOWN = 5


def demo(
    events: Annotated[int, typer.Option(min=8000, help="How many events to send.")] = 12_000,
    rate: Annotated[int, typer.Option(min=100, max=20_000, help="Events a second.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the generated usage.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one final object and no live view.")] = False,
) -> None:
    """
    Event to charge to credit to invoice to block, live, on embedded servers of its own.

    A customer spends prepaid credits, is blocked when they are gone, tops up and goes on. All figures are checked
    against a plain calculation; the exit code is 0 only if they agree to the last digit.

    Example: tollway demo --events 20000 --rate 2000
    """
    show = Demo(settings(), events, rate, seed)
    if as_json or not talk.is_terminal:
        result = _told(show)
    else:
        with Live(
            _view(show.picture),
            console=talk,
            refresh_per_second=10,
            get_renderable=lambda: _view(show.picture),
        ):
            result = show.run(partial(_step, show.picture))
            show.picture.step = "over: what it came to is below"
    if as_json:
        print_json(result)
    else:
        _summary(result)
    raise typer.Exit(OK if result["verified"] else REFUSED)


def _step(picture: Picture, line: str) -> None:
    picture.step = line


def _told(show: Demo) -> dict[str, Any]:
    """Run with a line for each step, and one now and then within a long one, instead of a live view."""
    over = threading.Event()
    picture = show.picture

    def tell() -> None:
        told, at = picture.step, time.monotonic()
        while not over.wait(REFRESH_SECONDS):
            is_new, is_long = picture.step != told, picture.sent and time.monotonic() - at > LINE_SECONDS
            if is_new or is_long:
                told, at = picture.step, time.monotonic()
                say(progress(picture))

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        return show.run(say)
    finally:
        over.set()
        teller.join()


def progress(picture: Picture) -> str:
    """How far the demo is, in a line; figures only once there are some."""
    if not picture.sent:
        return f"{picture.step} …"
    return (
        f"{picture.step}: {picture.sent} events sent, {picture.rated} rated, "
        f"balance {float(picture.live):z.2f} USD, access {picture.access}"
    )


def _view(picture: Picture) -> Panel:
    """The state of the demo as a panel."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(min_width=48)
    share = max(float(picture.live) / float(picture.funded), 0.0)
    color = "red" if picture.access == "blocked" else "green"
    table.add_row("events", f"{picture.sent:,} sent, {picture.rated:,} rated")
    table.add_row("balance", Text(f"{float(picture.live):.6f} USD of {picture.funded}", style=color))
    table.add_row("", ProgressBar(total=1.0, completed=share, width=40, complete_style=color))
    table.add_row("access", Text(picture.access, style=f"bold {color}"))
    tier = "1: 0.000003 each" if picture.input_tokens <= TIER_TOP else "2: 0.0000015 each"
    table.add_row("input tokens", f"{picture.input_tokens:,} (tier {tier})")
    table.add_row("output tokens", f"{picture.output_tokens:,} (0.000012 each)")
    if picture.event_to_block_ms is not None:
        table.add_row("blocked", f"{picture.event_to_block_ms} ms after the event that used the credits up")
    for raised in picture.signals[-SIGNALS_SHOWN:]:
        table.add_row("signal", f"{raised['kind']} at balance {raised['live']} USD")
    return Panel(Group(Text(picture.step, style="bold"), table), title="Tollway", width=76)


def _summary(result: dict[str, Any]) -> None:
    invoice, credits_ = result["invoice"], result["credits"]
    total = money(invoice["total"], "USD")
    print_invoice(f"Invoice {invoice['number']}: {total} USD to pay after credits", "USD", invoice["lines"])
    print_table(
        "Credits, in USD",
        ["funded", "consumed", "available"],
        [[credits_["funded"], credits_["consumed"], credits_["available"]]],
    )
    say(
        f"{result['events']:,} events. The blocking signal came {result['event_to_block_ms']} ms after the event "
        "that used the credits up was handed to the log."
    )
    for check, agreed in result["checks"].items():
        say(f"  {'agrees' if agreed else 'DIFFERS'}: {check}")
    talk.print("verified: true" if result["verified"] else "verified: FALSE", style="bold")
