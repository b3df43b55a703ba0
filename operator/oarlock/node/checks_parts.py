"""Doctor's checks of oarlock's own parts: programs, directories, the lock, the API."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from oarlock.errors import ConfigurationError, OarlockError
from oarlock.linux.mount import unescaped
from oarlock.node import versions
from oarlock.node.checked import check_kubernetes, checked_node
from oarlock.node.configuration import Configuration
from oarlock.node.doctor import Check, Verdict, fail, ok, warn

ANSWER = 5.0
"""Seconds that the API has to answer."""

SCARCE_BYTES, SCARCE_INODES = 1 << 30, 10_000
FULL_BYTES, FULL_INODES = 64 << 20, 500
_NEEDED = ("conmon", "runtime-trusted", "runtime-untrusted")
"""What containers have without asking for a runtime by name."""


def programs(configuration: Configuration, answers: Sequence[versions.Program]) -> Iterator[Check]:
    """The configuration as a whole, then conmon and each OCI runtime: there, executable, and answering."""
    found = [_program(each) for each in answers]
    if all(each.verdict is not Verdict.FAIL for each in found):  # a missing program is told once
        try:
            checked_node(configuration)
        except ConfigurationError as error:
            yield fail("configuration", str(error), "correct this option")
    yield from found


def _program(found: versions.Program) -> Check:
    if not found.usable and found.path is not None and found.label not in _NEEDED:
        return warn(found.label, f"{found.problem}; containers that ask for it may not run", found.way_out)
    if not found.usable:
        return fail(found.label, found.problem, found.way_out)
    if found.version is None:
        return warn(found.label, found.problem, found.way_out)
    return ok(found.label, f"{found.path} {found.version}")


def disks(configuration: Configuration) -> Iterator[Check]:
    """Room, kind and writability of the state and the run directory (or of what they will be made in)."""
    yield _disk("state-dir", configuration.state_dir, lasting=True)
    yield _disk("run-dir", configuration.run_dir, lasting=False)


def _disk(name: str, directory: Path, lasting: bool) -> Check:
    place = directory
    try:
        while not place.exists():
            place = place.parent
    except OSError as error:
        return fail(name, f"{directory}: {error.strerror}", f"choose another with --{name}")
    kind = filesystem(place)
    if lasting and kind == "overlay":
        return fail(name, f"{directory} is on overlayfs, which carries no overlay", "put it on a disk or a volume")
    if lasting and kind in ("tmpfs", "ramfs"):
        return fail(name, f"{directory} is in memory ({kind}) and ends with the boot", "put it on a disk")
    facts = os.statvfs(place)
    if facts.f_flag & os.ST_RDONLY or not os.access(place, os.W_OK):
        return fail(name, f"{directory} cannot be written", f"make it writable or choose another with --{name}")
    free, inodes = facts.f_bavail * facts.f_frsize, facts.f_favail
    told = f"{directory} ({kind}): {_human(free)} free"
    endless = facts.f_files == 0  # btrfs and others count no inodes
    if free < FULL_BYTES or (inodes < FULL_INODES and not endless):
        return fail(name, f"{told}, {inodes} inodes", "make room")
    if lasting and (free < SCARCE_BYTES or (inodes < SCARCE_INODES and not endless)):
        return warn(name, f"{told}, {inodes} inodes", "make room before it is full")
    return ok(name, told)


def filesystem(path: Path) -> str:
    """The type of the file system that `path` lies on, as /proc/self/mountinfo names it."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    real = os.path.realpath(path)
    best, kind = "", "unknown"
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        number, point = left.split()[2].decode(), unescaped(left.split()[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best) and (number == wanted or kind == "unknown" or len(point) > len(best)):
            best, kind = point, right.split()[0].decode()
    return kind


def lock(configuration: Configuration) -> Check:
    """Whether an operator holds the run directory; one that runs is no fault."""
    from oarlock.node.presence import find_operator

    operator = find_operator(configuration.lock_file)
    if operator.running:
        return ok("operator", f"runs with pid {operator.pid} on {configuration.run_dir}")
    return ok("operator", f"none runs on {configuration.run_dir}")


def api(configuration: Configuration) -> Iterator[Check]:
    """Whether the API server answers, where one is configured."""
    try:
        check_kubernetes(configuration)
    except ConfigurationError as error:
        yield fail("configuration", str(error), "correct this option")
        return
    if not configuration.uses_kubernetes:
        yield ok("kubernetes", "not configured: manifests only")
        return
    import asyncio

    from oarlock.sources.kubernetes import client

    place = "the service account" if configuration.in_cluster else str(configuration.kubeconfig)
    try:
        version = asyncio.run(asyncio.wait_for(client.server_version(configuration), ANSWER))
    except (OarlockError, OSError, TimeoutError) as error:
        reason = str(error) or f"no answer in {ANSWER:g} s"
        yield warn("kubernetes", f"{place}: {reason}", "containers go on without it; check address and credentials")
        return
    yield ok("kubernetes", f"{place}: {version}")


def _human(count: int) -> str:
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.1f} {unit}"
    return f"{count >> 10} KiB"
