"""A log does not grow with the rate of what fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from config.logs import ALIKE_MAX, KINDS_MAX, STRETCH_SECONDS, FewAlike


class Lines(logging.Handler):
    """Keeps what is written, and stands still in time until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.written: list[str] = []
        self.addFilter(FewAlike(lambda: self.now))

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("tollway.tests.alike")
    logger.addHandler(handler)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)


LOG = logging.getLogger("tollway.tests.alike")


def test_lines_that_are_alike_are_counted_and_not_written(lines: Lines) -> None:
    """A few at once, whatever was put into them; the next stretch begins with how many were left out."""
    for number in range(1000):
        LOG.warning("customer %s is not there", number)
    assert lines.written == [f"customer {number} is not there" for number in range(ALIKE_MAX)]
    lines.now += STRETCH_SECONDS
    LOG.warning("customer %s is not there", "x")
    assert lines.written[-1] == f"customer x is not there ({1000 - ALIKE_MAX} more like this since were left out)"
    LOG.warning("customer %s is not there", "y")
    assert lines.written[-1] == "customer y is not there"


def test_what_is_rare_is_written_beside_what_is_frequent(lines: Lines) -> None:
    """Another text, another level and another kind of failure are other lines."""
    for failure in (ValueError, KeyError):
        for _ in range(100):
            try:
                raise failure("of no use")
            except failure:
                LOG.exception("not foreseen")
    LOG.error("not foreseen")
    LOG.warning("something else")
    assert lines.written == ["not foreseen"] * (2 * ALIKE_MAX + 1) + ["something else"]


def test_kinds_of_lines_take_bounded_memory(lines: Lines) -> None:
    """However many texts there are."""
    for number in range(3 * KINDS_MAX):
        LOG.warning(f"text {number}")
    (found,) = lines.filters
    assert isinstance(found, FewAlike)
    assert len(found._kinds) <= KINDS_MAX
