"""What the tests of a whole operator share."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.serving import RBAC, Served, serve
from tests.cluster.source import Objects
from tests.node_dirs import NodeDirs
from tests.operating import census, eventually


@pytest.fixture
def served(cluster: ControlPlane, node_dirs: NodeDirs) -> Iterator[Served]:
    """A running operator; at the end its objects are deleted and gone, and so are their containers."""
    served = serve(cluster, node_dirs)
    try:
        yield served
        cluster.kubectl("delete", "cspec", "--all", "--timeout=60s")
        eventually(lambda: not served.node.records(), "every record is gone")
        assert census(node_dirs) == {kind: set() for kind in census(node_dirs)}
        assert served.node.process is not None
        assert served.node.process.poll() is None, served.node.log()
    finally:
        served.node.kill()


@pytest.fixture(scope="module")
def least(cluster: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster, with the user `oarlock` bound to the least rights that the operator needs."""
    cluster.kubectl("apply", "-f", "-", input=RBAC)
    yield cluster
    cluster.kubectl("delete", "-f", "-", input=RBAC)


@pytest.fixture
async def objects(least: ControlPlane) -> AsyncIterator[Objects]:
    headers = {"Authorization": f"Bearer {least.tokens['admin']}"}
    trust = ssl.create_default_context(cafile=str(least.ca_file))
    connector = aiohttp.TCPConnector(ssl=trust, limit=32)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        made = Objects(least, session)
        await _clear(made)
        yield made
        await _clear(made)


async def _clear(objects: Objects) -> None:
    """Delete all objects, also those of a test that failed; with an API server that this one may have stopped."""
    if not objects.cluster.ready():
        await asyncio.to_thread(objects.cluster.restart_api)
    await objects.clear()
