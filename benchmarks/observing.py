"""The outsiders: somebody who watches the records' folder, somebody who watches the API, somebody who writes to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from oarlock.linux.inotify import Inotify, Mask
from tests.cluster.control_plane import ControlPlane

COLLECTION = "/apis/oarlock.dev/v1alpha1/namespaces/default/containerspecs"
DEADLINE = 60.0

Record = Mapping[str, Any]
Status = Mapping[str, Any]


class RecordWatch:
    """Sees each record when it is renamed into its place, and when it is removed."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._inotify = Inotify()
        self._inotify.add(records, Mask.MOVED_TO | Mask.DELETE)

    def close(self) -> None:
        self._inotify.close()

    def wait(self, name: str, until: Callable[[Record], bool]) -> float:
        """When there was first a record of this object for which `until` holds."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            events = self._inotify.wait(end - time.monotonic())
            seen = time.monotonic()
            for path in {self._records / event.name for event in events}:
                try:
                    record = json.loads(path.read_bytes())
                except FileNotFoundError:
                    continue
                if record["name"] == name and until(record):
                    return seen
        raise AssertionError(f"record of {name}: not within {DEADLINE:g} s")

    def wait_removed(self, uid: str) -> float:
        """When the record of the object with this uid was removed."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            events = self._inotify.wait(end - time.monotonic())
            if any(event.name == f"{uid}.json" and event.mask & Mask.DELETE for event in events):
                return time.monotonic()
        raise AssertionError(f"record of {uid}: still there after {DEADLINE:g} s")


class Api:
    """One kept connection to the API server, with the administrator's token."""

    def __init__(self, cluster: ControlPlane) -> None:
        tls = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._connection = http.client.HTTPSConnection("127.0.0.1", cluster.port, context=tls, timeout=DEADLINE * 2)
        self._headers = {"Authorization": f"Bearer {cluster.tokens['admin']}", "Content-Type": "application/json"}
        self._connection.connect()

    def close(self) -> None:
        """Close the connection; a thread that reads from it comes to its end."""
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def open(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        """The answer, which is to be read by the caller.

        Raises:
            AssertionError: it is no success.
        """
        self._connection.request(method, path, body=body, headers=self._headers)
        answer = self._connection.getresponse()
        if answer.status >= 300:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.read(500)!r}")
        return answer

    def create(self, body: bytes) -> None:
        self.open("POST", COLLECTION, body).read()

    def delete(self, name: str) -> None:
        self.open("DELETE", f"{COLLECTION}/{name}").read()


class ApiWatch:
    """Another watcher of the API, in a thread of its own: what it sees of each object, and when."""

    def __init__(self, cluster: ControlPlane) -> None:
        self._api = Api(cluster)
        listed = json.loads(self._api.open("GET", COLLECTION).read())
        self._version = listed["metadata"]["resourceVersion"]
        self._seen: dict[str, list[tuple[float, str, Status]]] = {}
        self._changed = threading.Condition()
        self._ended: str | None = None
        self._thread = threading.Thread(target=self._follow, name="another watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.close()

    def wait(self, name: str, until: Callable[[str, Status], bool]) -> float:
        """When an event was seen for whose type and status `until` holds."""
        found: list[float] = []

        def there() -> bool:
            if self._ended is not None:
                raise AssertionError(f"the watch ended: {self._ended}")
            found[:] = [at for at, kind, status in self._seen.get(name, ()) if until(kind, status)][:1]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(there, DEADLINE):
                last = self._seen.get(name, [(0.0, "nothing", {})])[-1]
                raise AssertionError(f"{name} in the API: not within {DEADLINE:g} s; last seen: {last}")
        return found[0]

    def _follow(self) -> None:
        try:
            path = f"{COLLECTION}?watch=true&resourceVersion={self._version}&timeoutSeconds=3600"
            answer = self._api.open("GET", path)
            while line := answer.readline():
                at = time.monotonic()
                event = json.loads(line)
                obj = event["object"]
                with self._changed:
                    name = obj["metadata"]["name"]
                    self._seen.setdefault(name, []).append((at, event["type"], obj.get("status") or {}))
                    self._changed.notify_all()
            why = "the server closed it"
        except (OSError, ValueError, KeyError, AttributeError, http.client.HTTPException) as error:
            why = repr(error)
        with self._changed:
            self._ended = why
            self._changed.notify_all()
