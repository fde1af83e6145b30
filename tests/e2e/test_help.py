"""The help is there, has examples, and says what exit codes mean."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

import pytest

from tests.e2e.command import Home
from tollway import console
from tollway.cli import COMMANDS, PLACES, run


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run([*arguments, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", PLACES)
def test_each_command_has_an_example_that_its_options_allow(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`tollway NAME --help` says `Example: tollway NAME …`, with options that there are."""
    text = " ".join(help_of(capsys, name).split())
    _, found, rest = text.partition("Example: ")
    assert found, text
    example = rest.partition(" Options:")[0].partition(" Arguments:")[0]
    command = shlex.split(example.rpartition("| ")[2])
    assert command[:2] == ["tollway", name]
    assert all(word in text for word in command if word.startswith("--"))


def test_the_top_level_help_lists_all_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command is in a section with what it is for, and every exit code is documented."""
    text = help_of(capsys)
    for section, commands in COMMANDS.items():
        assert f"\n{section}:\n" in text
        for name, (_, summary) in commands.items():
            assert f"  {name} " in text
            assert summary in text
    lines = [line.split() for line in text.partition("Exit codes:")[2].splitlines()]
    documented = {int(words[0]) for words in lines if words and words[0].isdigit()}
    codes = {console.OK, console.REFUSED, console.BAD_INPUT, console.NO_SERVER, console.DEFECT}
    assert documented == codes
    assert "Example:" in text


def test_each_command_is_a_function_that_says_what_it_does() -> None:
    """What the table of commands names is there."""
    for place in PLACES.values():
        module, _, function = place.partition(":")
        assert getattr(importlib.import_module(f"tollway.commands.{module}"), function).__doc__, place


def test_the_program_is_called_tollway_however_it_is_started(tmp_path: Path) -> None:
    """`python -m tollway` says `tollway` of itself; a mistyped command is named, with the nearest one."""
    result = Home(tmp_path).run("balence")
    assert result.code == console.BAD_INPUT
    assert result.err == (
        "error: there is no command `balence`\nhint: did you mean `balance`? `tollway --help` lists all\n"
    )
    assert "hint: `tollway grant --help` shows how to use it" in Home(tmp_path).here("grant", "acme").err


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`tollway --version` is one line."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tollway ")


def test_a_failure_that_nobody_foresaw_is_a_defect_with_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was not foreseen shows a traceback, and has an exit code of its own."""

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tollway.commands.doctor.doctor", broken)
    assert run(["doctor"]) == console.DEFECT
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "not foreseen: ZeroDivisionError" in said
