"""The guests of a run boot when it begins; the tests here, the last ones, see how they have done."""

from __future__ import annotations

import re

import pytest

from tests.guest.machine import Guest
from tests.guest.runs import RUNS

_GUESTS = pytest.StashKey[dict[str, Guest]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Boot what the chosen tests are about."""
    guests = session.config.stash.setdefault(_GUESTS, {})
    if session.config.option.collectonly:
        return
    for item in session.items:
        if isinstance(item, pytest.Function) and "guest" in item.fixturenames:
            name = item.callspec.params["guest"]
            guests[name] = RUNS[name].boot(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what still runs."""
    for guest in session.config.stash.get(_GUESTS, {}).values():
        guest.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a run in a guest: how its own pytest ended."""
    for name, guest in terminalreporter.config.stash.get(_GUESTS, {}).items():
        for line in guest.told:
            if re.search(r"(passed|failed|error).* in [0-9.]+s|^reboot:|^with ", line):
                terminalreporter.write_line(f"guest {name}: {line.strip(' =')}")


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Guest:
    """The guest of the name that the test is given."""
    return request.config.stash[_GUESTS][request.param]
