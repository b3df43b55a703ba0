"""What the runtime layer knows of one container: where it lies and what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oarlock.cgroups.place import Place


@dataclass(frozen=True, slots=True)
class Container:
    """One attempt of one object, as conmon and the runtime know it.

    `title` is what the journal calls it, where conmon writes to the journal.
    """

    id: str
    runtime: Path
    bundle: Path
    log: Path
    place: Place
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    title: str = ""
