"""Taking the node: its directories made, locked against a second operator, and proved to be this node's."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from oarlock.errors import AlreadyRunning, ConfigurationError, ForeignRecord
from oarlock.linux import mount
from oarlock.linux.files import write_atomic
from oarlock.linux.procfs import boot_id
from oarlock.node.configuration import Configuration
from oarlock.records.model import FORMAT

_EXITS_SIZE = 4 << 20
_TRIES, _PAUSE = 20, 0.02
_MEETING = Path("/run/oarlock")
"""Where operators meet that would give their containers the same cgroups, whatever their own directories."""


@contextlib.contextmanager
def taken(configuration: Configuration) -> Iterator[None]:
    """The node's directories, made and locked against a second operator, and with them the containers' cgroups.

    Raises:
        AlreadyRunning: another operator has one of them; names its pid.
        ForeignRecord: the state directory is another node's.
    """
    state, run = configuration.state_dir, configuration.run_dir
    for folder in (state, run, _MEETING):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    shared = hashlib.sha256(f"{configuration.parent} {configuration.node_name}".encode()).hexdigest()
    cgroups = _MEETING / f"cgroups-{shared[:16]}.lock"
    with contextlib.ExitStack() as held:
        locks = [
            held.enter_context(_locked(f"--run-dir {run}", configuration.lock_file)),
            held.enter_context(_locked(f"--state-dir {state}", state / "lock")),
            held.enter_context(_locked(f"--cgroup-parent {configuration.parent}", cgroups)),
        ]
        for lock in locks:
            _check_predecessor(lock, configuration)
        told = {"pid": os.getpid(), "nodeName": configuration.node_name, "bootID": boot_id()}
        told |= {"stateDir": str(state), "runDir": str(run)}
        for lock in locks:
            os.ftruncate(lock, 0)
            os.pwrite(lock, json.dumps(told).encode(), 0)
        _prepare(configuration)
        yield


@contextlib.contextmanager
def _locked(what: str, path: Path) -> Iterator[int]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for tries_left in reversed(range(_TRIES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not tries_left:
                    raise AlreadyRunning(f"{what}: {_holder(lock)}") from None
            time.sleep(_PAUSE)  # a command may be looking whether somebody holds it (`presence`)
        yield lock
    finally:
        os.close(lock)


def _check_predecessor(lock: int, configuration: Configuration) -> None:
    """Whoever had this lock before may have left containers whose records are not here: they would be killed as strays.

    Raises:
        ConfigurationError: names the directories that they are in.
    """
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError):  # there was none, or its run directory is gone
        told = json.loads(os.pread(lock, 4096, 0))
        state, run = Path(told["stateDir"]), Path(told["runDir"])
        if told["bootID"] != boot_id() or not any((run / "bundles").iterdir()):
            return
        here, there = (configuration.state_dir, configuration.run_dir), (state, run)
        if [each.resolve() for each in here] != [each.resolve() for each in there]:
            raise ConfigurationError(
                f"--state-dir {here[0]}, --run-dir {here[1]}: the node has containers under --state-dir {state}, "
                f"--run-dir {run}; start with these, or remove the containers first"
            )
        if not configuration.node_file.exists():
            raise ConfigurationError(
                f"--state-dir {state}: it is empty, though the node has containers in --run-dir {run}; "
                "mount it or restore it, or remove the containers first"
            )


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
