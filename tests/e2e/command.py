"""Runs `python -m tollway` as a user would: as processes, in a home of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from msgspec import Struct

from tests.waiting import PATIENCE_SECONDS
from tests.waiting import wait_for as wait_for
from tollway import cli

ROOT = Path(__file__).parents[2]
RUNNING = "The dataflow runs."


class Result(Struct, frozen=True):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        return msgspec.json.decode(self.out)


class Home(Struct, frozen=True):
    """A home folder, and the settings to run commands with."""

    path: Path
    variables: dict[str, str] = {}

    def environment(self) -> dict[str, str]:
        """The environment of a command: no settings but these."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOLLWAY_", "COLUMNS"))}
        return kept | {"TOLLWAY_HOME": str(self.path), "PYTHONPATH": str(ROOT), **self.variables}

    def run(self, *arguments: str, stdin: bytes = b"", folder: Path | None = None) -> Result:
        """Run a command to its end. Whatever it was, it shows no traceback."""
        ended = subprocess.run(
            [sys.executable, "-m", "tollway", *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment(),
            cwd=folder,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        result = Result(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
        assert "Traceback" not in result.err, result.err
        return result

    def ok(self, *arguments: str, stdin: bytes = b"") -> Result:
        """Run a command that has to succeed."""
        result = self.run(*arguments, stdin=stdin)
        assert result.code == 0, result.err
        return result

    def here(self, *arguments: str) -> Result:
        """Run a command in this process, which loads nothing anew: for what other processes have shown to work."""
        out, err = StringIO(), StringIO()
        with patch.dict(os.environ, self.environment(), clear=True), redirect_stdout(out), redirect_stderr(err):
            code = cli.run(list(arguments))
        return Result(code, out.getvalue(), err.getvalue())

    @contextmanager
    def up(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """`tollway up` in the background, ready to work; ended by SIGTERM, gracefully, unless it ended before."""
        with self.log().open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tollway", *(arguments or ("up", "--no-api"))],
                stdout=log,
                stderr=log,
                env=self.environment(),
            )
        try:
            wait_for(lambda: RUNNING in self.log().read_text() or process.poll() is not None, "the dataflow")
            assert process.poll() is None, self.log().read_text()
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_SECONDS) == 0, self.log().read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def log(self) -> Path:
        """What `up` printed."""
        return self.path.with_suffix(".log")
