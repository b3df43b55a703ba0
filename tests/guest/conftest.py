"""The guests of a run begin with it, two at a time and behind everything else; the tests here see how they did."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.guest.machine import Guest
from tests.guest.runs import RUNS

_AT_A_TIME = 2
_SUMMED_UP = re.compile(r"(passed|failed|error).* in [0-9.]+s|^reboot:|^with ")


class Guests:
    """The guests that the chosen tests are about."""

    def __init__(self, names: list[str], *, aloud: bool) -> None:
        self._aloud = aloud
        self._begun: list[Guest] = []
        self._pool = ThreadPoolExecutor(_AT_A_TIME, "guest")
        self.lines: dict[str, list[str]] = {name: [] for name in names}
        self.ends: dict[str, Future[None]] = {name: self._pool.submit(self._run, name) for name in names}

    def close(self) -> None:
        """End what still runs, and begin no other."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for guest in self._begun:
            guest.close()
        self._pool.shutdown()

    def _run(self, name: str) -> None:
        guest = RUNS[name].boot(name)
        self._begun.append(guest)
        for line in guest.lines(RUNS[name].deadline):
            self.lines[name].append(line)
            if self._aloud:
                print(f"{name}: {line}", flush=True)


_GUESTS = pytest.StashKey[Guests]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Boot what the chosen tests are about."""
    items = [each for each in session.items if isinstance(each, pytest.Function) and "guest" in each.fixturenames]
    if items and not session.config.option.collectonly:
        names = [each.callspec.params["guest"] for each in items]
        session.config.stash[_GUESTS] = Guests(names, aloud=session.config.option.capture == "no")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what still runs."""
    if (guests := session.config.stash.get(_GUESTS, None)) is not None:
        guests.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a run in a guest: how its own pytest ended."""
    guests = terminalreporter.config.stash.get(_GUESTS, None)
    for name, lines in guests.lines.items() if guests is not None else ():
        for line in filter(_SUMMED_UP.search, lines):
            terminalreporter.write_line(f"guest {name}: {line.strip(' =')}")


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> None:
    """Waits for the guest of the name that the test is given; raises what it failed with, and tells what it said."""
    guests = request.config.stash[_GUESTS]
    try:
        guests.ends[request.param].result()
    finally:
        print("\n".join(guests.lines[request.param]))
