"""The operations guide, and the README's section on production, name only what there is."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from tests.deploy.files import ROOT, compose, manifest, rescale
from tollway.cli import app

GUIDE = (ROOT / "docs" / "operations.md").read_text()
SECTION = (ROOT / "README.md").read_text().partition("\n## Run it in production\n")[2].partition("\n## ")[0]
LINES = re.sub(r"\\\n\s*", " ", GUIDE + SECTION)
SHELL = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"^```sh[^\n]*\n(.*?)^```$", LINES, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
INLINE = re.findall(r"`([a-z][a-z-]* [^`]+)`", re.sub(r"\n", " ", LINES))
COMMANDS = sorted({found.partition(" -- ")[2] or found for found in [*SHELL, *INLINE]})
OURS = [found for found in COMMANDS if found.startswith("tollway ")]


def parsed(arguments: list[str]) -> None:
    """Read a command line as `tollway` would, and do nothing."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("tollway", arguments)
    while isinstance(command, TyperGroup):
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("line", OURS)
def test_a_command_of_the_guide_can_be_given(line: str) -> None:
    """With these options and arguments."""
    parsed(shlex.split(line)[1:])


def test_the_guide_has_commands() -> None:
    """Else nothing would be looked at."""
    assert len(OURS) > 8
    assert "tollway run --processes 2" in OURS


def test_what_kubectl_is_told_exists() -> None:
    """Each file, and each object by its kind and name."""
    lines = [shlex.split(line) for line in SHELL if line.startswith("kubectl ")]
    assert len(lines) > 6
    jobs = {found["metadata"]["name"] for found in rescale()}
    for words in lines:
        for word in words:
            if word.startswith("deploy/"):
                assert (ROOT / word).exists()
        if "statefulset" in words:
            assert manifest("StatefulSet", words[words.index("statefulset") + 1])
        if "job" in words:
            assert words[words.index("job") + 1] in jobs
        if "--selector" in words:
            name, _, value = words[words.index("--selector") + 1].partition("=")
            assert manifest("StatefulSet", "tollway-engine")["spec"]["template"]["metadata"]["labels"][name] == value
        if "secret" in words:
            (source,) = manifest("StatefulSet", "tollway-engine")["spec"]["template"]["spec"]["containers"][0][
                "envFrom"
            ][1:]
            assert source["secretRef"]["name"] == words[words.index("generic") + 1]


def test_what_compose_is_told_exists() -> None:
    """The service whose container runs a command."""
    services = [words.split()[4] for words in SHELL if words.startswith("docker compose run ")]
    assert services
    assert set(services) <= compose().keys()
