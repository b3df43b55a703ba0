"""docs/cli.md says what the command is."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from oarlock.cli import exitcodes
from oarlock.cli.app import app
from oarlock.cli.options import default_text
from oarlock.node.configuration import options
from oarlock.node.option import Option

LINES = (Path(__file__).parents[3] / "docs" / "cli.md").read_text().splitlines()
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a click Group
COMMON = {each.flag for each in options()} | {"--config", "--namespace", "--help"}
"""Flags whose place is the table, or the paragraph before the commands."""
CODES = [line.split("|")[1].strip() for line in LINES if line.startswith("| ")]


@pytest.mark.parametrize("option", options(), ids=lambda each: each.name)
def test_every_option_has_its_row(option: Option) -> None:
    default = f"`{default_text(option)}`" if option.default not in (None, "", ()) else ""
    assert f"| `{option.flag}` | `{option.variable}` | `{option.key}` | {default} | {option.help} |" in LINES


def test_no_row_is_left_of_an_option_that_is_gone() -> None:
    assert sum(line.startswith("| `--") for line in LINES) == len(options())


def test_every_command_has_its_row() -> None:
    rows = {line.split("`")[1].split()[0] for line in LINES if line.startswith("| `") and not line.startswith("| `--")}
    assert rows == set(COMMANDS)


def test_every_exit_code_has_its_row() -> None:
    codes = {value for name, value in vars(exitcodes).items() if name.isupper()}
    assert {int(code) for code in CODES if code.isdigit()} == codes


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_section_with_its_own_flags(command: str) -> None:
    text = section(command)
    flags = {flag for each in COMMANDS[command].params for flag in each.opts if flag.startswith("--")}
    named = set(re.findall(r"--[a-z][a-z-]*", text))
    assert flags - COMMON <= named
    assert named - COMMON <= flags | {"--no-wait"}


def test_the_index_names_every_page() -> None:
    docs = Path(__file__).parents[3] / "docs"
    index = (docs / "README.md").read_text()
    assert [page.name for page in docs.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []


def section(command: str) -> str:
    """The text below the heading that names this command."""
    after = itertools.dropwhile(lambda line: not re.match(rf"### .*\b{command}\b", line), LINES)
    heading = next(after, None)
    assert heading is not None, f"docs/cli.md has no section for {command}"
    return "\n".join(itertools.takewhile(lambda line: not line.startswith("#"), after))
