"""
Copies of the recovery store beside a dataflow, by a process of its own each time: the store's locks are the process's.

The instants are multiples of the interval, so the processes of a cluster that each keep a part of the store copy it at
the same time.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from threading import Event

from config.settings import Settings
from sinks import metrics
from sinks.beside import working_beside
from tollway.child import start_child
from tollway.console import say
from tollway.embedded import Endpoints

POLL_SECONDS = 0.1


@contextmanager
def copying(settings: Settings, endpoints: Endpoints) -> Iterator[None]:
    """
    Copy the recovery store from time to time until the block ends, unless settings say never.

    What fails is said, and tried again.
    """
    if not settings.recovery_copy_seconds:
        yield
        return
    metrics.recovery_copied_timestamp_seconds.set_to_current_time()
    with working_beside("copies", partial(_copy, settings, endpoints)):
        yield


def _copy(settings: Settings, endpoints: Endpoints, ended: Event) -> None:
    every_seconds = settings.recovery_copy_seconds
    environment = {
        "TOLLWAY_HOME": str(settings.home),
        "TOLLWAY_REDIS_URL": endpoints.redis_url,
        "TOLLWAY_POSTGRES_DSN": endpoints.postgres_dsn,
    }
    while True:
        at = (int(time.time()) // every_seconds + 1) * every_seconds
        while time.time() < at:
            if ended.wait(min(at - time.time(), every_seconds)):
                return
        process = start_child(
            *("recovery", "copy", f"--at={datetime.fromtimestamp(at, UTC)}"),
            environment=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while process.poll() is None and not ended.wait(POLL_SECONDS):
            pass
        if ended.is_set():
            process.terminate()
        _, told = process.communicate()
        if process.returncode == 0:
            metrics.recovery_copied_timestamp_seconds.set(at)
        elif not ended.is_set():
            reason = told.decode(errors="replace").strip().splitlines()
            say(f"The recovery store was not copied, next try in {every_seconds} s. {' '.join(reason[-2:])}")
