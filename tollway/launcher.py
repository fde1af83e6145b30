"""
The entry point of the `tollway` command.

In an installed wheel the folders `rating`, `dataflows`, `sinks` and `config` travel inside `tollway/_app`, so that
the package adds one name to site-packages; it is put first on the path here. In a checkout they stand beside it.
"""

from __future__ import annotations

import signal
import sys


def _die_of_interrupts() -> None:
    """
    While modules are loaded, let Ctrl-C end the process at once, as it does programs that have nothing to clean up.

    Python's own handler would show where in them it was. It is put back when a command starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the command line and exit with its code."""
    _die_of_interrupts()
    import atexit
    import os
    from pathlib import Path

    from tollway.output import guard

    guard()
    codes: list[int] = []

    def end() -> None:
        """The system takes all memory back at once; Python would free millions of objects one by one."""
        if codes:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(codes[0])

    # What is registered first is called last.
    atexit.register(end)
    app = Path(__file__).parent / "_app"
    if app.is_dir():
        sys.path.insert(0, str(app))
    from tollway.cli import run

    codes.append(run(sys.argv[1:]))
    sys.exit(codes[0])


if __name__ == "__main__":
    main()
