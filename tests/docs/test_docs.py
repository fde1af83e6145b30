"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.make_reference import PAGES, REFERENCE, SIGNALS

ROOT = Path(__file__).parents[2]
PAGES_OF_TEXT = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    """A command, setting, metric or code that changed needs `python -m docs.make_reference`."""
    assert (REFERENCE / name).read_text() == PAGES[name]()


def test_every_signal_is_documented() -> None:
    """The kinds that the server-side function raises are the ones that the page lists."""
    raised = re.findall(r"'([a-z]+_[a-z]+)'", (ROOT / "sinks/redis/balances.lua").read_text())
    known = {kind for kind in raised if kind.split("_")[0] in ("access", "feature", "balance", "credits")}
    assert known == set(SIGNALS)


@pytest.mark.parametrize("page", PAGES_OF_TEXT, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target
