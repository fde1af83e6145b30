"""
Whole histories against a plain oracle: what every period came to, who paid, what is left, and whether it may go on.

`HISTORIES` says how many, each then on all paths; `HISTORIES_FROM` from which seed on. `make explore` takes 2,000 from
a seed of its own. A failure prints its seed and the smallest history that still fails. One seed again, in all its
length: `HISTORIES=1 HISTORIES_FROM=17 pytest tests/simulation/test_whole_histories.py`.
"""

from __future__ import annotations

import os

import pytest

from tests.repeats import repeats
from tests.simulation.checking import PATHS, check
from tests.simulation.histories import make, shrunk, written
from tests.simulation.plain import History

HISTORIES = int(os.environ.get("HISTORIES", repeats(250)))
FIRST = int(os.environ.get("HISTORIES_FROM", "0"))
AT_ONCE = 25
ONCE_WRONG = (20635, 600593, 600671, 298, 388, 341, 10128, 10565, 11160, 11502, 21714, 21946)
"""Seeds that found what the others did not, in histories without deleted customers."""
ONCE_WRONG_WITH_DELETIONS = (700041, 700712)


def paths_of(seed: int) -> tuple[str, ...]:
    """All paths, or the first and two of the others."""
    if "HISTORIES" in os.environ:
        return PATHS
    others = PATHS[1:]
    return PATHS[0], others[seed % len(others)], others[(seed // len(others) + 3) % len(others)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(FIRST, FIRST + HISTORIES, AT_ONCE))
def test_the_engine_comes_to_what_a_plain_loop_comes_to(first: int) -> None:
    """Event by event and instant by instant, for every seed."""
    for seed in range(first, min(first + AT_ONCE, FIRST + HISTORIES)):
        history = make(seed)
        found = check(history, seed, paths_of(seed))
        if found:
            pytest.fail(_told(history, seed, found), pytrace=False)


@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_what_was_wrong_once_is_right(seed: int) -> None:
    """On all paths."""
    assert check(make(seed, ["deletes"]), seed) == []


@pytest.mark.parametrize("seed", ONCE_WRONG_WITH_DELETIONS)
def test_what_was_wrong_once_where_customers_are_deleted_is_right(seed: int) -> None:
    """On all paths."""
    assert check(make(seed), seed) == []


def _told(history: History, seed: int, found: list[str]) -> str:
    """The seed, what differed, and the smallest history that differs on the same path."""
    path = found[0].partition(":")[0].partition(" ")[0]
    smallest = shrunk(history, lambda smaller: bool(check(smaller, seed, (path,))))
    return "\n".join([f"seed {seed}", *found[:8], "", written(smallest), *check(smallest, seed, (path,))[:8]])
