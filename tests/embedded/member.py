"""A process that uses a home's servers until its input ends: `python -m tests.embedded.member HOME`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.settings import Settings
from tollway.embedded import servers

CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Join, say so, and leave when the input ends."""
    with servers(Settings(home=Path(sys.argv[1]))) as endpoints:
        print(endpoints.redis_url, endpoints.postgres_dsn, flush=True)  # noqa: T201
        sys.stdin.read()


class Member:
    """Another process that uses the servers of a home."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.embedded.member", str(home)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def joined(self) -> tuple[str, str]:
        """Wait until it uses the servers. The addresses it was given."""
        assert self.process.stdout is not None
        redis_url, postgres_dsn = self.process.stdout.readline().split()
        return redis_url, postgres_dsn

    def leave(self) -> int:
        """Let it leave as it should. Its exit code."""
        self.process.communicate("")
        return self.process.returncode

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def member(home: Path) -> Iterator[Member]:
    """A process that has joined, gone at the end in any case."""
    other = Member(home)
    try:
        other.joined()
        yield other
    finally:
        other.kill()


if __name__ == "__main__":
    main()
