"""A proxy in front of the API server that misbehaves on demand, and remembers what went through it.

    with FaultyProxy(cluster) as proxy:
        kubeconfig = cluster.kubeconfig("oarlock", url=proxy.url)
        with proxy.answering(503):
            ...

It has a thread and an event loop of its own; every method may be called from any other thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_port

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "host",
    "content-length",
}


@dataclass(frozen=True)
class Passed:
    """One request that came to the proxy; `status` is 0 while there is no answer yet."""

    at: float
    method: str
    path: str
    query: Mapping[str, str]
    user_agent: str
    token: str
    status: int
    body: bytes


@dataclass
class _Fault:
    """Answer requests that match with a status instead of asking the API server; None: never answer."""

    status: int | None
    matches: Callable[[web.Request], bool]
    until: float | None = None
    hits: int = field(default=0)


def failure(status: int, message: str) -> dict[str, Any]:
    """A metav1.Status, as the API server words a failure."""
    reasons = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired", 429: "TooManyRequests"}
    reason = reasons.get(status, "ServiceUnavailable" if status == 503 else "InternalError")
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**head, "message": message, "reason": reason, "code": status}


class FaultyProxy:
    """A TLS proxy on the loopback; clients trust it with the cluster's own `ca_file`."""

    def __init__(self, cluster: ControlPlane) -> None:
        self._cluster = cluster
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.requests: list[Passed] = []
        self._faults: list[_Fault] = []
        # By id: aiohttp's requests and answers are mappings, hence not hashable.
        self._watches: dict[int, web.StreamResponse] = {}
        self._open: dict[int, web.Request] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy", daemon=True)

    # ------------------------------------------------------------ life
    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: Awaitable[None], timeout: float = 20) -> None:
        async def run() -> None:
            await work

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout)

    async def _start(self) -> None:
        trust = ssl.create_default_context(cafile=str(self._cluster.ca_file))
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        self._client = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        identity.load_cert_chain(self._cluster.ca_file, self._cluster.key_file)
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=identity, reuse_address=True)
        await self._site.start()

    async def _stop(self) -> None:
        await self._abort(list(self._open.values()))
        await self._runner.cleanup()
        await self._client.close()

    # ------------------------------------------------------------ faults
    @contextlib.contextmanager
    def answering(
        self,
        status: int | None,
        *,
        seconds: float | None = None,
        method: str | None = None,
        path: str = "",
        watch: bool | None = None,
        token: str | None = None,
    ) -> Iterator[_Fault]:
        """Within the block, answer what matches all that is given with `status` (None: never answer).

        `seconds` ends it earlier; `path` is a regular expression found in the path; `watch` picks watches or
        all else; `token` picks requests that bear it (`answering(401, token=old)` is an expired token).
        The object has `hits`, the number of requests answered so.
        """

        def matches(request: web.Request) -> bool:
            return (
                (method is None or request.method == method)
                and re.search(path, request.path) is not None
                and (watch is None or watch == _is_watch(request))
                and (token is None or _token(request) == token)
            )

        fault = _Fault(status, matches, None if seconds is None else time.monotonic() + seconds)
        self._faults.append(fault)
        try:
            yield fault
        finally:
            self._faults.remove(fault)

    def send_error_event(self, status: int = 500, message: str = "injected") -> int:
        """Put an ERROR event into each open watch, and return into how many."""
        count = len(self._watches)
        line = json.dumps({"type": "ERROR", "object": failure(status, message)}).encode() + b"\n"

        async def send() -> None:
            for stream in list(self._watches.values()):
                await stream.write(line)

        self._call(send())
        return count

    def drop_connections(self) -> None:
        """Cut every request that is open, watches too, without a word."""
        self._call(self._abort_all())

    def close_port(self) -> None:
        """Refuse connections, and cut those that are open, until `open_port`."""

        async def close() -> None:
            await self._site.stop()
            await self._abort_all()

        self._call(close())

    def open_port(self) -> None:
        self._call(self._listen())

    @property
    def open_watches(self) -> int:
        """How many watches are open through the proxy now."""
        return len(self._watches)

    async def _abort_all(self) -> None:
        server = self._runner.server
        connections = list(server.connections) if server is not None else []
        await self._abort(list(self._open.values()))
        for connection in connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _abort(self, requests: list[web.Request]) -> None:
        for request in requests:
            if request.transport is not None:
                request.transport.abort()

    # ------------------------------------------------------------ passing on
    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._open[id(request)] = request
        status = 0
        try:
            answer = await self._injected(request) or await self._pass_on(request, body)
            status = answer.status
            return answer
        finally:
            self._open.pop(id(request), None)
            agent = request.headers.get("User-Agent", "")
            self.requests.append(
                Passed(
                    time.time(),
                    request.method,
                    request.path,
                    dict(request.query),
                    agent,
                    _token(request),
                    status,
                    body,
                )
            )

    async def _injected(self, request: web.Request) -> web.Response | None:
        for fault in list(self._faults):
            if (fault.until is None or time.monotonic() < fault.until) and fault.matches(request):
                fault.hits += 1
                if fault.status is None:
                    await asyncio.get_running_loop().create_future()  # until the connection is cut
                return web.json_response(failure(fault.status or 500, "injected"), status=fault.status or 500)
        return None

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            upstream = await self._client.request(
                request.method, self._cluster.url + request.raw_path, headers=headers, data=body or None
            )
        except aiohttp.ClientConnectionError:
            # As if the API server's own port refused: the client sees its connection end without an answer.
            await self._abort([request])
            return web.Response(status=502)
        async with upstream:
            kept = {name: value for name, value in upstream.headers.items() if name.lower() not in _HOP_BY_HOP}
            stream = web.StreamResponse(status=upstream.status, headers=kept)
            await stream.prepare(request)
            watch = _is_watch(request) and upstream.status == 200
            if watch:
                self._watches[id(stream)] = stream
            try:
                async for part in upstream.content.iter_any():
                    await stream.write(part)
                await stream.write_eof()
            except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
                await self._abort([request])
            finally:
                self._watches.pop(id(stream), None)
            return stream


def _is_watch(request: web.Request) -> bool:
    return request.query.get("watch", "").lower() in {"1", "true"}


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")
