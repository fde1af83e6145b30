"""
One engine for all settings: a table says what each variable may be, and reading it names what is wrong with one.

Every failure is a `SettingError`: the variable, what was expected, what came, and on a line of its own a hint with an
example. What may hold a password is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct

PREFIX: Final = "TOLLWAY_"
SWITCH: Final = {
    "on": True,
    "true": True,
    "yes": True,
    "1": True,
    "off": False,
    "false": False,
    "no": False,
    "0": False,
}
GOT_CHARACTERS: Final = 40
AUTO: Final = "auto"
ANY: Final = "*"

Value = Path | str | int | bool
Kind = Literal["int", "bool", "path", "choice", "address", "host", "hosts", "topic", "output"]
_Chosen = TypeVar("_Chosen", bound=Struct)

_HOST: Final = re.compile(r"[\w.:%-]{1,253}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


class SettingError(Exception):
    """A variable that can't be used as it is; the second line is a hint. No connection string is shown."""


def bad_setting(env: str, expected: str, got: str, hint: str) -> SettingError:
    """The failure of a variable that holds what can't be; `got` is shown as it is."""
    return SettingError(f"Bad setting `{env}`: expected {expected}, got {got}\nhint: {hint}")


class Setting(Struct, frozen=True):
    """One setting as it is documented. The meaning and the example are a hint's words."""

    name: str
    """That of the field of the struct that has all of them."""
    meaning: str
    example: str
    kind: Kind = "int"
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    """What a choice may be, or how an address may begin."""
    prefix: str = PREFIX

    @property
    def env(self) -> str:
        """The environment variable it is read from."""
        return self.prefix + self.name.upper()

    @property
    def secret(self) -> bool:
        """Whether a value may hold a password, and is never shown."""
        return self.kind == "address"

    @property
    def expected(self) -> str:
        """The type and the range in words."""
        match self.kind:
            case "int" if self.maximum is None:
                return f"`int` >= {self.minimum}"
            case "int":
                return f"`int` from {self.minimum} to {self.maximum}"
            case "bool":
                return "`on` or `off`"
            case "path":
                return "a path"
            case "choice":
                return f"one of {', '.join(f'`{choice}`' for choice in self.choices)}"
            case "address":
                return f"an address like {', '.join(f'`{choice}…`' for choice in self.choices)}"
            case "host":
                return "an address to bind"
            case "hosts":
                return f"`{AUTO}`, `{ANY}`, or names with commas between"
            case "topic":
                return "the name of a topic"
            case "output":
                return "the name of a topic, or nothing for no output"

    def shown(self, value: object) -> object:
        """A value as it may be shown to people."""
        return "(set)" if self.secret and value is not None else value

    def parse(self, text: str) -> Value:
        """Read the variable's text. Raises `SettingError` where it isn't what is expected."""
        value = self._value(text)
        if value is None:
            raise bad_setting(self.env, self.expected, self._got(text), f"{self.meaning}, for example {self.example}")
        return value

    def _value(self, text: str) -> Value | None:
        match self.kind:
            case "int":
                return self._within_range(int(text)) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
            case "bool":
                return SWITCH.get(text.lower())
            case "path":
                return _path(text)
            case "choice":
                return text.lower() if text.lower() in self.choices else None
            case "address":
                return text if text.startswith(self.choices) else None
            case "host":
                return text if _HOST.fullmatch(text) else None
            case "hosts":
                return text if text in (AUTO, ANY) or all(map(_is_name, text.split(","))) else None
            case "topic":
                return text if _TOPIC.fullmatch(text) else None
            case "output":
                return text if not text or _TOPIC.fullmatch(text) else None

    def _within_range(self, number: int) -> int | None:
        above = self.minimum is None or number >= self.minimum
        below = self.maximum is None or number <= self.maximum
        return number if above and below else None

    def _got(self, text: str) -> str:
        if not text:
            return "nothing"
        if self.secret or "://" in text or "=" in text:
            return "another text (not shown: it may hold a password)"
        return f"`{text[:GOT_CHARACTERS]}`"


def read_settings(
    env: Mapping[str, str], settings: Sequence[Setting], defaults: _Chosen, *, reserved: tuple[str, ...] = ()
) -> _Chosen:
    """
    Read settings from an environment.

    Args:
        env: The variables; those that do not begin with the settings' prefix are ignored.
        settings: All that there are, of one prefix.
        defaults: What holds where a variable is not set.
        reserved: Prefixes of variables that are for other readers.

    Raises:
        SettingError: A variable is unknown, or its value is out of type or range.
    """
    prefix = settings[0].prefix
    texts = {
        name: text
        for name, text in env.items()
        if name.startswith(prefix) and not (reserved and name.startswith(reserved))
    }
    known = {setting.env: setting for setting in settings}
    for name in sorted(texts.keys() - known.keys()):
        raise SettingError(f"Unknown setting `{name}`\nhint: {_nearest(name, settings, reserved)}")
    values = {setting.name: setting.parse(texts[name]) for name, setting in known.items() if name in texts}
    return msgspec.structs.replace(defaults, **values)


def _nearest(name: str, settings: Sequence[Setting], reserved: tuple[str, ...]) -> str:
    prefix = settings[0].prefix
    names = [setting.name for setting in settings]
    match get_close_matches(name.removeprefix(prefix).lower(), names, n=1):
        case [nearest]:
            return f"did you mean `{prefix}{nearest.upper()}`?"
    prefixes = [other for other in reserved if get_close_matches(other, [name[: len(other)]], cutoff=0.9)]
    match prefixes:
        case [other]:
            return f"did you mean a setting that begins with `{other}`? docs/reference/settings.md lists all"
        case _:
            return f"the names are {', '.join(names)}, in capitals and after `{prefix}`"


def _path(text: str) -> Path | None:
    if not text or "\0" in text:
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~name` of nobody
        return None


def _is_name(text: str) -> bool:
    return text.isascii() and _HOST.fullmatch(text) is not None
