"""
Whether the server of the event log keeps what it has confirmed: on disk, and without evicting any of it.

What a server does not tell, as some that are run by others do not, is not taken for a fault.
"""

from __future__ import annotations

from typing import Any, Final

import redis
from msgspec import Struct

NOEVICTION: Final = "noeviction"


class Durability(Struct, frozen=True):
    """What a server does; None: it does not tell."""

    appendonly: str | None
    appendfsync: str | None
    policy: str | None

    def faults(self, *, everysec: bool = False) -> tuple[str, ...]:
        """
        What may lose events, each with the remedy.

        Args:
            everysec: Whether the last second before a failure of the machine may be lost.
        """
        found = []
        if self.appendonly == "no":
            found.append(
                "its append-only file is off, so that all that is not read yet is lost when it ends:"
                " `CONFIG SET appendonly yes`, and put it into its configuration"
            )
        elif self.appendfsync not in (None, "always", *(["everysec"] if everysec else [])):
            found.append(
                f"`appendfsync` is `{self.appendfsync}`, so that events that were confirmed may be lost when it dies:"
                " `CONFIG SET appendfsync always`"
            )
        if self.policy not in (None, NOEVICTION):
            found.append(
                f"`maxmemory-policy` is `{self.policy}`, so that it may drop events and balances when its memory is"
                f" used up: `CONFIG SET maxmemory-policy {NOEVICTION}`"
            )
        return tuple(found)

    @property
    def untold(self) -> tuple[str, ...]:
        """What the server does not tell, by the names of its configuration."""
        told = {"appendonly": self.appendonly, "appendfsync": self.appendfsync, "maxmemory-policy": self.policy}
        return tuple(name for name, value in told.items() if value is None)


def read_durability(client: redis.Redis) -> Durability:
    """Ask a server, which has to decode responses, what it does for what it holds. Raises `redis.RedisError`."""
    told: dict[str, Any] = {}
    for name in ("appendonly", "appendfsync", "maxmemory-policy"):
        try:
            told |= client.config_get(name)  # type: ignore[arg-type]
        except redis.ResponseError:
            break
    enabled = _info(client, "persistence").get("aof_enabled")
    policy = told.get("maxmemory-policy") or _info(client, "memory").get("maxmemory_policy")
    appendonly = told.get("appendonly") or (None if enabled is None else "yes" if int(enabled) else "no")
    return Durability(appendonly, told.get("appendfsync"), policy)


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    try:
        found: Any = client.info(section)
    except redis.ResponseError:
        return {}
    return dict(found)
