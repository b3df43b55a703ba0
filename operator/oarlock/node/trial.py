"""The node's trial: one empty container made and removed as an object's is, since a `--version` proves little.

conmon, the trusted runtime, the cgroup manager and the state disk take part; nothing is ever started. All of it lies in
two folders and under one id, so that the next trial, or the next operator, finds what one that was killed has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from oarlock.api.identity import TRIAL
from oarlock.api.spec import Spec
from oarlock.bundle import make as bundle
from oarlock.bundle.tree import Tree
from oarlock.cgroups.hierarchy import hierarchy
from oarlock.cgroups.manager import manager
from oarlock.errors import NodeFull, OarlockError, RuntimeTimeout
from oarlock.linux import mount
from oarlock.linux.removal import remove_tree
from oarlock.node.checked import checked_node
from oarlock.node.configuration import Configuration
from oarlock.node.doctor import Check, fail, ok, warn
from oarlock.node.presence import find_operator
from oarlock.node.settings import monitor_settings
from oarlock.runtime.container import Container
from oarlock.runtime.monitor import TESTED
from oarlock.runtime.runtime import Runtime

logger = logging.getLogger(__name__)

NAME = "create"
"""What doctor calls this check."""
FOLDER = "trial"
"""In the run and in the state directory."""

_TIMELY, _CREATE, _ANSWER, _CLEARED = 8.0, 5.0, 3.0, 2.0
"""Seconds for all of it, for create, for each other call of the runtime, and then to end what is left."""
_TURN = 5.0
"""Seconds to wait for a trial that somebody else has under way."""
_PROGRAM = "program"
_SPEC = {"nodeName": "trial", "rootfs": {"path": "/trial"}, "command": [f"/{_PROGRAM}"]}
"""The least that a spec has; the root filesystem is the one that is made for it."""


class Trial:
    """A node's trial. `run` blocks its thread; `cancel` comes from another one."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._canceled = self._under_way = False
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    def run(self) -> Check:
        """Make and remove the container; whatever comes of it, nothing of it is left."""
        configuration = self._configuration
        try:
            configuration = checked_node(configuration)
            with _alone(configuration, _TURN) as alone:
                self._under_way = alone
                if not alone:
                    return warn(NAME, "not tried: another trial is under way", "try again")
                asyncio.run(self._do(_Bench(configuration)))
        except asyncio.CancelledError:
            return warn(NAME, "not tried: the operator ends", "try again")
        except NodeFull as error:
            return warn(NAME, f"not tried: {error}", "make room")
        except (OarlockError, OSError) as error:
            if _is_full(error):
                return warn(NAME, f"not tried: {_told(error)}", "make room")
            return fail(NAME, f"no container can be made: {_told(error)}", _way_out(error, configuration))
        finally:
            self._under_way = False
        programs = f"{configuration.conmon.name} and {configuration.runtime_trusted.name}"
        return ok(NAME, f"{programs} made and removed a container")

    def cancel(self) -> bool:
        """Give it up; False when none is under way. What there is of it is removed, and then `run` ends."""
        self._canceled = True
        if self._task is not None:
            loop, task = self._task
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)
        return self._under_way

    async def _do(self, bench: _Bench) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = asyncio.get_running_loop(), task
        if self._canceled:
            raise asyncio.CancelledError
        try:
            async with _within(_TIMELY, "it is not done"):
                await bench.clear()
                await bench.use()
        except BaseException:
            self._task = None
            with contextlib.suppress(OarlockError, OSError):  # why it failed says more; the next one tries again
                await bench.clear(by_runtime=False)
            raise
        else:
            self._task = None
            await bench.clear(by_runtime=False)
        finally:
            await bench.close()


def clear_left(configuration: Configuration) -> None:
    """Clear what a trial that was killed has left, in a thread of its own; nothing when there is nothing.

    Called with a running loop: asyncio's child watcher works in other threads as long as one runs in the main thread.
    """
    if any((each / FOLDER).exists() for each in (configuration.run_dir, configuration.state_dir)):
        threading.Thread(target=_clear_left, args=(configuration,), name="trial", daemon=True).start()


def _clear_left(configuration: Configuration) -> None:
    try:
        with _alone(configuration, 0.0) as alone:
            if alone:  # else a trial is under way now, which clears it itself
                asyncio.run(_cleared(_Bench(configuration)))
                logger.info("what a trial of the node had left is removed")
    except (OarlockError, OSError) as error:
        logger.warning("what a trial of the node has left is not removed: %s; the next trial tries again", error)


async def _cleared(bench: _Bench) -> None:
    try:
        await bench.clear()
    finally:
        await bench.close()


