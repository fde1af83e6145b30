"""
The `tollway` command line. Commands are plain functions in `tollway.commands`; here they are put together,
and expected failures become one clear message and an exit code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import redis
import typer
from typer.exceptions import TyperException

from config.settings import SettingError
from tollway.catalog_file import CatalogFileError
from tollway.commands import engine, inspect, money, offline, show
from tollway.console import BAD_INPUT, NO_SERVER, REFUSED, talk
from tollway.control import ControlError
from tollway.demo import DemoFailed
from tollway.embedded import ServerError
from tollway.invoicing import NothingBillable
from tollway.ledger_reads import NotFound

app = typer.Typer(
    name="tollway",
    help="A usage rating engine on a stream: events in, exact charges and credit balances out, within milliseconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Running": (show.demo, engine.up, engine.run, engine.down),
    "Getting things in": (money.apply, engine.ingest, money.grant),
    "Looking things up": (
        inspect.balance,
        inspect.charges,
        inspect.credits_,
        inspect.signals,
        inspect.parked,
        inspect.dead_letters,
    ),
    "Invoicing": (money.invoice,),
    "Without a server": (offline.quote, offline.rate),
    "When something is wrong": (inspect.doctor,),
}

for panel, functions in COMMANDS.items():
    for function in functions:
        name = function.__name__.rstrip("_").replace("_", "-")
        app.command(name, rich_help_panel=panel)(function)


def run(arguments: list[str]) -> int:
    """Run a command line. Returns the exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except typer.Exit as exit_:
        return exit_.exit_code
    except typer.Abort:
        return 130
    except TyperException as error:
        error.show() if hasattr(error, "show") else talk.print(f"error: {error}", markup=False)
        return BAD_INPUT
    except (SettingError, CatalogFileError) as error:
        return _fail(error, BAD_INPUT)
    except ControlError as error:
        return _fail(error, REFUSED if error.code in ("not_found", "conflict") else BAD_INPUT)
    except (NotFound, NothingBillable, DemoFailed) as error:
        return _fail(error, REFUSED)
    except ServerError as error:
        return _fail(error, NO_SERVER)
    except (psycopg.OperationalError, redis.ConnectionError) as error:
        return _fail(f"a server went away: {type(error).__name__}\nhint: see `tollway doctor`", NO_SERVER)
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else 0


def _fail(error: object, code: int) -> int:
    talk.print(f"error: {error}", markup=False, style="red")
    return code
