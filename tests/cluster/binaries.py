"""Where the control plane's binaries are: built by `scripts/setup test` into a cache outside the clone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_HERE = Path(__file__).parent
_MODULE_FILES = ("go.mod", "go.sum", "helm/go.mod", "helm/go.sum")


def folder() -> Path:
    """The folder of kube-apiserver, kubectl and helm for this tree's Go modules (see scripts/setup)."""
    if chosen := os.environ.get("OARLOCK_TEST_BINARIES"):
        return Path(chosen)
    digest = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _MODULE_FILES)).hexdigest()[:16]
    return Path(os.environ.get("OARLOCK_CACHE", "/var/cache/oarlock")) / f"bin-{digest}"


def binary(name: str) -> Path:
    """The path of kube-apiserver, kubectl or helm.

    Raises:
        FileNotFoundError: it is not built; the message says which command builds it.
    """
    path = folder() / name
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is missing: run scripts/setup test")
    return path