class _Bench:
    """Where the trial is made: the node's own parts, with folders of the trial's own."""

    def __init__(self, configuration: Configuration) -> None:
        self._run, self._state = configuration.run_dir / FOLDER, configuration.state_dir / FOLDER
        self._layers, self._bundles = self._state / "layers", self._run / "bundles"
        settings = monitor_settings(configuration)
        self._settings = dataclasses.replace(
            settings,
            runtime_root=self._run / "runtime",
            exits=self._run / "exits",
            sockets=self._run / "sockets",
            runtime_timeout=min(_ANSWER, settings.runtime_timeout),
        )
        self._cgroups = manager(configuration.manager, configuration.parent)
        self._runtime = Runtime(
            self._settings, self._cgroups, create_timeout=min(_CREATE, configuration.create_timeout)
        )
        self._container = Container(
            id=TRIAL,
            runtime=configuration.runtime_trusted,
            bundle=self._bundles / TRIAL,
            log=self._run / "log",
            place=self._cgroups.place(TRIAL),
        )

    async def use(self) -> None:
        """Make the container, and remove it.

        Raises:
            OarlockError, OSError: one of the two cannot be done.
        """
        self._state.mkdir(mode=0o700, parents=True)
        root = self._state / "rootfs"
        root.mkdir(mode=0o755)
        (root / _PROGRAM).touch(mode=0o755)
        for folder in (self._settings.runtime_root, self._settings.exits, self._settings.sockets, self._bundles):
            folder.mkdir(mode=0o700)
        mount.mount_private(self._bundles)
        live = await self._runtime.create(self._container, lambda: self._make(root))
        live.close()
        await self._runtime.destroy(self._container)

    def _make(self, root: Path) -> None:
        bundle.make(
            Spec.model_validate(_SPEC),
            Tree(root.resolve(), (b"", b"")),
            hostname=TRIAL,
            cgroup_path=self._container.place.oci,
            attempt_dir=self._layers,
            bundle_dir=self._container.bundle,
        )

    async def clear(self, *, by_runtime: bool = True) -> None:
        """End and remove all there is of a trial, of an earlier process too.

        Args:
            by_runtime: have the runtime delete what it knows. It need not: what it knows is a folder here.

        Raises:
            OarlockError, OSError: something does not end, or cannot be removed.
        """
        try:
            if by_runtime:
                with contextlib.suppress(OarlockError, OSError):
                    await self._runtime.end_commands()
                    await self._runtime.destroy(self._container)
            remove_tree(self._settings.runtime_root)
            async with _within(_CLEARED, "what is left of it does not end"):
                await self._runtime.destroy(self._container)
        finally:
            bundle.remove(self._layers, self._container.bundle)
            mount.unmount(self._bundles)
            remove_tree(self._state)
            for entry in self._run.iterdir():
                remove_tree(entry)

    async def close(self) -> None:
        """Let go of the cgroup manager."""
        await self._cgroups.close()


@contextlib.asynccontextmanager
async def _within(seconds: float, failing: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        if error.errno is not None:  # somebody else's
            raise
        raise TimeoutError(errno.ETIMEDOUT, f"{failing} within {seconds:g} s") from None


@contextlib.contextmanager
def _alone(configuration: Configuration, patience: float) -> Iterator[bool]:
    """Whether this is the node's only trial, for as long as it lasts; at the end its folder is gone, and all that had
    to be made for it."""
    folder = configuration.run_dir / FOLDER
    with contextlib.ExitStack() as undo:
        made = _locked(folder, configuration.state_dir, patience, undo)
        if made is None:
            yield False
            return
        undo.callback(_unmake, configuration, [folder, *made], _missing_cgroup(configuration))
        yield True


def _locked(folder: Path, state: Path, patience: float, undo: contextlib.ExitStack) -> list[Path] | None:
    """Make the folder and lock it, until `undo`: what was missing of it and of `state`; None when it is not to be had.

    Whoever had it before removes it, and what had to be made for it.
    """
    end = time.monotonic() + patience
    while True:
        missing = [*_missing(folder.parent), *_missing(state)]
        with contextlib.ExitStack() as held, contextlib.suppress(BlockingIOError, FileNotFoundError):
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                undo.push(held.pop_all())
                return missing
        if time.monotonic() >= end:
            return None
        time.sleep(0.02)


def _missing(folder: Path) -> list[Path]:
    """This folder and those above it, as far as they are not there; the deepest first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _missing_cgroup(configuration: Configuration) -> str | None:
    """The topmost cgroup that has to be made for the containers' parent; under systemd that is not ours to remove."""
    above, names = "", [] if configuration.manager == "systemd" else configuration.parent.strip("/").split("/")
    for name in names:
        if name not in hierarchy().children(above or "/"):
            return f"{above}/{name}"
        above = f"{above}/{name}"
    return None


def _unmake(configuration: Configuration, folders: list[Path], cgroup: str | None) -> None:
    """Remove what was not there before, unless an operator has begun to use it."""
    if cgroup is not None and not find_operator(configuration.lock_file).running:
        hierarchy().remove(cgroup)
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty: somebody has put something into it
            folder.rmdir()


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _told(error: Exception) -> str:
    """What an error says, in one sentence and without a way out that is none for a trial."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, RuntimeTimeout):
        return str(error).partition("; ")[0]
    return str(error).removesuffix(TESTED)


def _way_out(error: Exception, configuration: Configuration) -> str:
    if isinstance(error, (RuntimeTimeout, TimeoutError)):
        return "see what conmon, the runtime or the cgroup manager waits for"
    if isinstance(error, OSError) and configuration.manager == "systemd":
        return "see that systemd answers on D-Bus, or give --cgroup-manager cgroupfs"
    return "put it right, or name other programs with --conmon and --runtime-trusted"
