"""kopf, in a thread and an event loop of its own.

kopf cancels every task that its loop got after its start, takes SIGTERM over in the main thread, and ends by
itself on a lost resource, an ERROR event, and more. So it gets a loop that holds nothing else, and is started
anew by `source` whenever it ended. It only watches: one raw handler that hands the event over and returns
None. It keeps no state in the objects, posts no events, and knows no peers; what it would compute for that
at each event (two deep copies of the object) is left out.

kopf asks for credentials at its start and after a 401. It gets a session of ours, the same as all other
requests have; a handler that waits while the credentials are still the refused ones keeps it from ending.
Through the session's trace we see what kopf has no word for: that it lists again, that its watch is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf

from oarlock.api.containerspec import GROUP, PLURAL, VERSION
from oarlock.errors import SourceUnavailable
from oarlock.sources.kubernetes.addresses import COLLECTION, of_node
from oarlock.sources.kubernetes.backoff import Backoff, EndlessDelays
from oarlock.sources.kubernetes.credentials import Place

log = logging.getLogger("oarlock.sources.kubernetes")

_STOP = 1.0
"""Seconds kopf has to end; its thread is a daemon and no longer waited for after that."""


class Watching:
    """One run of kopf, from its start to its end.

    `on_event(type, object)` and `on_listed()` are called in the loop that `run` runs in.

    Attributes:
        open: set when the watch was opened, until kopf lists again or gets no answer.
    """

    def __init__(
        self,
        place: Place,
        node_name: str,
        *,
        on_event: Callable[[str | None, Mapping[str, Any]], None],
        on_listed: Callable[[], None],
    ) -> None:
        self._place, self._node_name = place, node_name
        self._on_event, self._on_listed = on_event, on_listed
        self.open = asyncio.Event()
        self._engine = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._engine.create_future()
        self._kopf: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopped = False
        self._refused: dict[str, str] | None = None
        self._sessions: list[aiohttp.ClientSession] = []

    async def run(self) -> str:
        """Run kopf until it ends; returns why. When cancelled, it is stopped."""
        threading.Thread(target=self._thread, name="kopf", daemon=True).start()
        try:
            return await asyncio.shield(self._ended)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End kopf, within a second."""
        self._stopped = True
        if self._kopf is not None and self._stop is not None and not self._ended.done():
            with contextlib.suppress(RuntimeError):  # its loop ended meanwhile
                self._kopf.call_soon_threadsafe(self._stop.set)
        done, _ = await asyncio.wait({self._ended}, timeout=_STOP)
        if not done:
            log.warning("kopf does not end within %g s; its thread is left", _STOP)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call something in the engine's loop; nothing when that has ended."""
        with contextlib.suppress(RuntimeError):
            self._engine.call_soon_threadsafe(call, *arguments)

    def _lists(self) -> None:
        self.open.clear()
        self._on_listed()

    # ------------------------------------------------------------ all below runs in kopf's thread
    def _thread(self) -> None:
        _quieten()
        try:
            asyncio.run(self._operate())
            why = "it ended by itself"
        except asyncio.CancelledError:
            why = "it was cancelled"
        except Exception as error:  # noqa: BLE001 (the outermost frame of a thread: the reason is passed on)
            why = f"{type(error).__name__}: {error}".strip(": ")
        self._tell(self._finish, why)

    def _finish(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    async def _operate(self) -> None:
        self._stop, self._kopf = asyncio.Event(), asyncio.get_running_loop()
        self._kopf.set_exception_handler(_log_exception)
        if self._stopped:
            return
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(self._event)
        try:
            ours = asyncio.all_tasks()
            tasks = await kopf.spawn_tasks(
                registry=registry, settings=self._settings(), clusterwide=True, stop_flag=self._stop
            )
            for task in tasks:
                # kopf waits 5 s for the task that waits for this flag, whatever it ends for.
                task.add_done_callback(self._raise_stop)
            await kopf.run_tasks(tasks, ignored=ours)
        finally:
            for session in self._sessions:
                await session.close()
            await asyncio.sleep(0)  # the loop's turn in which the closed connections end

    def _raise_stop(self, _: object) -> None:
        assert self._stop is not None
        self._stop.set()

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.process.ultimate_exiting_timeout = None
        settings.networking.error_backoffs = EndlessDelays()
        settings.networking.connect_timeout = 3
        settings.networking.request_timeout = 60
        settings.watching.field_selectors[GROUP, VERSION, PLURAL] = of_node(self._node_name)
        # The server's bookmarks come each minute; TCP finds a dead peer sooner (credentials._KEEPALIVE).
        settings.watching.inactivity_timeout = 190
        settings.queueing.idle_timeout = 1
        settings.queueing.exit_timeout = 0.2
        settings.persistence.finalizer = "kopf.oarlock.dev/unused"
        settings.persistence.progress_storage = _NoProgress()
        settings.persistence.diffbase_storage = _NoDiffBase()
        return settings

    async def _event(self, event: Mapping[str, Any], **_: object) -> None:
        self._tell(self._on_event, event["type"], event["object"])

    async def _login(self, **_: object) -> kopf.AiohttpSession:
        """A session with credentials other than those refused, or the same ones after a pause."""
        backoff = Backoff(0.2, 2.0)
        waited = False
        while True:
            try:
                access = await self._place.load()
                headers = await access.authorization()
            except SourceUnavailable as error:
                log.debug("kopf has no credentials: %s", error)
            else:
                if headers != self._refused or waited:
                    self._refused = headers
                    session = access.session(headers=headers, traces=[self._trace()])
                    self._sessions = [*(s for s in self._sessions if not s.closed), session]
                    return kopf.AiohttpSession(server=access.server, aiohttp_session=session)
                waited = True
            await asyncio.sleep(backoff.next())

    def _trace(self) -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._answered)
        trace.on_request_exception.append(self._unanswered)
        return trace

    async def _answered(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, end: aiohttp.TraceRequestEndParams
    ) -> None:
        if not end.url.path.endswith(COLLECTION):
            return
        if end.response.status != 200:
            self._tell(self.open.clear)
        else:
            self._tell(self.open.set if "watch" in end.url.query else self._lists)

    async def _unanswered(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, end: aiohttp.TraceRequestExceptionParams
    ) -> None:
        if end.url.path.endswith(COLLECTION):
            self._tell(self.open.clear)


class _NoProgress(kopf.ProgressStorage):
    """No handler of ours has progress to keep."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class _NoDiffBase(kopf.DiffBaseStorage):
    """No handler of ours asks what changed since it last ran."""

    def build(self, *, body: Any, extra_fields: Iterable[Any] | None = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> None:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        return None


class _ToDebug(logging.Handler):
    """kopf tells each attempt as an error; our own requests tell the story once."""

    def emit(self, record: logging.LogRecord) -> None:
        log.debug("kopf: %s", record.getMessage())


def _quieten() -> None:
    kopfs = logging.getLogger("kopf")
    if not any(isinstance(handler, _ToDebug) for handler in kopfs.handlers):
        kopfs.addHandler(_ToDebug())
        kopfs.propagate = False
        kopfs.setLevel(logging.WARNING)


def _log_exception(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    log.debug("kopf's loop: %s: %r", context.get("message"), context.get("exception"))
