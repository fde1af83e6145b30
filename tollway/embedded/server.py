"""
The life of one embedded server: started once, joined by others, stopped by its process id.

A server inherits the lock on the file `alive` in its folder and so holds it for as long as any of its
processes lives. That lock alone decides whether it runs: process ids come again, and pid files outlive a
SIGKILL. Whoever starts or stops a server holds the home's start lock, so no two do so at once.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tollway.embedded import locks

LOOPBACK = "127.0.0.1"
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.01
PORT_ATTEMPTS = 5
LOG_BYTES_KEPT = 8 << 20
LOG_LINES_SHOWN = 12
PORT_TAKEN = ("Address already in use", "could not create any TCP/IP sockets")

Report = Callable[[str], None]

_children: list[subprocess.Popen[bytes]] = []
"""Servers that this process started. Kept so that the ended ones are reaped."""


class ServerError(Exception):
    """A server can't be used; the last line is a hint. Carries no connection string."""


class ServerStatus(Struct, frozen=True):
    """What `tollway doctor` shows about an embedded server."""

    name: str
    state: Literal["running", "stopped", "not answering"]
    folder: Path
    pid: int | None
    port: int | None


@dataclass(frozen=True)
class Server:
    """An embedded server in its folder. What differs between the kinds is in the functions."""

    name: str
    folder: Path
    command: Callable[[Path, int], list[str]]
    """Prepares the folder for a start on a port, and gives the program with its arguments."""
    answers: Callable[[Path], bool]
    """Whether the server takes requests on its port, with the folder's password."""
    pid_file: str
    stop_signal: signal.Signals

    @property
    def log(self) -> Path:
        """The file that takes all the server prints."""
        return self.folder / "server.log"

    @property
    def alive(self) -> Path:
        """The file whose lock the server holds."""
        return self.folder / "alive"


def ensure(server: Server, report: Report) -> None:
    """
    See to it that the server runs and answers. The start lock of the home is held.

    Args:
        server: The server, running or not.
        report: Is told in one line when a server is started.

    Raises:
        ServerError: It can't be started, or it runs and does not answer.
    """
    private_folder(server.folder)
    _make_password(server.folder)
    # It may run: for another process, or as an orphan, perhaps still recovering, perhaps just ending.
    if _answers_while_alive(server):
        return
    for _ in range(PORT_ATTEMPTS):
        started = time.monotonic()
        offset = _spawn(server)
        if _answers_while_alive(server):
            seconds = time.monotonic() - started
            report(f"{server.name} started on {LOOPBACK}:{port_of(server.folder)} in {seconds:.2f} s")
            return
        tail = log_tail(server.log, offset)
        if not any(words in tail for words in PORT_TAKEN):
            break
        # Another program took the port since it was found free.
        (server.folder / "port").unlink()
    raise ServerError(
        f"{server.name} in `{server.folder}` did not start; the end of its log:\n{tail}\n"
        f"hint: the whole log is `{server.log}`"
    )


def stop(server: Server) -> bool:
    """
    Stop the server if it runs: by its own signal, and by SIGKILL if that takes too long.

    Returns:
        Whether it ran. Raises `ServerError` if it can't be stopped.
    """
    if not locks.is_held(server.alive):
        return False
    pid = _wait_for_pid(server)
    for number in (server.stop_signal, signal.SIGKILL):
        _signal(server, pid, number)
        if _ended(server, STOP_SECONDS):
            return True
    raise ServerError(f"{server.name} in `{server.folder}` could not be stopped\nhint: end its process {pid}")


def status(server: Server) -> ServerStatus:
    """How the server is, without changing anything."""
    if not locks.is_held(server.alive):
        return ServerStatus(server.name, "stopped", server.folder, None, None)
    state: Literal["running", "not answering"] = "running" if server.answers(server.folder) else "not answering"
    return ServerStatus(server.name, state, server.folder, _pid(server), port_of(server.folder))


def private_folder(path: Path) -> None:
    """Make a folder of ours that nobody else may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def password_of(folder: Path) -> str:
    """The password of the server in a folder that was started before."""
    return _password_file(folder).read_text()


def port_of(folder: Path) -> int:
    """The port of the server in a folder; 0 if it never ran."""
    try:
        return int((folder / "port").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def log_tail(log: Path, offset: int = 0) -> str:
    """The last lines of a log, indented."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES_SHOWN:])


def child_environment() -> dict[str, str]:
    """The environment of the servers: without what would change PostgreSQL, messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C", "LANG": "C"}


def _make_password(folder: Path) -> None:
    """Make up the folder's password, once. It's renamed into place, so that a crash leaves no half of it."""
    path = _password_file(folder)
    if not path.exists():
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(24))
        draft.replace(path)


def _password_file(folder: Path) -> Path:
    return folder / "password"


def _spawn(server: Server) -> int:
    """Start the program and pass the lock on to it. Gives the size that its log had before."""
    if server.log.exists() and server.log.stat().st_size > LOG_BYTES_KEPT:
        server.log.replace(server.log.with_suffix(".log.old"))
    with locks.exclusive(server.alive, STOP_SECONDS) as alive, server.log.open("ab") as log:
        offset = log.tell()
        try:
            port = _free_port(port_of(server.folder))
            (server.folder / "port").write_text(str(port))
            child = subprocess.Popen(
                server.command(server.folder, port),
                cwd=server.folder,
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(alive,),
                start_new_session=True,  # Ctrl-C is for the flow, which drains before the servers stop
                umask=0o077,
            )
        except OSError as error:
            raise ServerError(
                f"{server.name} can't be run in `{server.folder}`: {error.strerror}\n"
                "hint: install Tollway's dependencies again, or name a running server in the settings"
            ) from error
        _children.append(child)
        return offset


def _answers_while_alive(server: Server) -> bool:
    """Wait until the server answers, or has ended. Raises `ServerError` if it does neither in time."""
    deadline = time.monotonic() + READY_SECONDS
    while locks.is_held(server.alive):
        if server.answers(server.folder):
            return True
        if time.monotonic() > deadline:
            raise ServerError(
                f"{server.name} in `{server.folder}` runs as process {_pid(server)}, but does not answer\n"
                f"hint: look into `{server.log}`, or end that process"
            )
        time.sleep(POLL_SECONDS)
    _reap()
    return False


def _ended(server: Server, timeout_seconds: float) -> bool:
    """Wait until none of the server's processes is left; whether that came in time."""
    deadline = time.monotonic() + timeout_seconds
    while locks.is_held(server.alive):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    _reap()
    return True


def _reap() -> None:
    """Let go of the children that ended."""
    _children[:] = [child for child in _children if child.poll() is None]


def _wait_for_pid(server: Server) -> int | None:
    """The process id of a server that runs, perhaps only since a moment ago."""
    deadline = time.monotonic() + STOP_SECONDS
    while (pid := _pid(server)) is None and locks.is_held(server.alive) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return pid


def _signal(server: Server, pid: int | None, number: signal.Signals) -> None:
    if pid is None:
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it just ended, and its own children are about to
    except PermissionError as error:
        raise ServerError(
            f"{server.name} in `{server.folder}` belongs to another user\nhint: stop it as the user who started it"
        ) from error


def _pid(server: Server) -> int | None:
    """The process id that the server wrote down."""
    try:
        return int((server.folder / server.pid_file).read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _free_port(preferred: int) -> int:
    """The port of the last time if it is still free, so that addresses stay; else any."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(None, f"no free port on {LOOPBACK}")
