"""
Whether what a container of Tollway runs is well; the exit code says so. For the image's health check.

What it runs is read from the arguments of process 1: the API is asked whether it is ready, each process of the dataflow
for its metrics. A command that ends by itself is asked nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

SECONDS = 5.0


def pages(arguments: str, settings: Mapping[str, str]) -> list[str]:
    """The addresses that have to answer, by a command line with spaces between its arguments, and the environment."""
    if re.search(r"\btollway api\b", arguments):
        return [f"http://{_host(settings, 'API')}:{settings.get('TOLLWAY_API_PORT', '8888')}/readyz"]
    first = int(settings.get("TOLLWAY_METRICS_PORT", "9464"))
    if first and re.search(r"\btollway run\b", arguments):
        processes = re.search(r" --processes[ =](\d+)", arguments)
        host = _host(settings, "METRICS")
        return [f"http://{host}:{first + number}/metrics" for number in range(int(processes[1]) if processes else 1)]
    return []


def _host(settings: Mapping[str, str], part: str) -> str:
    host = settings.get(f"TOLLWAY_{part}_HOST", "127.0.0.1")
    return "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - nothing is bound here


def main() -> None:
    """Ask all pages. Exits with 1 if one does not answer, or not well."""
    try:
        for page in pages(Path("/proc/1/cmdline").read_text().replace("\0", " "), os.environ):
            urlopen(page, timeout=SECONDS).close()  # noqa: S310 - addresses of this machine, by http
    except OSError as error:
        sys.exit(f"{page}: {error}")


if __name__ == "__main__":
    main()
