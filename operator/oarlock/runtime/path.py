"""Which runtime a container runs under (`oci.go: Path`, `Name`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def runtime_path(
    *,
    handler: str | None = None,
    trusted: bool,
    privileged: bool,
    default_trusted: bool,
    trusted_path: Path,
    untrusted_path: Path | None,
    handlers: Mapping[str, Path] | None = None,
) -> Path:
    """The runtime of a container: the handler's that it names, else the one that its trust leads to.

    Without a handler the untrusted runtime is taken where it is set and asked for, never for a privileged container:
    an untrusted privileged one runs under the trusted runtime. The caller decides whether to accept it.

    Raises:
        KeyError: no handler of this name (`handlers` of this module); the caller has refused it before.
    """
    if handler is not None:
        return (handlers or {})[handler]
    if untrusted_path is None or privileged or (trusted and default_trusted):
        return trusted_path
    return untrusted_path


def handlers(trusted: Path, untrusted: Path | None, named: Mapping[str, Path]) -> dict[str, Path]:
    """Every runtime that a spec can ask for by name: those named, and the other two by their own names.

    A name in `named` goes first, then the trusted runtime's.
    """
    found = {trusted.name: trusted} | dict(named)
    if untrusted is not None:
        found.setdefault(untrusted.name, untrusted)
    return found
