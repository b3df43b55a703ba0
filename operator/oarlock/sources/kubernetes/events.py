"""Events on the objects, as `kubectl describe` and `kubectl get events` show them (core/v1).

The same words about the same object within ten minutes raise the count of one event (client-go: EventCorrelator).
What an object says is bounded by a bucket of tokens, so that one that goes in circles does not fill the API; what is
not sent is counted, and told with the next repetition that has a token. While the API server is away, events wait: a
few hundred, for some minutes. Nothing runs, and nothing is sent, while nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from oarlock.api.containerspec import API_VERSION, KIND
from oarlock.api.identity import Key
from oarlock.errors import SourceUnavailable
from oarlock.linux import clock
from oarlock.reconcile.ports import EventKind
from oarlock.sources.kubernetes.addresses import events_of
from oarlock.sources.kubernetes.apiserver import MERGE_PATCH, Answer, ApiServer
from oarlock.sources.kubernetes.backoff import Backoff

log = logging.getLogger("oarlock.sources.kubernetes")

COMPONENT = "oarlock"
BURST, REFILL = 25, 300.0
"""Requests that one object may cause at once, and the seconds after which it may cause one more (as client-go)."""
SAME = 600.0
"""Seconds within which a repetition is counted, and for which an event is offered to an API server that is away."""
QUEUED = 256
"""Events that wait to be sent; more are dropped."""
_LONGEST_MESSAGE = 1024
_TRIES = 5
"""So often a refusal is heard before it is believed: an API server that has just started knows no rights yet."""

_Words = tuple[str, EventKind, str, str]
"""What makes two events the same: uid, kind, reason and message."""


@dataclass(slots=True)
class _Event:
    """One event of the API: how often it happened, and how often of that the API knows.

    Attributes:
        latest: seconds of the loop when it happened last; `first_seen` and `last_seen` are the same for people.
    """

    key: Key
    kind: EventKind
    reason: str
    message: str
    name: str
    first_seen: str
    last_seen: str = ""
    latest: float = 0.0
    count: int = 0
    stored: int = 0
    queued: bool = False


class _Tokens:
    """A bucket of `BURST` tokens that gains one each `REFILL` seconds."""

    def __init__(self, now: float) -> None:
        self._left, self._at = float(BURST), now

    def take(self, now: float) -> bool:
        self._left, self._at = min(BURST, self._left + (now - self._at) / REFILL), now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def full(self, now: float) -> bool:
        return self._left + (now - self._at) / REFILL >= BURST


class Events:
    """Writes events. All of it runs in the engine's loop."""

    def __init__(self, api: ApiServer, node_name: str) -> None:
        self._api, self._node_name = api, node_name
        self._known: dict[_Words, _Event] = {}
        self._tokens: dict[str, _Tokens] = {}
        self._queue: asyncio.Queue[_Event] = asyncio.Queue(QUEUED)
        self._refusals = 0

    def event(self, key: Key, kind: EventKind, reason: str, message: str) -> None:
        """See `Reporter.event`."""
        now = asyncio.get_running_loop().time()
        seen = clock.rfc3339(clock.wall())
        words = key.uid, kind, reason, message
        event = self._known.get(words)
        if event is None or now - event.latest > SAME:
            self._forget_old(now)
            event = self._known[words] = _Event(key, kind, reason, message, _name(key), seen)
        event.count, event.latest, event.last_seen = event.count + 1, now, seen
        if event.queued:
            return
        if self._queue.full():
            log.debug("%s: event %s is dropped: %d wait already", key, reason, QUEUED)
        elif self._tokens.setdefault(key.uid, _Tokens(now)).take(now):
            event.queued = True
            self._queue.put_nowait(event)
        else:
            log.debug("%s: event %s is not sent: the object causes too many", key, reason)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            event = await self._queue.get()
            event.queued = False
            backoff = Backoff(0.5, 30.0)
            while not await self._send(event):
                if asyncio.get_running_loop().time() - event.latest > SAME:
                    log.debug("%s: event %s is dropped: the API server is away", event.key, event.reason)
                    break
                await self._api.pause(backoff.next())

    def _forget_old(self, now: float) -> None:
        self._known = {words: event for words, event in self._known.items() if now - event.latest <= SAME}
        self._tokens = {uid: tokens for uid, tokens in self._tokens.items() if not tokens.full(now)}

    async def _send(self, event: _Event) -> bool:
        """Bring the API's event up to date; False when that is to be tried again."""
        count = event.count
        if event.stored >= count:
            return True
        try:
            answer = await (self._patch(event) if event.stored else self._create(event))
        except SourceUnavailable:
            return False
        if answer.ok:
            event.stored, self._refusals = count, 0
        elif answer.status == HTTPStatus.CONFLICT and not event.stored:
            event.stored = 1  # made by a request whose answer was lost
            return await self._send(event)
        elif event.stored and answer.not_found(event.name):
            # The API keeps events for an hour or so: what came since is a new one.
            event.name, event.first_seen = _name(event.key), event.last_seen
            event.count, event.stored = event.count - event.stored, 0
            return await self._send(event)
        elif answer.away or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return False
        else:
            return self._is_refused(event, answer)
        return True

    async def _create(self, event: _Event) -> Answer:
        return await self._api.request("POST", events_of(event.key.namespace), body=self._document(event))

    async def _patch(self, event: _Event) -> Answer:
        return await self._api.request(
            "PATCH",
            events_of(event.key.namespace, event.name),
            body={"count": event.count, "lastTimestamp": event.last_seen},
            content_type=MERGE_PATCH,
        )

    def _document(self, event: _Event) -> dict[str, Any]:
        key = event.key
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event.name, "namespace": key.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": key.namespace,
                "name": key.name,
                "uid": key.uid,
            },
            "type": event.kind,
            "reason": event.reason,
            "message": _cut(event.message),
            "source": {"component": COMPONENT, "host": self._node_name},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node_name,
            "firstTimestamp": event.first_seen,
            "lastTimestamp": event.last_seen,
            "count": event.count,
        }

    def _is_refused(self, event: _Event, answer: Answer) -> bool:
        """Whether to believe that this is refused; said once in a row, since nothing hangs on it."""
        self._refusals += 1
        if self._refusals < _TRIES:
            return False
        level = logging.INFO if self._refusals == _TRIES else logging.DEBUG
        what = "grant create and patch on events: " if answer.status == HTTPStatus.FORBIDDEN else ""
        log.log(level, "%s: event %s is not written: %s%s", event.key, event.reason, what, answer)
        return True


def _name(key: Key) -> str:
    """A name that no other event has. Given by us, so that a creation whose answer is lost makes no second one."""
    return f"{key.name[:200].rstrip('.-')}.{os.urandom(8).hex()}"


def _cut(message: str) -> str:
    """The message within the API's 1,024 bytes."""
    data = message.encode("utf-8", "replace")
    if len(data) <= _LONGEST_MESSAGE:
        return message
    return data[: _LONGEST_MESSAGE - 3].decode("utf-8", "ignore") + "…"
