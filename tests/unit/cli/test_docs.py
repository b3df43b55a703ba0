"""docs/cli.md says what the command is."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from oarlock.cli import exitcodes
from oarlock.cli.app import app
from oarlock.cli.options import default_text
from oarlock.node.configuration import Option, options

LINES = (Path(__file__).parents[3] / "docs" / "cli.md").read_text().splitlines()
CODES = [line.split("|")[1].strip() for line in LINES if line.startswith("| ")]


@pytest.mark.parametrize("option", options(), ids=lambda each: each.name)
def test_every_option_has_its_row(option: Option) -> None:
    default = f"`{default_text(option)}`" if option.default not in (None, "", ()) else ""
    assert f"| `{option.flag}` | `{option.variable}` | `{option.key}` | {default} | {option.help} |" in LINES


def test_no_row_is_left_of_an_option_that_is_gone() -> None:
    assert sum(line.startswith("| `--") for line in LINES) == len(options())


def test_every_command_has_its_row() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a click Group
    rows = {line.split("`")[1].split()[0] for line in LINES if line.startswith("| `") and not line.startswith("| `--")}
    assert rows == commands


def test_every_exit_code_has_its_row() -> None:
    codes = {value for name, value in vars(exitcodes).items() if name.isupper()}
    assert {int(code) for code in CODES if code.isdigit()} == codes
