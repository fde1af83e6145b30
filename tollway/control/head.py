"""
The head of the control log in Redis: the newest entry that a change has been answered for.

A dataflow reads it together with the events, and reads the log up to it before it rates them. So events that
are sent after a change has returned are rated with the change in view.
"""

from __future__ import annotations

import logging
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sinks.redis.keys import CONTROL_HEAD

_UPWARDS: Final = """
-- The head only ever rises, in whatever order the writers come by.
if tonumber(ARGV[1]) > tonumber(redis.call('get', KEYS[1]) or '0') then
  redis.call('set', KEYS[1], ARGV[1])
end
"""
_log = logging.getLogger("tollway.control")


class ControlHead:
    """The head as writers see it, which never falls."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1)
        )

    def raise_to(self, entry_id: int) -> None:
        """Raise the head to an entry, unless it is there; does without where Redis is away."""
        try:
            self._redis.eval(_UPWARDS, 1, CONTROL_HEAD, str(entry_id))
        except redis.RedisError as error:
            # What is committed stays committed: the log is polled as well, only a little later.
            _log.warning("Redis did not take the control head %d: %s", entry_id, type(error).__name__)

    def close(self) -> None:
        """End the connection."""
        self._redis.close()
