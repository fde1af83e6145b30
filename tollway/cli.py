"""
The `tollway` command line: which commands there are, and what becomes of a failure.

A command is a plain function of `tollway.commands`. Its module is loaded when it is called for, so that a
quote does not wait for database drivers. Expected failures become one clear message and an exit code.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from threading import current_thread, main_thread
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from config.settings import SettingError
from tollway.console import BAD_INPUT, CLOSED, DEFECT, INTERRUPTED, REFUSED, error
from tollway.output import OutputFailed
from tollway.usage_errors import usage_message

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Running": {
        "demo": ("show:demo", "See it all at work, on servers of its own"),
        "up": ("engine:up", "Start servers and dataflow, until Ctrl-C"),
        "run": ("engine:run", "Run the dataflow on servers that are there"),
        "api": ("api:api", "Serve the HTTP API"),
        "down": ("engine:down", "Stop servers that were left running"),
        "key": ("keys:app", "Make, list and revoke API keys"),
        "kafka": ("kafka:app", "Make and check Kafka's topics"),
        "recovery": ("recovery:app", "Copy the recovery store; make a lost one anew"),
    },
    "Getting things in": {
        "apply": ("money:apply", "Set up meters, plans and customers from a file"),
        "ingest": ("ingest:ingest", "Append events to the log"),
        "grant": ("money:grant", "Grant prepaid credits to a customer"),
        "move": ("moves:move", "Move a subscription to another version of its plan"),
    },
    "Looking things up": {
        "customers": ("listing:customers", "Who was set up, and what each has left"),
        "plans": ("listing:plans", "Plans and their versions"),
        "subscriptions": ("listing:subscriptions", "Who is on which plan"),
        "balance": ("inspect:balance", "What a customer has left; may it go on?"),
        "charges": ("inspect:charges", "What a customer used, and what it cost"),
        "credits": ("inspect:credits_", "How a customer's credits came and went"),
        "signals": ("inspect:signals", "Blocked, allowed, running low"),
        "parked": ("inspect:parked", "Events that wait for the catalog"),
        "unpriced": ("inspect:unpriced", "Usage that no price covers, by meter"),
        "dead-letters": ("inspect:dead_letters", "Events that were refused, and why"),
    },
    "Invoicing": {
        "invoice": ("money:invoice", "Bill what was charged and not billed yet"),
        "invoices": ("money:invoices", "Invoices that were drawn up, and what became of them"),
    },
    "Without a server": {
        "quote": ("quote:quote", "Price usage, one JSON object a line"),
        "rate": ("rate:rate", "Rate a file of events in one go"),
    },
    "When something is wrong": {
        "doctor": ("doctor:doctor", "Check settings, servers, schema, ledger and Kafka"),
        "postgres": ("postgres:postgres", "Run psql, pg_dump or pg_restore on the ledger"),
    },
}
"""
By section of the help: the name of a command, the module and function that it is, and what it is for.

A `typer.Typer` in place of a function has commands of its own.
"""

PLACES = {name: place for section in COMMANDS.values() for name, (place, _) in section.items()}
NAME_WIDTH = max(map(len, PLACES))

CANCEL = "`POST /api/v1/subscriptions/ID/cancel`"
DELETE = "`DELETE /api/v1/customers/KEY`"
VOID = "`POST /api/v3/openmeter/customers/KEY/credits/grants/ID/void` or `POST /api/v1/billing/invoices/ID/void`"
OVER_HTTP = {
    "cancel": CANCEL, "unsubscribe": CANCEL, "stop": CANCEL,
    "delete": DELETE, "remove": DELETE,
    "void": VOID, "revoke": VOID,
}  # fmt: skip
"""What no command does, by the words that people try, and the request that does it."""

# A backspace on a line of its own keeps the lines below it as they are.
EPILOG = """
What there is no command for is done over HTTP: cancelling a subscription, deleting a customer, voiding a grant or an
invoice.

Results go to standard output, all else to standard error. Settings are environment variables: TOLLWAY_HOME, say,
is the folder of the servers' data, .tollway by default.

\b
Exit codes:
  0  done
  1  done, but some input was refused, or what was asked for is not there
  2  bad usage, catalog, file or setting: correct it and try again
  3  a server can't be reached or started, or went away
  70 a defect of Tollway: a traceback says where

\b
Example:
  tollway demo
  tollway COMMAND --help
"""


class Commands(TyperGroup):
    """Loads a command when it is called for, and lists all by section."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(PLACES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in PLACES:
            nearest = get_close_matches(cmd_name, PLACES, n=1, cutoff=0.7)
            meant = f"did you mean `{nearest[0]}`? " if nearest else ""
            if cmd_name in OVER_HTTP:
                meant = f"that is done over HTTP, {OVER_HTTP[cmd_name]}; "
            ctx.fail(f"there is no command `{cmd_name[:40]}`\nhint: {meant}`tollway --help` lists all")
        module, _, name = PLACES[cmd_name].partition(":")
        found = getattr(import_module(f"tollway.commands.{module}"), name)
        _interrupt_by_exception()
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name, context_settings=getattr(found, "context_settings", None))(found)
        return typer.main.get_command(single)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(NAME_WIDTH), summary) for name, (_, summary) in commands.items()])


app = typer.Typer(
    name="tollway",
    cls=Commands,
    help="A usage rating engine on a stream: events in, exact charges and credit balances out, within milliseconds.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tollway {version('tollway')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before a command."""


def run(arguments: list[str]) -> int:
    """Run a command line. Returns the exit code."""
    try:
        with _terminated_by_exception():
            code = app(arguments, prog_name="tollway", standalone_mode=False)
            sys.stdout.flush()
    except OutputFailed as failure:
        if failure.closed:
            return CLOSED
        error(
            f"standard output can't be written: {failure}\n"
            "hint: make room where it goes, and ask again; what the command did is done"
        )
        return REFUSED
    except typer.Abort:
        return INTERRUPTED
    except TyperException as failure:
        if type(failure).__name__ == "NoArgsIsHelpError":
            failure.show()  # type: ignore[attr-defined]
        else:
            error(usage_message(failure, arguments))
        return BAD_INPUT
    except SettingError as failure:
        error(str(failure))
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as failure:
        return _failed(failure)
    return code if isinstance(code, int) else 0


def _failed(failure: Exception) -> int:
    """Say what went wrong, in a line or two where it was foreseen."""
    # Only now: it knows the failures of all modules, so it loads them.
    from tollway.commands.failures import explain

    explained = explain(failure)
    if explained is None:
        traceback.print_exception(failure)
        error(f"this was not foreseen: {type(failure).__name__}\nhint: the traceback above says where it happened")
        return DEFECT
    message, code = explained
    error(message)
    return code


@contextmanager
def _terminated_by_exception() -> Iterator[None]:
    """Let SIGTERM unwind what runs, so that servers are stopped; the dataflow has a handler of its own."""
    if current_thread() is not main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    interrupting = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupting)


def _interrupt_by_exception() -> None:
    """From here on let Ctrl-C unwind what runs, where it would have ended the process at once."""
    if current_thread() is main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
