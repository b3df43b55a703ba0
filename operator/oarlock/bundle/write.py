"""The bundle directory of one attempt: config.json and the small files bound into the container."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(config: Mapping[str, Any], bundle_dir: Path) -> None:
    """Write `config` to `bundle_dir`/config.json (0600: environments hold secrets); the folder is 0700.

    Not synced: a bundle does not outlive a reboot.

    Raises:
        OSError: it cannot be written.
    """
    bundle_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _put(bundle_dir / "config.json", json.dumps(config, separators=(",", ":")).encode(), 0o600)


def files(bundle_dir: Path, *, hostname: str, host_network: bool) -> dict[str, Path]:
    """Write what the container sees as /etc/hostname and /etc/hosts (and, on the node's network,
    /etc/resolv.conf: both as they are on the node now).

    Returns:
        path in the container → file in the bundle, for `config(files=…)`.

    Raises:
        OSError: it cannot be written.
    """
    bundle_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {"hostname": f"{hostname}\n".encode(), "hosts": _hosts(hostname)}
    if host_network:
        for name in ("hosts", "resolv.conf"):
            content[name] = _node_file(Path("/etc", name)) or content.get(name, b"")
    found = {}
    for name, text in content.items():
        _put(bundle_dir / name, text, 0o644)
        found[f"/etc/{name}"] = bundle_dir / name
    return found


def _hosts(hostname: str) -> bytes:
    return f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback {hostname}\n".encode()


def _node_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        return b""


def _put(path: Path, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
