"""
The image without Docker: what the build stage of the Dockerfile says, done in a folder.

As Docker does, the first layer, which has the dependencies, is kept: in a cache folder, until the lock or the
Dockerfile changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.deploy.files import ROOT

INSTALLED = "/opt/tollway"
"""Where the image has it."""


def build(folder: Path) -> Path:
    """
    Do all COPY and RUN of the build stage in an empty folder, where `/opt/tollway` is `opt`.

    Returns:
        The folder of the commands, `bin`.
    """
    stage = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text()).split("\nFROM ")[1]
    steps = re.findall(r"^(COPY|RUN) (.+)$", stage, re.MULTILINE)
    first = next(number for number, (instruction, _) in enumerate(steps) if instruction == "RUN") + 1
    context, target = folder / "context", folder / "opt"
    context.mkdir()
    _copy(steps[:first], context)
    _layer(steps[:first], context, target)
    _copy(steps[first:], context)
    for instruction, command in steps[first:]:
        if instruction == "RUN":
            _run(command, context, target)
    return target / "bin"


def _copy(steps: list[tuple[str, str]], context: Path) -> None:
    """Copy what the steps name from the checkout."""
    for instruction, arguments in steps:
        if instruction == "COPY":
            *sources, destination = arguments.split()
            for name in sources:
                if (ROOT / name).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / name, context / destination, ignore=ignored)
                else:
                    shutil.copy(ROOT / name, context / destination)


def _layer(steps: list[tuple[str, str]], context: Path, target: Path) -> None:
    """The first layer, from the cache folder if it has it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tollway-tests"
    cache.mkdir(parents=True, exist_ok=True)
    content = [sys.version, sys.prefix, repr(steps), *(path.read_text() for path in sorted(context.iterdir()))]
    kept = cache / f"image-{hashlib.sha256(''.join(content).encode()).hexdigest()[:16]}"
    with (cache / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            for old in cache.glob("image-*"):
                shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=cache) as fresh:
                _run(steps[-1][1], context, Path(fresh) / "opt")
                (Path(fresh) / "opt").rename(kept)
        shutil.copytree(kept, target, symlinks=True)


def _run(command: str, context: Path, target: Path) -> None:
    """Run one step. A virtual environment that was moved has its programs only as modules."""
    here = command.replace("python -m venv", f"{sys.executable} -m venv")
    here = here.replace(f"{INSTALLED}/bin/pip", f"{INSTALLED}/bin/python -m pip").replace(INSTALLED, str(target))
    ended = subprocess.run(["sh", "-ec", here], cwd=context, capture_output=True, check=False)
    assert ended.returncode == 0, f"{here}\n{ended.stderr.decode()}"
