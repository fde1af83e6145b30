"""Running PostgreSQL's own programs on the ledger: to look, to back up, to put back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Annotated

import typer
from psycopg.conninfo import conninfo_to_dict

from sinks.postgres.ledger import sole_writer
from tollway.console import say, settings
from tollway.embedded import program_folder, servers

VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "options": "PGOPTIONS",
}
"""What programs of PostgreSQL read instead of an address on their command line, where others could see the password."""


def postgres(
    program: Annotated[str, typer.Argument(help="psql, pg_dump, pg_restore, or any other program.")] = "psql",
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments, as they are.")] = None,
) -> None:
    """
    Run a program of PostgreSQL on the ledger, which stays up until it has ended, with or without a dataflow.

    It finds server, user, password and database in variables such as PGHOST. The programs that came with the embedded
    server are used, else those of the path. The exit code is the program's.

    Example: tollway postgres pg_dump --format custom --file ledger.dump

    A backup is not put back while a dataflow runs on the ledger: pg_restore with --dbname is refused then.

    Example: tollway postgres pg_restore --clean --if-exists --dbname tollway ledger.dump

    Example: tollway postgres psql --command "select customer_key, live from balances"
    """
    chosen = settings()
    command = _found(program)
    with servers(chosen, report=say) as endpoints:
        if Path(program).name == "pg_restore" and any(map(_names_a_database, arguments or [])):
            with sole_writer(endpoints.postgres_dsn, process_id=0):
                pass
        said = conninfo_to_dict(endpoints.postgres_dsn)
        address = {VARIABLES[name]: str(value) for name, value in said.items() if name in VARIABLES and value}
        process = subprocess.Popen([command, *(arguments or [])], env=os.environ | address)
        # Ctrl-C is for the program: psql ends a statement by it, and goes on.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
            if process.poll() is None:
                process.terminate()
                process.wait()
    raise typer.Exit(code if code >= 0 else 128 - code)


def _names_a_database(argument: str) -> bool:
    """Whether an argument of pg_restore has it write into a database, rather than list or print what a backup holds."""
    return argument == "--dbname" or argument.startswith(("--dbname=", "-d"))


def _found(program: str) -> str:
    """Where a program is. Raises `typer.BadParameter` if it is nowhere."""
    folder = program_folder()
    path = shutil.which(program, path=str(folder)) if folder is not None and Path(program).name == program else None
    path = path or shutil.which(program)
    if path is None:
        raise typer.BadParameter(
            f"`program`: there is no `{program[:40]}`\nhint: take psql, pg_dump, pg_restore, or a program of your path"
        )
    return path


postgres.context_settings = {"allow_interspersed_args": False}  # type: ignore[attr-defined]
