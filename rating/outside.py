"""
Calls out of the core: what they raise says nothing of an event or a customer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

Params = ParamSpec("Params")
Result = TypeVar("Result")


class Outside:
    """Remembers what a call out of the core raised, to tell it from a failure of the core."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        """What a watched call raised last."""

    def watched(self, call: Callable[Params, Result]) -> Callable[Params, Result]:
        """The same call, watched."""

        def watched(*args: Params.args, **named: Params.kwargs) -> Result:
            try:
                return call(*args, **named)
            except Exception as failure:
                self.failure = failure
                raise

        return watched
