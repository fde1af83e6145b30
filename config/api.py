"""
Settings of the API: `TOLLWAY_API_*` environment variables.

`ApiSettings` has the types and the defaults, `API_SETTINGS` the ranges and the meanings. Limits are those of one
worker process: with four workers, four times as much may be in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal

from msgspec import Struct

from config.setting import ANY as ANY
from config.setting import AUTO as AUTO
from config.setting import Setting, read_settings

PREFIX: Final = "TOLLWAY_API_"
MIB: Final = 1024 * 1024


class ApiSettings(Struct, frozen=True, kw_only=True):
    """All settings of the API, with their defaults. What each one means is said in `API_SETTINGS`."""

    host: str = "127.0.0.1"
    port: int = 8888
    workers: int = 1
    keys: Literal["auto", "required"] = "auto"
    allowed_hosts: str = "auto"
    timeout_seconds: int = 30
    rest_seconds: int = 75
    ingest_requests_max: int = 256
    ingest_bytes_max: int = 64 * MIB
    log_memory_percent: int = 90


_setting = partial(Setting, prefix=PREFIX)
API_SETTINGS: tuple[Setting, ...] = (
    _setting("host", "the address that the API listens on; `0.0.0.0` for all", "127.0.0.1", "host"),
    _setting("port", "the port that the API listens on; 0 for any free one", "8888", minimum=0, maximum=65_535),
    _setting("workers", "how many processes serve it", "2", minimum=1, maximum=64),
    _setting(
        "keys",
        "whether requests need an API key: `auto` asks for one unless the address is a loopback one",
        "required",
        "choice",
        choices=("auto", "required"),
    ),
    _setting(
        "allowed_hosts",
        "the names that requests may call the API by, in `Host`: `auto` is any where keys are asked for, and else those"
        " of this machine and the address; `*` is any",
        "tollway.example.com,10.0.0.7",
        "hosts",
    ),
    _setting(
        "timeout_seconds",
        "how long a request may take, its body included, in seconds",
        "30",
        minimum=1,
        maximum=600,
    ),
    _setting(
        "rest_seconds",
        "how long a connection may rest before a request and between two, and the head of a request may take, in"
        " seconds: longer than proxies and clients keep theirs, so that none sends on one that is being closed",
        "75",
        minimum=1,
        maximum=3600,
    ),
    _setting(
        "ingest_requests_max",
        "how many requests with events a worker has in hand before it answers 429",
        "256",
        minimum=1,
        maximum=10_000,
    ),
    _setting(
        "ingest_bytes_max",
        "how many bytes of events a worker has in hand before it answers 429",
        "67108864",
        minimum=1024,
        maximum=1024 * MIB,
    ),
    _setting(
        "log_memory_percent",
        "how much of its memory the event log's server may use before ingest answers 503, in percent",
        "90",
        minimum=1,
        maximum=100,
    ),
)


def load_api_settings(env: Mapping[str, str]) -> ApiSettings:
    """
    Read the API's settings from an environment.

    Raises:
        SettingError: A variable is unknown, or its value is out of type or range.
    """
    return read_settings(env, API_SETTINGS, ApiSettings())
