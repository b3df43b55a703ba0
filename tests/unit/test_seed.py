"""docs/seed.md names tests that are there, and says of each whether the guests of `make test` run it on cgroup v2."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.guest.runs import EVERYWHERE, ONCE

TESTS = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| (\d+) \| (?:.+) \| (?:.+) \| (\w+) \| (.+) \| (?:.+) \|$",
    (TESTS.parent / "docs" / "seed.md").read_text(),
    re.MULTILINE,
)
"""Number, the most that runs on v2, and the tests of each row."""
NAMED = re.compile(r"`([\w/]+\.py)?(?:::(\w+))?`(?: \((v2: \w+(?:, `\[[^`]+\]`)*))?")
"""`FILE::TEST` or `::TEST` of the file before, and its mark."""
ORDER = ("full", "one", "all")


def named(cell: str) -> Iterator[tuple[str, str, str]]:
    """File, function (empty for all of the file) and mark of every test in a cell."""
    file = ""
    for match in NAMED.finditer(cell):
        file = match[1] or file
        yield file if "/" in file else f"node/{file}", match[2] or "", match[3] or ""


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def mark(file: str, test: str) -> str:
    """What `runs.py` says of it."""
    for word, chosen in (("all", EVERYWHERE), ("one", ONCE)):
        parameters = [
            each.partition("[")[1:] for each in chosen if f"node/{each}".partition("[")[0] == f"{file}::{test}"
        ]
        if parameters:
            return ", ".join((f"v2: {word}", *(f"`{''.join(each)}`" for each in parameters if any(each))))
    return ""


def test_every_row_is_there() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 21))


@pytest.mark.parametrize(("number", "most", "cell"), ROWS, ids=[number for number, _, _ in ROWS])
def test_every_name_is_a_test_and_its_mark_is_true(number: str, most: str, cell: str) -> None:
    tests = list(named(cell))
    assert cell.count(".py") + cell.count("`::") == len(tests), "a name that is not read as one"
    for file, test, marked in tests:
        assert not test or test in functions(file), f"row {number}: {file} has no {test}"
        assert marked == (mark(file, test) if test else ""), f"row {number}: the mark of {file}::{test}"
        assert (TESTS / file).is_file(), f"row {number}: {file}"
    assert any(file.startswith(("node/", "cluster/")) for file, _, _ in tests), "with the real conmon and runtime"
    marks = [re.findall(r"\w+", marked)[1] if marked else "full" for _, _, marked in tests]
    assert most == max(marks, key=ORDER.index)


def test_what_the_guests_run_is_there() -> None:
    for each in (*EVERYWHERE, *ONCE):
        file, _, test = each.partition("::")
        assert test.partition("[")[0] in functions(f"node/{file}"), each
