"""
Whole histories against a plain oracle: what every period came to, who paid, what is left, and whether it may go on.

`HISTORIES` says how many, `HISTORIES_FROM` from which seed on; `make explore` takes 2,000 from a seed of its own. A
failure prints its seed and the smallest history that still fails. One seed again, in all its length:
`HISTORIES=1 HISTORIES_FROM=17 pytest tests/simulation/test_whole_histories.py`.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.checking import check
from tests.simulation.histories import make, shrunk, written
from tests.simulation.plain import History

HISTORIES = int(os.environ.get("HISTORIES", "150"))
FIRST = int(os.environ.get("HISTORIES_FROM", "0"))
AT_ONCE = 25
PATHS = ("calm", "slow", "engine", "rebuilt", "replayed", "resumed", "file")


@pytest.mark.parametrize("first", range(FIRST, FIRST + HISTORIES, AT_ONCE))
def test_the_engine_comes_to_what_a_plain_loop_comes_to(first: int) -> None:
    """Event by event and instant by instant, for every seed."""
    for seed in range(first, min(first + AT_ONCE, FIRST + HISTORIES)):
        history = make(seed)
        found = check(history, seed, PATHS)
        if found:
            pytest.fail(_told(history, seed, found), pytrace=False)


def _told(history: History, seed: int, found: list[str]) -> str:
    """The seed, what differed, and the smallest history that differs on the same path."""
    path = found[0].partition(":")[0].partition(" ")[0]
    smallest = shrunk(history, lambda smaller: bool(check(smaller, seed, (path,))))
    return "\n".join([f"seed {seed}", *found[:8], "", written(smallest), *check(smallest, seed, (path,))[:8]])
