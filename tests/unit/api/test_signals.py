"""Names of signals."""

from __future__ import annotations

import re
import signal

import pytest

from oarlock.api.signals import PATTERN, number_of


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", 15),
        ("SIGUSR1", 10),
        ("SIGPOLL", signal.SIGIO),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX", signal.SIGRTMAX),
        ("SIGRTMAX-14", signal.SIGRTMAX - 14),
    ],
)
def test_number_of(name: str, number: int) -> None:
    assert re.match(PATTERN, name)
    assert number_of(name) == number


@pytest.mark.parametrize("name", ["TERM", "SIGRTMIN+16", "SIGRTMAX-15", "SIGRTMIN+0", "SIG", "15", "SIGTERM "])
def test_what_is_no_name(name: str) -> None:
    assert not re.match(PATTERN, name)
