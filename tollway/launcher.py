"""
The entry point of the `tollway` command.

In an installed wheel the folders `rating`, `dataflows`, `sinks` and `config` travel inside `tollway/_app`, so that
the package adds one name to site-packages; it is put first on the path here. In a checkout they stand beside it.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

APP = Path(__file__).parent / "_app"


def main() -> None:
    """Run the command line and exit with its code."""
    codes: list[int] = []

    def end() -> None:
        """The system takes all memory back at once; Python would free millions of objects one by one."""
        if codes:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(codes[0])

    # What is registered first is called last.
    atexit.register(end)
    if APP.is_dir():
        sys.path.insert(0, str(APP))
    from tollway.cli import run

    codes.append(run(sys.argv[1:]))
    sys.exit(codes[0])


if __name__ == "__main__":
    main()
