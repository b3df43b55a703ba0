"""The operator's life: take the node, take up what runs, start the sources, leave the containers at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oarlock.api.identity import Key
from oarlock.cgroups.manager import manager
from oarlock.errors import OarlockError
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.linux.process import Endings
from oarlock.linux.procfs import boot_id
from oarlock.network import loopback
from oarlock.node import checks_parts, trial
from oarlock.node.configuration import Configuration
from oarlock.node.doctor import Verdict
from oarlock.node.logging import set_up
from oarlock.node.readiness import Readiness
from oarlock.node.rotation import LogKeeper
from oarlock.node.settings import monitor_settings
from oarlock.node.taking import taken
from oarlock.node.values import TrustLevel
from oarlock.reconcile.backoff import BackOff
from oarlock.reconcile.engine import Engine
from oarlock.reconcile.node import Node, Policy
from oarlock.reconcile.ports import EventKind
from oarlock.records.store import Store
from oarlock.runtime.oom import OomWatch
from oarlock.runtime.runtime import Runtime
from oarlock.sources.manifests.source import ManifestSource

if TYPE_CHECKING:
    from oarlock.node.health import Health

logger = logging.getLogger(__name__)


def run(configuration: Configuration) -> int:
    """Run the operator until SIGTERM or SIGINT; its containers go on. Returns the exit code.

    Raises:
        ConfigurationError: it cannot start; nothing was touched.
    """
    configuration = configuration.checked()
    set_up(configuration.log_level, configuration.log_format)
    _raise_descriptor_limit()
    if sys.version_info < (3, 12):
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    os.umask(0o077)
    loopback.load()
    with taken(configuration):
        for check in checks_parts.disks(configuration):
            if check.verdict is Verdict.FAIL:
                logger.warning("%s: %s; %s", check.name, check.message, check.way_out)
        asyncio.run(_serve(configuration))
    return 0


async def _serve(configuration: Configuration) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        with contextlib.ExitStack() as held:
            async with asyncio.TaskGroup() as group:
                await _start(configuration, group, held)
                logger.info("node %s is ready", configuration.node_name)
                await stop.wait()
                logger.info("stopping; the containers go on")
                raise _Stopped
    except BaseExceptionGroup as ends:
        _, others = ends.split(_Stopped)
        if others is not None:
            told = others.subgroup(OarlockError)
            raise (told.exceptions[0] if told is not None else others) from None


class _Stopped(Exception):
    """The normal end: it cancels every task of the group."""


async def _start(configuration: Configuration, group: asyncio.TaskGroup, held: contextlib.ExitStack) -> None:
    endings = Endings()
    endings.attach(asyncio.get_running_loop())
    ooms = OomWatch()
    ooms.attach(asyncio.get_running_loop())
    reporters: dict[str, Any] = {}
    node = _node(configuration, endings, ooms, reporters)
    engine = Engine(node, configuration.overrides_dir, group)
    manifests = ManifestSource(
        configuration.manifests,
        configuration.node_name,
        engine,
        configuration.problems_file,
        known=lambda: engine.known("manifests"),
    )
    reporters["manifests"] = manifests
    if configuration.uses_kubernetes:
        from oarlock.sources.kubernetes.source import KubernetesSource

        reporters["kubernetes"] = KubernetesSource(
            configuration.node_name,
            configuration.kubeconfig,
            configuration.in_cluster,
            engine,
            known=lambda: set(engine.known("kubernetes")),
        )
    else:
        reporters["kubernetes"] = Away()
    trial.clear_left(configuration)
    readiness = Readiness(configuration)
    held.callback(readiness.close)
    health = await _listening(configuration, readiness, engine, reporters)
    await engine.load()
    inotify = held.enter_context(Inotify())
    inotify.add(configuration.overrides_dir, Mask.MOVED_TO | Mask.DELETE)
    inotify.attach(asyncio.get_running_loop(), lambda events: _overridden(engine, events))
    logs = held.enter_context(LogKeeper(engine))
    logs.attach(asyncio.get_running_loop())
    node.log_watchers.append(logs.watch)
    logs.watch_all()
    group.create_task(manifests.run())
    if configuration.uses_kubernetes:
        engine.report_all("kubernetes")
        group.create_task(reporters["kubernetes"].run())
    if health is not None:
        group.create_task(health.run())
    _watch_readiness(configuration, readiness, node, told=health is not None)


async def _listening(
    configuration: Configuration, readiness: Readiness, engine: Engine, reporters: dict[str, Any]
) -> Health | None:
    """The pages on the node's health, where an address is configured; it is had before anything is touched."""
    if not configuration.health_address:
        return None
    from oarlock.node.health import Health

    health = Health(configuration, readiness, engine, {name: each.state for name, each in _sources(reporters).items()})
    await health.listen()
    return health


