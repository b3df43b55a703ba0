"""The operator's life: take the node, take up what runs, start the sources, leave the containers at the end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oarlock.api.identity import Key
from oarlock.cgroups.manager import manager
from oarlock.errors import AlreadyRunning, ConfigurationError, ForeignRecord, OarlockError
from oarlock.linux import mount
from oarlock.linux.files import write_atomic
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.linux.process import Endings, boot_id
from oarlock.network import loopback
from oarlock.node.configuration import Configuration
from oarlock.node.logging import set_up
from oarlock.node.readiness import Readiness
from oarlock.node.rotation import LogKeeper
from oarlock.node.settings import monitor_settings
from oarlock.node.values import TrustLevel
from oarlock.reconcile.backoff import BackOff
from oarlock.reconcile.engine import Engine
from oarlock.reconcile.node import Node, Policy
from oarlock.reconcile.ports import EventKind
from oarlock.records.model import FORMAT
from oarlock.records.store import Store
from oarlock.runtime.oom import OomWatch
from oarlock.runtime.runtime import Runtime
from oarlock.sources.manifests.source import ManifestSource

logger = logging.getLogger(__name__)
_EXITS_SIZE = 4 << 20
_MEETING = Path("/run/oarlock")
"""Where operators meet that would give their containers the same cgroups, whatever their own directories."""


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
    with _taken(configuration):
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
    await _watch_readiness(configuration, group, node, engine)


async def _watch_readiness(configuration: Configuration, group: asyncio.TaskGroup, node: Node, engine: Engine) -> None:
    """Look at the node for its Node object, and for whoever asks for its health; not at all for nobody."""
    sources: dict[str, Any] = {name: each for name, each in node.reporters.items() if not isinstance(each, Away)}
    shown = "kubernetes" in sources and configuration.node_conditions
    if not shown and not configuration.health_address:
        return
    readiness = Readiness(configuration)
    node.troubled.append(readiness.doubt)
    if shown:
        readiness.listeners.append(sources["kubernetes"].show_node)
    if configuration.health_address:
        from oarlock.node.health import Health

        health = Health(configuration, readiness, engine, {name: each.state for name, each in sources.items()})
        await health.listen()
        group.create_task(health.run())
    readiness.doubt()


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


@contextlib.contextmanager
def _taken(configuration: Configuration) -> Iterator[None]:
    """The node's directories, made and locked against a second operator, and with them the containers' cgroups.

    Raises:
        AlreadyRunning: another operator has one of them; names its pid.
        ForeignRecord: the state directory is another node's.
    """
    state, run = configuration.state_dir, configuration.run_dir
    for folder in (state, run, _MEETING):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    cgroups = hashlib.sha256(f"{configuration.parent} {configuration.node_name}".encode()).hexdigest()[:16]
    with (
        _locked(f"--run-dir {run}", configuration.lock_file, configuration),
        _locked(f"--state-dir {state}", state / "lock", configuration),
        _locked(f"--cgroup-parent {configuration.parent}", _MEETING / f"cgroups-{cgroups}.lock", configuration),
    ):
        _prepare(configuration)
        yield


@contextlib.contextmanager
def _locked(what: str, path: Path, configuration: Configuration) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"{what}: {_holder(lock)}") from None
        told = {
            "pid": os.getpid(),
            "nodeName": configuration.node_name,
            "stateDir": str(configuration.state_dir),
        }
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(told).encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder(lock: int) -> str:
    with contextlib.suppress(ValueError):
        told = json.loads(os.pread(lock, 4096, 0))
        return (
            f"oarlock with pid {told['pid']} (node {told['nodeName']}) already runs there; "
            "stop it first, or give another --run-dir, --state-dir and --cgroup-parent"
        )
    return "another oarlock already runs there; stop it first"


def _prepare(configuration: Configuration) -> None:
    """Make the folders, and prove that they are this node's."""
    for folder in (
        configuration.records_dir,
        configuration.overrides_dir,
        configuration.containers_dir,
        configuration.runtime_root,
        configuration.exits_dir,
        configuration.bundles_dir,
        configuration.sockets_dir,
    ):
        folder.mkdir(mode=0o700, exist_ok=True)
    _check_node(configuration.node_file, configuration.node_name)
    try:
        if not mount.is_mounted(configuration.exits_dir):
            mount.mount_tmpfs(configuration.exits_dir, _EXITS_SIZE, 0o700)
        if not mount.is_mounted(configuration.bundles_dir):
            mount.mount_private(configuration.bundles_dir)
    except OSError as error:
        raise ConfigurationError(
            f"--run-dir {configuration.run_dir}: cannot mount there: {error}; run as root"
        ) from error


def _check_node(path: Path, name: str) -> None:
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        write_atomic(path, json.dumps({"format": FORMAT, "nodeName": name}).encode(), durable=True)
        return
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ForeignRecord(f"{path}: does not say whose state this is; when it is {name!r}'s, remove the file")
    if told.get("nodeName") != name or told.get("format", 0) > FORMAT:
        raise ForeignRecord(
            f"{path}: belongs to node {told.get('nodeName')!r}, format {told.get('format')}; this is {name!r}, "
            f"format {FORMAT}: start with the right --node-name, or with another --state-dir"
        )


def _raise_descriptor_limit() -> None:
    """Three descriptors a container: the soft limit of 1024 is soon reached."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
