"""The command starts quickly, and imports nothing that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.unit.cli.conftest import Node

LOADED = """
import json, sys
from oarlock.cli import main
code = main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [["ps"], ["ps", "-o", "json"], ["version"], ["--help"], ["run", "--help"], ["inspect", "web"]],
    ids=" ".join,
)
def test_neither_the_models_nor_kopf_are_imported(node: Node, arguments: list[str]) -> None:
    node.record("web")
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], env=node.environment, capture_output=True, check=True
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert not loaded & {"oarlock.api.spec", "kopf", "kubernetes", "aiohttp", "rich", "asyncio"}


def test_ps_of_200_containers_takes_at_most_350_ms(node: Node) -> None:
    for number in range(200):
        node.record(f"web-{number}")
    assert _within(0.35, node, "ps")


def test_help_takes_at_most_150_ms(node: Node) -> None:
    assert _within(0.15, node, "--help")


def test_version_takes_at_most_200_ms_with_the_programs_that_it_asks(node: Node) -> None:
    assert _within(0.2, node, "version")


def _within(limit: float, node: Node, *arguments: str) -> bool:
    """Whether one of ten runs keeps to the limit: what else the machine does makes some of them slower."""
    return any(_seconds(node, *arguments) <= limit for _ in range(10))


def _seconds(node: Node, *arguments: str) -> float:
    begin = time.monotonic()
    node.oarlock(*arguments)
    return time.monotonic() - begin
