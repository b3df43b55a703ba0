"""The node's health over HTTP: `/healthz` (the operator lives) and `/readyz` (containers can run here).

Nothing secret is told, but it is told to everybody who can connect: listen on the loopback, or on a socket's path.
Imported only where an address is configured: it brings aiohttp's server along.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from oarlock.api.identity import KUBERNETES, MANIFESTS
from oarlock.cgroups.hierarchy import hierarchy
from oarlock.errors import ConfigurationError
from oarlock.node.configuration import Configuration
from oarlock.node.readiness import Readiness
from oarlock.reconcile.engine import Engine

logger = logging.getLogger(__name__)
_SHUTDOWN = 0.5
"""Seconds that a request under way has when the operator ends."""

Sources = Mapping[str, Callable[[], Mapping[str, Any]]]
"""By name: what a source says of itself."""


class Health:
    """Serves both pages on `health_address`."""

    def __init__(self, configuration: Configuration, readiness: Readiness, engine: Engine, sources: Sources) -> None:
        self._configuration, self._readiness = configuration, readiness
        self._engine, self._sources = engine, sources
        application = web.Application()
        application.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN)

    async def listen(self) -> None:
        """Begin to listen.

        Raises:
            ConfigurationError: the address cannot be had.
        """
        address = self._configuration.health_address
        await self._runner.setup()
        try:
            await self._site(address).start()
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigurationError(f"--health-address {address}: {reason}; give another address") from None
        logger.info("health is told on %s", address)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._runner.cleanup()

    def _site(self, address: str) -> web.BaseSite:
        if address.startswith("unix:"):
            return web.UnixSite(self._runner, address.removeprefix("unix:"))
        host, _, port = address.rpartition(":")
        return web.TCPSite(self._runner, host.strip("[]") or None, int(port))

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        look = await self._readiness.look()
        told = {
            "node": self._configuration.node_name,
            "ready": look.ready,
            "lookedAt": look.at,
            "conditions": look.conditions,
            "versions": look.versions,
            "kernel": os.uname().release,
            "cgroups": {"version": hierarchy().VERSION, "manager": self._configuration.manager},
            "containers": self._phases(),
            "sources": {name: tell() for name, tell in self._sources.items()},
        }
        text = json.dumps(told, indent=2) + "\n"
        return web.Response(status=200 if look.ready else 503, text=text, content_type="application/json")

    def _phases(self) -> dict[str, int]:
        """How many containers are in each phase."""
        records = [*self._engine.known(MANIFESTS).values(), *self._engine.known(KUBERNETES).values()]
        return dict(Counter(str(record.status["phase"]) for record in records if record.status))
