"""What systemd or D-Bus do not answer: a fault that a real one cannot be made to show when it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from dbus_fast import MessageType

from oarlock.cgroups import systemd
from oarlock.cgroups.place import place


async def silent() -> Any:
    await asyncio.Event().wait()


async def broken() -> Any:
    raise OSError(9, "Bad file descriptor")


class Bus:
    """A connection that answers until systemd is asked to do something."""

    connected = True

    def __init__(self, afterwards: Callable[[], Any]) -> None:
        self._afterwards, self._asked = afterwards, False

    async def connect(self) -> Bus:
        return self

    def add_message_handler(self, heard: Callable[[Any], None]) -> None:
        """Nothing is ever heard."""

    async def call(self, message: Any) -> Any:
        self._asked = self._asked or message.member == "StopUnit"
        return await self._afterwards() if self._asked else SimpleNamespace(message_type=MessageType.METHOD_RETURN)


@pytest.mark.parametrize(
    ("afterwards", "told"),
    [(silent, "not done within 0.1 s"), (broken, r"D-Bus: \[Errno 9\] Bad file descriptor")],
)
async def test_a_job_that_is_not_answered_ends_with_its_deadline_and_names_the_unit(
    monkeypatch: pytest.MonkeyPatch, afterwards: Callable[[], Any], told: str
) -> None:
    monkeypatch.setattr(systemd, "_ANSWER", 0.1)
    monkeypatch.setattr(systemd, "_LAST_WORDS", 0.1)
    monkeypatch.setattr(systemd, "MessageBus", lambda **_: Bus(afterwards))
    async with asyncio.timeout(5):
        with pytest.raises(OSError, match=rf"systemd: StopUnit oarlock-(conmon-x-1.scope|x_1.slice): {told}"):
            await systemd.Systemd("oarlock.slice").forget(place("systemd", "oarlock.slice", "x-1"))
