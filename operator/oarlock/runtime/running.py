"""conmon and the runtime's commands, found in /proc by their arguments: also those that nobody knows of any more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_VERBS = (b"start", b"state", b"pause", b"resume", b"delete")
"""What oarlock itself has the runtime do; a person may have it do more with the same --root."""


def monitors(bundle: Path) -> list[int]:
    """Every conmon of this bundle's container: also one that never got to write its pid."""
    named = [b"-b", os.fsencode(bundle)]
    return [pid for pid, words in _all() if b"conmon" in words[0] and any(_pairs(words, named))]


def commands(runtime_root: Path) -> list[int]:
    """Every command of the runtime that an operator of this node began: each leads a process group."""
    named = [b"--root", os.fsencode(runtime_root)]
    return [pid for pid, words in _all() if any(_is_ours(words[at:]) for at in _pairs(words, named)) and _leads(pid)]


def _pairs(words: list[bytes], named: list[bytes]) -> Iterator[int]:
    """Where these two arguments stand; the index of what follows them."""
    return (at + 2 for at in range(len(words) - 1) if words[at : at + 2] == named)


def _is_ours(words: list[bytes]) -> bool:
    return words[words[:1] == [b"--systemd-cgroup"] :][:1] in [[verb] for verb in _VERBS]


def _leads(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid) == pid
    return False


def _all() -> Iterator[tuple[int, list[bytes]]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield int(name), Path("/proc", name, "cmdline").read_bytes().split(b"\0")
