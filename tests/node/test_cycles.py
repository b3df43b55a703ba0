"""Thousands of containers made, entered and deleted under one operator: nothing grows with their number.

OARLOCK_TEST_CYCLES says how many (default 2000); a slow machine takes fewer. The node lies on a tmpfs: this is not
about the disk, which would take half of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oarlock.api.identity import manifest_uid
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.linux.mount import mount_tmpfs
from oarlock.runtime.execprocess import ExecProcess
from oarlock.runtime.execution import exec_sync
from tests import node_cgroups
from tests.entering import container_of, settings_of
from tests.node_dirs import NodeDirs, mounts_below
from tests.operating import Operator, container, eventually, operating

CYCLES = int(os.environ.get("OARLOCK_TEST_CYCLES", "2000"))
WAVE = 20
"""Objects of one manifest file: made together, and deleted together."""
WAVES_AT_ONCE = 2
MEMORY = 5 << 20
"""Bytes by which the operator may grow."""
DISK = 128 << 20
SETTLED = 30.0
"""Seconds in which what ends by itself has ended: conmon of the last ones, what pid 1 reaps."""
SLOW = 120.0
"""Seconds in which an object takes its next step, whatever the machine."""

Record = dict[str, Any]


class Records:
    """Says when the record of an object is as wanted: told by inotify, since 2,000 objects are too many to poll."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inotify = Inotify()
        self._inotify.add(folder, Mask.MOVED_TO | Mask.DELETE)
        self._waiting: dict[str, tuple[Callable[[Record | None], bool], asyncio.Future[Record | None]]] = {}

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """In the running loop, from here to the end of the block."""
        self._inotify.attach(asyncio.get_running_loop(), self._changed)
        try:
            yield
        finally:
            self._inotify.close()

    async def running(self, name: str) -> Record:
        """The object's record, once its container runs."""
        record = await self._until(name, lambda it: it is not None and it["status"].get("phase") == "Running")
        assert record is not None
        return record

    async def gone(self, name: str) -> None:
        """The object has no record any more."""
        await self._until(name, lambda it: it is None)

    async def _until(self, name: str, wanted: Callable[[Record | None], bool]) -> Record | None:
        file = f"{manifest_uid('node-a', 'default', name)}.json"
        now = self._read(file)
        if wanted(now):
            return now
        future: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self._waiting[file] = wanted, future
        try:
            async with asyncio.timeout(SLOW):
                return await future
        except TimeoutError:
            raise AssertionError(f"{name}: not within {SLOW:g} s; last: {self._read(file)}") from None
        finally:
            del self._waiting[file]

    def _changed(self, events: list[Event]) -> None:
        for file in {event.name for event in events} & self._waiting.keys():
            wanted, future = self._waiting[file]
            record = self._read(file)
            if not future.done() and wanted(record):
                future.set_result(record)

    def _read(self, file: str) -> Record | None:
        try:
            record: Record = json.loads((self._folder / file).read_bytes())
        except FileNotFoundError:
            return None
        return record


async def cycle(node: Operator, rootfs: Path, first: int, last: int) -> None:
    """Objects number `first` to `last`: each is made, runs, is entered once, and is deleted."""
    at_once = asyncio.Semaphore(WAVES_AT_ONCE)
    settings = settings_of(node.dirs)
    records = Records(node.dirs.state / "records")

    async def enter(name: str) -> None:
        call = ExecProcess(args=("echo", name))
        result = await exec_sync(settings, container_of(node.dirs, await records.running(name)), call, SLOW)
        assert (result.exit_code, result.stdout.decode()) == (0, f"{name}\n")

    async def wave(names: list[str]) -> None:
        async with at_once:
            file = f"{names[0]}.yaml"
            node.apply(*[sleeper(name, rootfs) for name in names], file=file)
            await asyncio.gather(*map(enter, names))
            (node.dirs.manifests / file).unlink()
            await asyncio.gather(*map(records.gone, names))

    numbers = range(first, last)
    with records.told():
        async with asyncio.TaskGroup() as group:
            for start in numbers[::WAVE]:
                group.create_task(wave([f"cycle-{number}" for number in numbers if start <= number < start + WAVE]))


