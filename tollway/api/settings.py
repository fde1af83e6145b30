"""Settings of the API, by `TOLLWAY_API_*` environment variables, in the manner of `config.settings`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from config.settings import SettingError

PREFIX = "TOLLWAY_API_"
PORT_MAX = 65_535


class ApiSettings(Struct, frozen=True, kw_only=True):
    """Where the API listens."""

    host: str = "127.0.0.1"
    """The address to bind; `0.0.0.0` for all. The API has no log-in of its own: put a gateway before it."""
    port: int = 8888


def load_api_settings(env: Mapping[str, str]) -> ApiSettings:
    """
    Read the API's settings from an environment.

    Raises:
        SettingError: A variable is unknown, or its value is out of type or range.
    """
    given = {name: text for name, text in env.items() if name.startswith(PREFIX)}
    known = {PREFIX + field.upper(): field for field in ApiSettings.__struct_fields__}
    for name in sorted(given.keys() - known.keys()):
        raise SettingError(f"Unknown setting `{name}`\nhint: the names are {', '.join(sorted(known))}")
    settings = ApiSettings()
    if f"{PREFIX}HOST" in given:
        settings = msgspec.structs.replace(settings, host=_host(given[f"{PREFIX}HOST"]))
    if f"{PREFIX}PORT" in given:
        settings = msgspec.structs.replace(settings, port=_port(given[f"{PREFIX}PORT"]))
    return settings


def _host(text: str) -> str:
    if not text or any(letter.isspace() or letter == "/" for letter in text):
        raise SettingError(
            f"Bad setting `{PREFIX}HOST`: expected an address to bind, got `{text[:40]}`\n"
            "hint: the address that the API listens on, for example 127.0.0.1"
        )
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= PORT_MAX:
        raise SettingError(
            f"Bad setting `{PREFIX}PORT`: expected `int` from 1 to {PORT_MAX}, got `{text[:40]}`\n"
            "hint: the port that the API listens on, for example 8888"
        )
    return int(text)
