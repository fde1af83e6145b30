"""What is said of a command line that can't be used: a message and a hint, as of any other failure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_NEGATIVE = re.compile(r"-[0-9.]")


def usage_message(failure: Any, arguments: Sequence[str]) -> str:
    """
    The message, its last line a hint.

    Args:
        failure: What the parser of the command line, or a command, raised.
        arguments: The command line.
    """
    option = getattr(failure, "option_name", None)
    if isinstance(option, str) and _NEGATIVE.match(option):
        given = next((word for word in arguments if word.startswith(option)), option)
        return (
            f"expected a number above 0, got `{given[:40]}`\n"
            "hint: write it without the minus; credits are taken back by voiding their grant, over HTTP"
        )
    message = _said(failure)
    if "\nhint: " in message:
        return message
    nearest = " or ".join(f"`{name}`" for name in sorted(getattr(failure, "possibilities", None) or ()))
    how = f"`{_command(failure, arguments)} --help` shows how to use it"
    return f"{message}\nhint: {f'did you mean {nearest}? ' if nearest else ''}{how}"


def _said(failure: Any) -> str:
    """The parser's words in our form: what is wrong first, named as people write it."""
    param = getattr(failure, "param", None)
    if param is not None and type(failure).__name__ == "BadParameter":
        name = " or ".join(f"`{part}`" for part in [*getattr(param, "opts", ())] or [param.name])
        return f"{name}: {_begun_small(failure.message)}"
    # A command's own words come as they are; the parser would begin them with “Invalid value: ”.
    if getattr(failure, "possibilities", None) or (param is None and failure.message):
        return _begun_small(failure.message)
    return _begun_small(failure.format_message())


def _begun_small(text: str) -> str:
    text = text.removeprefix("Value error, ").removesuffix(".")
    return re.sub(r"'([^' ]+)'", r"`\1`", text[:1].lower() + text[1:])


def _command(failure: Any, arguments: Sequence[str]) -> str:
    """The command that was called, so far as that is known."""
    context = getattr(failure, "ctx", None)
    if context is not None:
        return str(context.command_path)
    words = [word for word in arguments[:1] if not word.startswith("-")]
    return " ".join(["tollway", *words])
