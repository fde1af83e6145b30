"""The pages hang together, and speak of the project only."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, name_of

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
REGISTRY = re.compile(
    r"\b(?:pypi|pythonhosted|npmjs|crates|rubygems|docker|ghcr|quay|gcr|conda|anaconda)\.(?:org|com|io)\b"
)
MACHINE = re.compile(r"(?<![\w.~/-])/(?:home|root|work|Users|tmp|mnt|opt|usr|private)/|\b[A-Z]:\\")
ADDRESS = re.compile(r"https?://[^\s)\"'<>]+")
OWN_PATH = re.compile(r"`((?:config|dataflows|docs|rating|sinks|tests|tollway)/[\w/.]*)`")
PICTURES = sorted(ROOT.glob("docs/*.svg"))


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there, and a heading that is in it."""
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target) if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_registry_or_a_place_on_somebodys_machine(page: Path) -> None:
    """Both differ from reader to reader."""
    text = page.read_text()
    assert REGISTRY.findall(text) == []
    assert MACHINE.findall(text) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_well_formed(page: Path) -> None:
    """One title, fences that close, no white space at line ends."""
    text = page.read_text()
    assert text.startswith("# ")
    assert text.endswith("\n")
    assert text.count("\n```") + text.startswith("```") == 2 * len(list(blocks(page)))
    assert not re.search(r"[ \t]+$", FENCED.sub("", text), re.MULTILINE)


@pytest.mark.parametrize("picture", PICTURES, ids=name_of)
def test_a_picture_stands_by_itself(picture: Path) -> None:
    """It is XML, has a title for those who can't see it, and loads nothing from elsewhere."""
    text = picture.read_text()
    root = ElementTree.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert set(ADDRESS.findall(text)) == {"http://www.w3.org/2000/svg"}


def test_what_contributing_names_is_there() -> None:
    """Files and folders of the tour and of the recipes."""
    named = OWN_PATH.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert "rating/charge.py" in named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_can_be_found() -> None:
    """Whoever starts at the README comes, by links, to every page."""
    found, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in found:
            continue
        found.add(page)
        links = [link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link]
        ahead += [path for link in links if link.endswith(".md") and (path := (page.parent / link).resolve()).exists()]
    assert [name_of(page) for page in PAGES if page.resolve() not in found] == []
