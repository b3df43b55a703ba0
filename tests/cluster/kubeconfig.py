"""Kubeconfig files for the tests (JSON, which is YAML too)."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write(path: Path, *, server: str, ca_file: Path, token: str | None = None, token_file: Path | None = None) -> Path:
    """Write a kubeconfig with one context, atomically and readable by its owner alone; returns `path`."""
    user = {"token": token} if token is not None else {"tokenFile": str(token_file)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(ca_file)}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    fresh = path.with_name(path.name + f".{os.getpid()}.new")
    fresh.write_text(json.dumps(document, indent=1))
    fresh.chmod(0o600)
    fresh.rename(path)
    return path
