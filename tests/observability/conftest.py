"""Prometheus's own programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.observability.prometheus import PrometheusUnavailable, programs


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The folder that has `prometheus` and `promtool`."""
    try:
        return programs()
    except PrometheusUnavailable as failure:
        pytest.skip(str(failure))


@pytest.fixture(scope="session")
def promtool(binaries: Path) -> Callable[..., str]:
    """Runs `promtool`, which has to succeed, and gives what it said."""

    def run(*arguments: str, stdin: bytes = b"") -> str:
        ended = subprocess.run([binaries / "promtool", *arguments], input=stdin, capture_output=True, check=False)
        said = (ended.stdout + ended.stderr).decode()
        assert ended.returncode == 0, said
        return said

    return run