def sleeper(name: str, rootfs: Path) -> dict[str, Any]:
    """An object that is ended with KILL at once."""
    return container(name, rootfs, "sleep", "1000000", terminationGracePeriodSeconds=0)


@dataclass(frozen=True)
class Footprint:
    """What there is because of an operator that has no object.

    Attributes:
        places: every file, folder and mount of the node, every cgroup of any hierarchy, every unit of systemd.
        descriptors: the operator's, by what they are; watches: its inotify watches.
        processes: its children, and all others that name the node's folder or are in its cgroups.
    """

    places: frozenset[str]
    descriptors: Counter[str]
    watches: int
    processes: frozenset[str]


def footprint(node: Operator) -> Footprint:
    """The operator's now."""
    assert node.process is not None
    pid, dirs = node.process.pid, node.dirs
    watches = sum(info.read_text().count("inotify wd:") for info in Path(f"/proc/{pid}/fdinfo").iterdir())
    places = {str(path) for path in dirs.root.rglob("*")} | {f"mount {path}" for path in mounts_below(dirs.root)}
    return Footprint(
        frozenset(places | set(map(str, cgroups(dirs))) | units()),
        held(pid),
        watches,
        frozenset(processes(dirs, pid)),
    )


def own() -> Counter[str]:
    """What this process has open, without what nobody holds any more."""
    gc.collect()
    return held("self")


def held(pid: int | str) -> Counter[str]:
    """What a process has open, and how often."""
    found: Counter[str] = Counter()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(entry.path).partition(":[")[0]] += 1
    return found


def cgroups(dirs: NodeDirs) -> Iterator[Path]:
    """The node's cgroup and those below it, in every hierarchy."""
    for top in [node_cgroups.ROOT] if node_cgroups.UNIFIED else node_cgroups.ROOT.iterdir():
        for path, _, _ in os.walk(top / dirs.cgroup.lstrip("/")):
            yield Path(path)


def units() -> set[str]:
    """The units of containers and monitors that systemd knows, also those that failed."""
    if node_cgroups.MANAGER != "systemd":
        return set()
    command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "oarlock-*"]
    listed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines()}


def processes(dirs: NodeDirs, operator: int) -> Iterator[str]:
    """Every process because of the operator, but itself."""
    inside: set[int] = set()
    for path in cgroups(dirs):
        with contextlib.suppress(OSError):  # it is being removed
            inside.update(map(int, (path / "cgroup.procs").read_text().split()))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in (operator, os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                arguments = (entry / "cmdline").read_bytes()
                if parent == operator or int(entry.name) in inside or os.fsencode(dirs.root) in arguments:
                    yield f"{entry.name} of {parent}: {arguments.decode(errors='replace')}"


def zombies() -> set[tuple[str, str]]:
    """Every process that has ended and that nobody waited for: pid and start time."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] == "Z":
                    found.add((entry.name, fields[19]))
    return found


def memory(node: Operator) -> int:
    """The operator's resident bytes."""
    assert node.process is not None
    for line in Path(f"/proc/{node.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel tells no Rss")


def settled(node: Operator, before: set[tuple[str, str]]) -> Footprint:
    """The footprint once all that ends by itself has ended."""
    assert node.process is not None
    operator = node.process.pid
    eventually(lambda: not set(processes(node.dirs, operator)), "no process is left", SETTLED)
    ended = zombies() - before
    eventually(lambda: not ended & zombies(), "no process is left that nobody waited for", SETTLED)
    return footprint(node)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_grows_with_the_number_of_containers(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    for folder in (node_dirs.state, node_dirs.run):
        folder.mkdir(mode=0o700)
        mount_tmpfs(folder, DISK, 0o700)
    warm, before = max(200, CYCLES // 5), zombies()
    with operating(node_dirs) as node:
        node.wait_ready()
        asyncio.run(cycle(node, busybox_rootfs, 0, warm))
        first, open_here = settled(node, before), own()
        used = memory(node)
        asyncio.run(cycle(node, busybox_rootfs, warm, CYCLES))
        last = settled(node, before)
        assert last.places == first.places
        assert last == first
        assert memory(node) - used <= MEMORY
        assert own() == open_here
        assert node.log().count(": gone") == CYCLES
