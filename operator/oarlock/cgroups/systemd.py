"""Cgroups made by systemd: a transient scope for each monitor, asked for over D-Bus (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Collection
from typing import Any

from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.cgroups.manager import kept
from oarlock.cgroups.place import Manager, Place, place, slice_path

_DESTINATION, _PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_INTERFACE = "org.freedesktop.systemd1.Manager"
_DBUS, _DBUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_ANSWER, _LAST_WORDS = 30.0, 1.0
"""Seconds that systemd has for a job, and D-Bus to forget what was asked of it."""
_DONE, _CANCELED = "done", "canceled"
_STOPS = 3
_NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_BROKEN = (DBusError, EOFError, OSError)
"""What a call ends with that is refused, or whose connection breaks."""


class _Canceled(OSError):
    """Another job of the unit took the place of ours."""


class Systemd:
    """Asks systemd for scopes. One connection, made at the first need and again when it broke."""

    name: Manager = "systemd"

    def __init__(self, slice_name: str) -> None:
        self.parent = slice_name
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[str]] = {}

    def place(self, container_id: str) -> Place:
        """See `CgroupManager`."""
        return place(self.name, self.parent, container_id)

    async def adopt(self, pid: int, place: Place) -> None:
        """See `CgroupManager`. Done when systemd's job is: only then is the process in the scope."""
        assert place.scope is not None
        properties = [
            ("Description", Variant("s", f"oarlock's monitor of {place.container.rpartition('/')[2]}")),
            ("Slice", Variant("s", place.parent)),
            ("PIDs", Variant("au", [pid])),
            ("CollectMode", Variant("s", "inactive-or-failed")),
            ("DefaultDependencies", Variant("b", False)),
        ]
        await self._job(place.scope, "StartTransientUnit", "ssa(sv)a(sa(sv))", [place.scope, "fail", properties, []])
        if hierarchy().VERSION == 1:  # hierarchies that are not systemd's hold the operator's own cgroup
            await asyncio.get_running_loop().run_in_executor(None, hierarchy().adopt, pid, place.monitor)

    async def forget(self, place: Place) -> None:
        """See `CgroupManager`. A slice does not go by itself, nor a scope whose folder somebody else removed."""
        units = [each for each in (place.scope, place.slice) if each is not None]
        await asyncio.gather(*map(self._stop, units))

    async def sweep(self, container_ids: Collection[str]) -> None:
        """See `CgroupManager`. What an operator that was killed has left."""
        folder = slice_path(self.parent)
        for name in hierarchy().children(folder) - kept(self, container_ids):
            if name.endswith((".scope", ".slice")) and not hierarchy().processes(f"{folder}/{name}"):
                await self._stop(name)
        hierarchy().sweep(folder, kept(self, container_ids))

    async def close(self) -> None:
        """See `CgroupManager`. Its connection: the loop that it is in may end."""
        if self._bus is not None and self._bus.connected:
            self._bus.disconnect()
            with contextlib.suppress(TimeoutError, *_BROKEN):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        self._bus = None

    async def _stop(self, unit: str) -> None:
        """Again when a start came in between, of a runtime that was killed after it had asked for that."""
        for _ in range(_STOPS):
            with contextlib.suppress(_Canceled):
                return await self._job(unit, "StopUnit", "ss", [unit, "replace"])
        await self._job(unit, "StopUnit", "ss", [unit, "replace"])

    async def _job(self, unit: str, member: str, signature: str, body: list[Any]) -> None:
        """Have systemd do something with a unit, and wait for the end of its job; nothing when there is no such unit.

        Raises:
            OSError: it was not done.
        """
        self._waiting[unit] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER):
                bus = await self._connected()
                async with _told_of_the_end(bus, unit):
                    await _call(bus, _DESTINATION, _PATH, member, signature, body)
                    result = await self._waiting[unit]
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"systemd: {member} {unit}: not done within {_ANSWER:g} s") from None
        except _BROKEN as error:
            if getattr(error, "type", None) == _NO_SUCH_UNIT:
                return
            said = error if isinstance(error, DBusError) else f"D-Bus: {error}"
            raise OSError(errno.EIO, f"systemd: {member} {unit}: {said}") from error
        finally:
            self._waiting.pop(unit, None)
        if result != _DONE:
            raise (_Canceled if result == _CANCELED else OSError)(
                errno.EIO, f"systemd: {member} {unit}: its job ended as {result}"
            )

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                try:
                    self._bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
                except (OSError, DBusError) as error:
                    raise OSError(errno.ECONNREFUSED, f"the system's D-Bus cannot be reached: {error}") from error
                self._bus.add_message_handler(self._heard)
                await _call(self._bus, _DESTINATION, _PATH, "Subscribe", "", [])
            return self._bus

    def _heard(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.member == "JobRemoved":
            _, _, unit, result = message.body
            waiting = self._waiting.get(unit)
            if waiting is not None and not waiting.done():
                waiting.set_result(result)


@contextlib.asynccontextmanager
async def _told_of_the_end(bus: MessageBus, unit: str) -> AsyncIterator[None]:
    """Hear of the end of this unit's jobs, until the block is left: whatever D-Bus is up to then."""
    match = f"type='signal',interface='{_INTERFACE}',member='JobRemoved',arg2='{unit}'"
    await _call(bus, _DBUS, _DBUS_PATH, "AddMatch", "s", [match])
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError, *_BROKEN):
            async with asyncio.timeout(_LAST_WORDS):
                await _call(bus, _DBUS, _DBUS_PATH, "RemoveMatch", "s", [match])


async def _call(bus: MessageBus, destination: str, path: str, member: str, signature: str, body: list[Any]) -> None:
    interface = _INTERFACE if destination == _DESTINATION else destination
    message = Message(
        destination=destination, path=path, interface=interface, member=member, signature=signature, body=body
    )
    reply = await bus.call(message)
    if reply is not None and reply.message_type is MessageType.ERROR:
        raise DBusError._from_message(reply)
