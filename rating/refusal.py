"""What is said of something that can't be used, or done, as it was asked for."""

from __future__ import annotations


class Refusal(Exception):
    """
    The base of all that is refused.

    Attributes:
        what: What was expected, and what was found.
        path: The field, as in `$.price.tiers[0].upToAmount`; empty where it is about no field.
        hint: What to write, or to do, instead.
    """

    def __init__(self, what: str, path: str, hint: str) -> None:
        self.what = what
        self.path = path
        self.hint = hint
        super().__init__(f"{self.message}\nhint: {hint}")

    @property
    def message(self) -> str:
        """Where, what was expected there, and what was found."""
        return f"`{self.path}`: {self.what}" if self.path else self.what
