"""The containers of a test node's operator, as the runtime layer knows them: for calls that no operator makes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oarlock.cgroups.place import place
from oarlock.runtime.container import Container
from oarlock.runtime.monitor import MonitorSettings
from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE


def container_of(dirs: NodeDirs, record: Mapping[str, Any]) -> Container:
    """The present attempt of a record."""
    current = record["current"]
    cid = current["containerID"]
    return Container(
        id=cid,
        runtime=Path(current["runtime"]),
        bundle=dirs.run / "bundles" / cid,
        log=Path(current["logPath"]),
        place=place(current["cgroupManager"], current["cgroupParent"], cid),
    )


def settings_of(dirs: NodeDirs, runtime_timeout: float = 30.0 * PATIENCE) -> MonitorSettings:
    """What the operator starts its monitors with."""
    conmon = shutil.which("conmon")
    assert conmon is not None
    return MonitorSettings(
        conmon=Path(conmon),
        runtime_root=dirs.run / "runtime",
        exits=dirs.run / "exits",
        sockets=dirs.run / "sockets",
        runtime_timeout=runtime_timeout,
    )
