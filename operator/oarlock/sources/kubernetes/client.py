"""Single requests for the command line: `oarlock stop`, `start`, `restart`, `delete`, `doctor`.

`configuration` is anything with `kubeconfig` (a path or None) and `in_cluster`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from oarlock.errors import ObjectGone, SourceUnavailable
from oarlock.sources.kubernetes import addresses
from oarlock.sources.kubernetes.apiserver import MERGE_PATCH, Answer, ApiServer
from oarlock.sources.kubernetes.credentials import Place


class Configured(Protocol):
    """Where the API server is configured."""

    @property
    def kubeconfig(self) -> Path | None: ...

    @property
    def in_cluster(self) -> bool: ...


async def patch_object(configuration: Configured, namespace: str, name: str, uid: str, change: dict[str, Any]) -> None:
    """Merge a change (RFC 7386) into the object of that very uid.

    Raises:
        ObjectGone: it does not exist, or another object has its name.
        SourceUnavailable: no answer, or the API server refuses; the message says why.
    """
    body = change | {"metadata": change.get("metadata", {}) | {"uid": uid}}
    path = addresses.path(namespace, name)
    async with _server(configuration) as api:
        answer = await api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:  # a uid that differs is refused as a change of it
            now = await api.request("GET", path)
            if now.ok and now.document()["metadata"]["uid"] != uid:
                raise ObjectGone(f"{namespace}/{name} was deleted and made again: look at the new one first")
    _check(answer, f"{namespace}/{name}", name)


async def delete_object(
    configuration: Configured, namespace: str, name: str, uid: str, grace_seconds: int | None = None
) -> None:
    """Delete the object of that very uid; the operator then stops its container.

    Raises:
        ObjectGone: it does not exist, or another object has its name.
        SourceUnavailable: no answer, or the API server refuses; the message says why.
    """
    options: dict[str, Any] = {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": uid},
    }
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    async with _server(configuration) as api:
        answer = await api.request("DELETE", addresses.path(namespace, name), body=options)
    if answer.status == HTTPStatus.CONFLICT:
        raise ObjectGone(f"{namespace}/{name} was deleted and made again: look at the new one first")
    _check(answer, f"{namespace}/{name}", name)


async def server_version(configuration: Configured) -> str:
    """The API server's version, as `v1.37.2`.

    Raises:
        SourceUnavailable: it does not answer, or refuses.
    """
    async with _server(configuration) as api:
        answer = await api.request("GET", "/version")
    if not answer.ok:
        raise SourceUnavailable(f"the API server answers {answer}")
    return str(answer.document().get("gitVersion") or "of an unknown version")


@asynccontextmanager
async def _server(configuration: Configured) -> AsyncIterator[ApiServer]:
    api = ApiServer(Place(configuration.kubeconfig, configuration.in_cluster), quiet=True)
    try:
        yield api
    finally:
        await api.close()


def _check(answer: Answer, what: str, name: str) -> None:
    if answer.not_found(name):
        raise ObjectGone(f"{what} does not exist any more")
    if not answer.ok:
        raise SourceUnavailable(f"{what}: the API server refuses: {answer}")
