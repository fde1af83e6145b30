"""
Settings of the API, by `TOLLWAY_API_*` environment variables, in the manner of `config.settings`.

`ApiSettings` has the types and the defaults, `API_SETTINGS` the ranges and the meanings. Limits are those of one
worker process: with four workers, four times as much may be in flight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

import msgspec
from msgspec import Struct

from config.settings import SettingError

PREFIX = "TOLLWAY_API_"
GOT_CHARACTERS = 40
MIB = 1024 * 1024
AUTO = "auto"
ANY = "*"
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}")


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


class ApiSetting(Struct, frozen=True):
    """One setting as it is documented. The meaning and the example are a hint's words."""

    name: str
    meaning: str
    example: str
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    is_list: bool = False

    @property
    def env(self) -> str:
        """The environment variable it is read from."""
        return PREFIX + self.name.upper()

    @property
    def default(self) -> str | int:
        """The value where the variable is not set."""
        return getattr(ApiSettings(), self.name)  # type: ignore[no-any-return]

    @property
    def expected(self) -> str:
        """The type and the range in words."""
        if self.choices:
            return f"one of {', '.join(f'`{choice}`' for choice in self.choices)}"
        if self.is_list:
            return "`auto`, `*`, or names with commas between"
        if self.minimum is None:
            return "an address to bind"
        return f"`int` from {self.minimum} to {self.maximum}"

    def parse(self, text: str) -> str | int:
        """Read the variable's text. Raises `SettingError` where it isn't what is expected."""
        value = self._value(text)
        if value is None:
            raise SettingError(
                f"Bad setting `{self.env}`: expected {self.expected}, got `{text[:GOT_CHARACTERS]}`\n"
                f"hint: {self.meaning}, for example {self.example}"
            )
        return value

    def _value(self, text: str) -> str | int | None:
        if self.choices:
            return text if text in self.choices else None
        if self.is_list:
            return text if text in (AUTO, ANY) or all(map(_HOST.fullmatch, text.split(","))) else None
        if self.minimum is None or self.maximum is None:
            return text if text and not any(letter.isspace() or letter == "/" for letter in text) else None
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(self.maximum))):
            return None
        return int(text) if self.minimum <= int(text) <= self.maximum else None


API_SETTINGS: tuple[ApiSetting, ...] = (
    ApiSetting("host", "the address that the API listens on; `0.0.0.0` for all", "127.0.0.1"),
    ApiSetting("port", "the port that the API listens on; 0 for any free one", "8888", 0, 65_535),
    ApiSetting("workers", "how many processes serve it", "2", 1, 64),
    ApiSetting(
        "keys",
        "whether requests need an API key: `auto` asks for one unless the address is a loopback one",
        "required",
        choices=("auto", "required"),
    ),
    ApiSetting(
        "allowed_hosts",
        "the names that requests may call the API by, in `Host`: `auto` is any where keys are asked for, and else those"
        " of this machine and the address; `*` is any",
        "tollway.example.com,10.0.0.7",
        is_list=True,
    ),
    ApiSetting(
        "timeout_seconds",
        "how long a request may take, its body included, in seconds",
        "30",
        1,
        600,
    ),
    ApiSetting(
        "rest_seconds",
        "how long a connection may rest before a request and between two, and the head of a request may take, in"
        " seconds: longer than proxies and clients keep theirs, so that none sends on one that is being closed",
        "75",
        1,
        3600,
    ),
    ApiSetting(
        "ingest_requests_max",
        "how many requests with events a worker has in hand before it answers 429",
        "256",
        1,
        10_000,
    ),
    ApiSetting(
        "ingest_bytes_max",
        "how many bytes of events a worker has in hand before it answers 429",
        "67108864",
        1024,
        1024 * MIB,
    ),
    ApiSetting(
        "log_memory_percent",
        "how much of its memory the event log's server may use before ingest answers 503, in percent",
        "90",
        1,
        100,
    ),
)


def load_api_settings(env: Mapping[str, str]) -> ApiSettings:
    """
    Read the API's settings from an environment.

    Raises:
        SettingError: A variable is unknown, or its value is out of type or range.
    """
    texts = {name: text for name, text in env.items() if name.startswith(PREFIX)}
    known = {setting.env: setting for setting in API_SETTINGS}
    for name in sorted(texts.keys() - known.keys()):
        raise SettingError(f"Unknown setting `{name}`\nhint: {_nearest(name, list(known))}")
    values: dict[str, Any] = {s.name: s.parse(texts[env_name]) for env_name, s in known.items() if env_name in texts}
    return msgspec.structs.replace(ApiSettings(), **values)


def _nearest(name: str, known: list[str]) -> str:
    match get_close_matches(name, known, n=1):
        case [nearest]:
            return f"did you mean `{nearest}`?"
        case _:
            return f"the names are {', '.join(known)}"
