"""What the reconciler and the sources need from each other, as protocols.

Sources call a `Sink` (the engine implements it); the engine calls a `Reporter` (each source
implements one). All of these are called in the engine's event loop: a source that lives in a
thread crosses over with `loop.call_soon_threadsafe`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol

from oarlock.api.accepted import Accepted
from oarlock.api.identity import Key

EventKind = Literal["Normal", "Warning"]


class Sink(Protocol):
    """Where a source says what is desired. Every call is cheap, idempotent and level-triggered."""

    def applied(self, obj: Accepted) -> None:
        """The object exists and is valid; also called when nothing changed."""

    def refused(self, key: Key, generation: int, problem: str) -> None:
        """The object exists but its newest version is invalid; its last good version goes on."""

    def gone(self, key: Key) -> None:
        """The object does not exist any more: stop its container and forget it."""

    def listed(self, source: str, alive: Collection[Key]) -> None:
        """A complete list of one source: records of that source outside `alive` are gone."""


class Reporter(Protocol):
    """Where the engine tells a source what it observes."""

    def report(self, key: Key, status: Mapping[str, Any]) -> None:
        """The object's status now (the API's status shape). Never blocks; the latest wins."""

    def event(self, key: Key, kind: EventKind, reason: str, message: str) -> None:
        """Something happened to the object that its status does not say at once. Never blocks or raises.

        Args:
            reason: one word in CamelCase, for machines; `message` is a sentence for people, without secrets.
        """

    async def hold(self, key: Key) -> None:
        """Keep the object from vanishing (the finalizer), acknowledged. Retries while the source is away.

        Raises:
            ObjectGone: the object does not exist any more.
        """

    async def release(self, key: Key) -> None:
        """Let the object go (finalizer off), acknowledged; fine when it is gone already. Retries while away."""
