"""What every keeper shares: the node's parts and policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oarlock.linux.process import Endings
from oarlock.reconcile.backoff import BackOff
from oarlock.reconcile.ports import Reporter
from oarlock.records.store import Store
from oarlock.runtime.oom import OomWatch
from oarlock.runtime.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Policy:
    """What the node allows and how it runs things; from the operator's configuration."""

    runtime_trusted: Path
    runtime_untrusted: Path | None
    handlers: Mapping[str, Path]
    default_trusted: bool
    allow_privileged: bool
    allow_untrusted_privileged: bool
    allow_host_network: bool
    allow_host_pid: bool
    allowed_rootfs: tuple[Path, ...]
    forbidden: tuple[Path, ...]
    backoff: BackOff
    log_max_size: int
    log_max_files: int
    log_compress: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept of one attempt's log.

    Attributes:
        bundle: holds the control fifo of the conmon that writes it.
        max_size: bytes at which it is rotated.
        max_files: how many files are kept, the current one included.
        compress: whether all rotated ones but the newest are compressed.
    """

    log: Path
    bundle: Path
    max_size: int
    max_files: int
    compress: bool


@dataclass(frozen=True, slots=True)
class Node:
    """The node as a keeper sees it.

    `creates` bounds how many containers are being made at one time; `log_watchers` are told how much to
    keep of each started container's log, and when that changes; `troubled` that a step failed for the node's reasons.
    """

    name: str
    boot: str
    containers: Path
    bundles: Path
    runtime: Runtime
    store: Store
    endings: Endings
    ooms: OomWatch
    policy: Policy
    reporters: Mapping[str, Reporter]
    creates: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    log_watchers: list[Callable[[Retention], None]] = field(default_factory=list)
    troubled: list[Callable[[], None]] = field(default_factory=list)
