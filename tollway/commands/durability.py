"""What is looked at before events are taken or rated: whether the event log's server keeps them."""

from __future__ import annotations

import redis

from config.settings import Settings
from sinks.redis.durability import read_durability
from tollway.console import say
from tollway.embedded import ServerError

EVERYSEC = "everysec"
WARN = "warn"


def check_durability(chosen: Settings, redis_url: str, *, refuse: bool = True) -> None:
    """
    Look whether the event log is kept as `TOLLWAY_LOG_DURABILITY` wants it, and tell what is not.

    Args:
        chosen: The settings.
        redis_url: The event log's server.
        refuse: False: only tell, since usage comes from elsewhere, and balances come back by themselves.

    Raises:
        ServerError: It is not, and the setting is not `warn`.
    """
    with redis.Redis.from_url(redis_url, decode_responses=True, protocol=3) as client:
        faults = read_durability(client).faults(everysec=chosen.log_durability == EVERYSEC)
    if not faults:
        return
    if refuse and chosen.log_durability != WARN:
        raise ServerError(
            f"The Redis of the event log may lose events: {'; '.join(faults)}\n"
            "hint: change it, or set `TOLLWAY_LOG_DURABILITY` to `everysec` or `warn`, which says that this may be"
        )
    for fault in faults:
        say(f"WARNING: the event log's Redis may lose events: {fault}")
