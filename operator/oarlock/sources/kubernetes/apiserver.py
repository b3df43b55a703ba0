"""Requests to the API server: one pool of connections, credentials that renew themselves, one story to tell.

A request either has an answer, whatever its code, or raises `SourceUnavailable`. Whether and when it is
repeated is the caller's business, except for what cannot hurt: a connection that was closed under the
request, and an answer 401 when the credentials have changed meanwhile, are tried again at once. (Each of our
writes is a JSON patch that tests what it changes, so sending one twice does nothing twice.)
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from oarlock.errors import SourceUnavailable
from oarlock.sources.kubernetes.credentials import Access, Place

log = logging.getLogger("oarlock.sources.kubernetes")

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
_USER = re.compile(r"://[^/@\s]+@")
"""User and password in an address, as a proxy's may have."""
TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)

_AWAY = frozenset({401, 429, 502, 503, 504})
"""Codes that say something about the server or about us, and nothing about the object asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said to one request."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def away(self) -> bool:
        """It says nothing about the object: try again later, anything."""
        return self.status in _AWAY

    def document(self) -> dict[str, Any]:
        """The body as JSON object; an empty one where it is none (`404 page not found`)."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def not_found(self, name: str) -> bool:
        """Whether the object itself does not exist; a resource that is not served says 404 without a name."""
        document = self.document()
        return (
            self.status == HTTPStatus.NOT_FOUND
            and document.get("reason") == "NotFound"
            and (document.get("details") or {}).get("name") == name
        )

    def __str__(self) -> str:
        message = str(self.document().get("message") or self.body[:200].decode(errors="replace")).strip()
        return f"{self.status} {message}".strip()


class ApiServer:
    """The API server as one node's operator sees it. Belongs to the loop it is first used in.

    When `quiet`, it does not log its absences: the caller shows the error.

    Attributes:
        answers: whether it answered the latest request (None before the first).
    """

    def __init__(self, place: Place, *, quiet: bool = False) -> None:
        self.place = place
        self._level = logging.DEBUG if quiet else logging.WARNING
        self.answers: bool | None = None
        self._access: Access | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loading = asyncio.Lock()
        self._back = asyncio.Event()
        self._away_since = 0.0

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> Answer:
        """Send one request and read its answer, whatever code it has.

        Raises:
            SourceUnavailable: no answer, or no usable credentials; the message names the server.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Accept": "application/json", **({} if data is None else {"Content-Type": content_type})}
        again = True
        while True:
            try:
                access, session = await self._connection()
                async with session.request(
                    method,
                    access.server + path,
                    params=query,
                    data=data,
                    headers={**headers, **await access.authorization()},
                    timeout=timeout,
                ) as response:
                    answer = Answer(response.status, await response.read())
                if answer.ok and response.content_type != "application/json":
                    raise SourceUnavailable(
                        f"{access.server} answers with {response.content_type}, as no API server does; "
                        "see what stands between"
                    )
            except SourceUnavailable as error:
                self._failed(str(error))
                raise
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if again and _closed_under_us(error):
                    again = False
                    continue
                problem = f"{access.server} does not answer: {_words(error)}"
                await self._renew(access)
                self._failed(problem)
                raise SourceUnavailable(f"the API server {problem}") from None
            if answer.status == HTTPStatus.UNAUTHORIZED and await self._renew(access) and again:
                again = False
                continue
            if answer.away:
                self._failed(f"{access.server} answers {answer}")
            else:
                self._succeeded(access)
            return answer

    async def pause(self, seconds: float) -> None:
        """Wait that long, or less: until the API server answers again after it was away."""
        self._back.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._back.wait()
        except TimeoutError:
            pass

    # ------------------------------------------------------------ credentials
    async def _connection(self) -> tuple[Access, aiohttp.ClientSession]:
        if self._access is None or self._session is None:
            async with self._loading:
                if self._access is None:
                    self._access = await self.place.load()
                if self._session is None:
                    self._session = self._access.session()
        return self._access, self._session

    async def _renew(self, used: Access) -> bool:
        """Read the credentials again after they, or the address, failed; whether they are new ones."""
        async with self._loading:
            if self._access is not used:
                return True
            try:
                fresh = await self.place.load()
                before, after = await used.authorization(), await fresh.authorization()
            except SourceUnavailable as error:
                log.debug("%s; going on with what was read before", error)
                return False
            if not fresh.same_connection(used):
                await self.close()
            elif before == after:
                return False
            self._access = fresh
            return True

    # ------------------------------------------------------------ the story
    def _failed(self, problem: str) -> None:
        if self.answers is not False:
            self._away_since = asyncio.get_running_loop().time()
            log.log(self._level, "API server away: %s; containers go on, it is tried again", problem)
        self.answers = False

    def _succeeded(self, access: Access) -> None:
        if self.answers:
            return
        if self.answers is False:
            seconds = asyncio.get_running_loop().time() - self._away_since
            log.info("API server %s answers again after %.1f s", access.server, seconds)
        self.answers = True
        self._back.set()


def _closed_under_us(error: Exception) -> bool:
    """A kept connection that the server had closed: the request was not, or only perhaps, received."""
    connecting = aiohttp.ClientConnectorError
    return isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) and not isinstance(
        error, connecting
    )


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error.strerror or error.os_error)
    return _USER.sub("://", str(error)) or type(error).__name__