def _watch_readiness(configuration: Configuration, readiness: Readiness, node: Node, *, told: bool) -> None:
    """Look at the node for its Node object, and for whoever asks for its health; not at all for nobody."""
    sources = _sources(node.reporters)
    shown = "kubernetes" in sources and configuration.node_conditions
    if not shown and not told:
        return
    node.troubled.append(readiness.doubt)
    if shown:
        readiness.listeners.append(sources["kubernetes"].show_node)
    readiness.doubt()


def _sources(reporters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in reporters.items() if not isinstance(each, Away)}


class Away:
    """The reporter of API objects while no API is configured: they go on from their records."""

    def report(self, key: object, status: object) -> None:
        """Nobody to tell."""

    def event(self, key: Key, kind: EventKind, reason: str, message: str) -> None:
        """Told in the operator's log."""
        logger.log(logging.WARNING if kind == "Warning" else logging.INFO, "%s: %s: %s", key, reason, message)

    async def hold(self, key: object) -> None:
        """Never acknowledged."""
        await asyncio.Event().wait()

    async def release(self, key: object) -> None:
        """Never acknowledged: the record stays until there is an API again."""
        await asyncio.Event().wait()


def _overridden(engine: Engine, events: list[Event]) -> None:
    for event in events:
        if event.name.endswith(".json") and not event.name.startswith("."):
            engine.override(event.name.removesuffix(".json"))


def _node(configuration: Configuration, endings: Endings, ooms: OomWatch, reporters: dict[str, Any]) -> Node:
    policy = Policy(
        runtime_trusted=configuration.runtime_trusted,
        runtime_untrusted=configuration.runtime_untrusted,
        handlers=configuration.handlers,
        default_trusted=configuration.default_trust_level is TrustLevel.TRUSTED,
        allow_privileged=configuration.allow_privileged,
        allow_untrusted_privileged=configuration.allow_untrusted_privileged,
        allow_host_network=configuration.allow_host_network,
        allow_host_pid=configuration.allow_host_pid,
        allowed_rootfs=configuration.allowed_rootfs,
        forbidden=(configuration.state_dir, configuration.run_dir),
        backoff=BackOff(configuration.backoff_initial, configuration.backoff_max, configuration.backoff_reset),
        log_max_size=configuration.log_max_size,
        log_max_files=configuration.log_max_files,
        log_compress=configuration.log_compress,
    )
    cgroups = manager(configuration.manager, configuration.parent)
    return Node(
        name=configuration.node_name,
        boot=boot_id(),
        containers=configuration.containers_dir,
        bundles=configuration.bundles_dir,
        runtime=Runtime(monitor_settings(configuration), cgroups, create_timeout=configuration.create_timeout),
        store=Store(configuration.records_dir, configuration.node_name),
        endings=endings,
        ooms=ooms,
        policy=policy,
        reporters=reporters,
        creates=asyncio.Semaphore(configuration.max_parallel_creates),
    )


def _raise_descriptor_limit() -> None:
    """Three descriptors a container: the soft limit of 1024 is soon reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
