"""
The entry point of the `tollway` command.

In an installed wheel the folders `rating`, `dataflows`, `sinks` and `config` travel inside `tollway/_app`, so that
the package adds one name to site-packages; it is put first on the path here. In a checkout they stand beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

APP = Path(__file__).parent / "_app"


def main() -> None:
    """Run the command line and exit with its code."""
    if APP.is_dir():
        sys.path.insert(0, str(APP))
    from tollway.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
