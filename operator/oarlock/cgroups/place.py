"""Where one container and its monitor live: the names of their cgroups, or of their systemd scopes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Manager = Literal["cgroupfs", "systemd"]
SYSTEMD_RUNS = Path("/run/systemd/system")
DEFAULT_PARENT: dict[Manager, str] = {"cgroupfs": "/oarlock", "systemd": "oarlock.slice"}


@dataclass(frozen=True, slots=True)
class Place:
    """The cgroups of one container.

    Attributes:
        container, monitor: their paths below a hierarchy's root.
        oci: `linux.cgroupsPath` of config.json.
        parent: the cgroup or slice that both lie in, as it was configured.
        lasting: the cgroup whose counters outlive the container's last process. systemd removes a scope the moment that
            it is empty, and with it what the kernel counted; so each scope is in a slice of its own.
        scope: the monitor's unit under systemd; None when oarlock makes the cgroup itself.
        slice: the container's own slice under systemd.
    """

    container: str
    monitor: str
    oci: str
    parent: str
    lasting: str
    scope: str | None = None
    slice: str | None = None

    @property
    def by_systemd(self) -> bool:
        """Whether systemd makes these cgroups."""
        return self.scope is not None


def place(manager: str, parent: str, container_id: str) -> Place:
    """The place of one container under a parent cgroup (`/oarlock`) or slice (`oarlock.slice`)."""
    if manager == "systemd":
        folder, scope = slice_path(parent), unit_name("oarlock-conmon", container_id)
        own = f"{parent.removesuffix('.slice')}-{container_id.replace('-', '_')}.slice"
        container = f"{folder}/{own}/{unit_name('oarlock', container_id)}"
        oci = f"{own}:oarlock:{container_id}"
        return Place(container, f"{folder}/{scope}", oci, parent, f"{folder}/{own}", scope, own)
    container = f"{parent.rstrip('/')}/{container_id}"
    return Place(container, f"{parent.rstrip('/')}/oarlock-conmon-{container_id}", container, parent, container)


def runs_systemd() -> bool:
    """Whether systemd is in charge of this node's cgroups (sd_booted(3))."""
    return SYSTEMD_RUNS.is_dir()


def unit_name(prefix: str, container_id: str) -> str:
    """A scope's name (`oci.go: createUnitName`)."""
    return f"{prefix}-{container_id}.scope"


def slice_path(name: str) -> str:
    """The cgroup of a slice: a dash in its name is a level, as in /a.slice/a-b.slice (systemd.slice(5))."""
    words = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(words[:count])}.slice" for count in range(1, len(words) + 1))
