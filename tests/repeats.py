"""
How many examples of a law are tried.

They are the same ones each time, and more of them find what the first did not ever more seldom. So a run at one's desk
tries a fifth of them, and `make check` and CI, which set `REPEATS=all`, try all.
"""

from __future__ import annotations

import os

ALL = os.environ.get("REPEATS") == "all"
PART = 5


def repeats(count: int) -> int:
    """So many of that many are tried in this run."""
    return count if ALL else -(-count // PART)
