"""Which runtime a container runs under (`oci.go: Path`)."""

from __future__ import annotations

from pathlib import Path


def runtime_path(
    *, trusted: bool, privileged: bool, default_trusted: bool, trusted_path: Path, untrusted_path: Path | None
) -> Path:
    """The runtime of a container: the untrusted one where it is set and asked for, never for a privileged one.

    An untrusted privileged container runs under the trusted runtime: the caller decides whether to accept it.
    """
    if untrusted_path is None or privileged or (trusted and default_trusted):
        return trusted_path
    return untrusted_path
