"""config.json: what the OCI runtime is told of one container (OCI runtime-spec 1.0.2).

Pure: everything that comes from the node is an argument. The content is what podman and containerd's
CRI plugin would write, on the safe side where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oarlock.bundle import capabilities, limits
from oarlock.bundle.expansion import LONGEST, TooLong, expand
from oarlock.bundle.hardware import NONE, Hardware
from oarlock.errors import BundleError, CommandNotRunnable
from oarlock.linux.files import unusable_name

if TYPE_CHECKING:
    from oarlock.api.spec import Spec
    from oarlock.bundle.facts import Device, Facts
    from oarlock.bundle.users import User

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""Hidden from the container (moby v28, daemon/pkg/oci/defaults.go)."""

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup")
"""Not to be written to. The last one: on cgroup v1 runc leaves the tmpfs above the controllers writable."""

OPEN_FILES = 1 << 20
UMASK = 0o022

_ALL_WORDS = 6 << 20
"""Characters of all variables and arguments together (execve(2))."""
_OWN_NETWORK_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",  # any user may listen on port 80 of its own network
    "net.ipv4.ping_group_range": "0 2147483647",  # and ping, without CAP_NET_RAW
}


def config(
    spec: Spec,
    *,
    hostname: str,
    cgroup_path: str,
    user: User,
    seccomp: Mapping[str, Any] | None,
    facts: Facts,
    root: Path = Path("rootfs"),
    files: Mapping[str, Path] | None = None,
    devices: Sequence[Device] = (),
    hardware: Hardware = NONE,
) -> dict[str, Any]:
    """The config.json of one attempt.

    Args:
        spec: the object's spec.
        hostname: the container's host name.
        cgroup_path: where the runtime puts its cgroup (`linux.cgroupsPath`).
        user: from `users.resolve`.
        seccomp: from `seccomp.profile`; not used for privileged and unconfined containers.
        facts: what this node can give.
        root: the root filesystem, relative to the bundle.
        files: path in the container → file of the node, bound read-only (/etc/hosts and the like).
        devices: the node's devices, for privileged containers.
        hardware: from `hardware.look`.

    Raises:
        BundleError: the node cannot give what the spec asks for.
    """
    privileged = is_privileged(spec)
    bounding = capabilities.bounding(spec, facts)
    resources = limits.resources(spec, facts, hardware)
    return {
        "ociVersion": "1.0.2",
        "process": _process(spec, hostname, user, bounding, facts),
        "root": {"path": str(root), "readonly": _read_only(spec)},
        "hostname": hostname,
        "mounts": _mounts(privileged) + [_bind(inside, file) for inside, file in (files or {}).items()],
        "linux": {
            "cgroupsPath": cgroup_path,
            "namespaces": [{"type": kind} for kind in _namespaces(spec)],
            "resources": {"devices": [{"allow": privileged, "access": "rwm"}]} | resources,
            "sysctl": {} if shares_network(spec) else _OWN_NETWORK_SYSCTLS,
            "maskedPaths": [] if privileged else [*MASKED, *facts.masked],
            "readonlyPaths": [] if privileged else list(READ_ONLY),
        }
        | ({"seccomp": seccomp} if seccomp is not None and not privileged and not _unconfined(spec) else {})
        | ({"devices": [_device(device) for device in devices]} if privileged and devices else {}),
    }


def _process(spec: Spec, hostname: str, user: User, bounding: frozenset[str], facts: Facts) -> dict[str, Any]:
    own, args = _words(spec)
    if problem := unusable_name(args[0]):
        raise CommandNotRunnable(problem, 126)
    defaults = {"PATH": PATH, "HOSTNAME": hostname, "HOME": user.home}
    variables = defaults | ({"TERM": "xterm"} if spec.tty else {}) | own
    open_files = min(OPEN_FILES, facts.open_files)
    return {
        "terminal": spec.tty,
        "user": {
            "uid": user.uid,
            "gid": user.gid,
            "additionalGids": list(user.additional_gids),
            "umask": UMASK,
        },
        "args": args,
        "env": [f"{name}={value}" for name, value in variables.items()],
        "cwd": spec.workingDir or "/",
        "capabilities": _capability_sets(bounding, user),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": open_files, "hard": open_files}],
        "noNewPrivileges": _no_new_privileges(spec),
        "oomScoreAdj": limits.oom_score_adj(spec, facts),
    }


def _words(spec: Spec) -> tuple[dict[str, str], list[str]]:
    """The object's variables, each of which may refer to those before it, and its arguments.

    Raises:
        BundleError: one is longer than the kernel takes, or all together are.
    """
    own: dict[str, str] = {}
    for index, variable in enumerate(spec.env):
        own[variable.name] = _expanded(f"env[{index}].value", variable.value, own, len(variable.name) + 1)
    args = [_expanded(f"command[{index}]", word, own) for index, word in enumerate(spec.command)]
    args += [_expanded(f"args[{index}]", word, own) for index, word in enumerate(spec.args)]
    if sum(map(len, (*own, *own.values(), *args))) > _ALL_WORDS:
        raise BundleError(f"spec.env: with the arguments it is longer than {_ALL_WORDS >> 20} MiB; shorten it")
    return own, args


def _expanded(field: str, text: str, variables: Mapping[str, str], beside: int = 0) -> str:
    try:
        return expand(text, variables, LONGEST - beside)
    except TooLong:
        told = f"spec.{field}: is longer than {LONGEST} bytes once its references are replaced"
        raise BundleError(f"{told}, and the kernel takes no longer one; shorten it") from None


def _capability_sets(bounding: frozenset[str], user: User) -> dict[str, list[str]]:
    """Root has all of the bounding set; others start with none and can only gain them by setuid programs."""
    names = sorted(bounding)
    held = names if user.uid == 0 else []
    return {"bounding": names, "effective": held, "permitted": held}


def _namespaces(spec: Spec) -> list[str]:
    own = {"pid": not spec.hostPID, "network": not shares_network(spec)}
    return [kind for kind in ("pid", "ipc", "uts", "mount", "cgroup", "network") if own.get(kind, True)]


def _mounts(privileged: bool) -> list[dict[str, Any]]:
    """/proc, /dev, /sys. /sys is a filesystem of its own: in a read-only bind of the node's, its cgroups
    would stay writable."""
    access = "rw" if privileged else "ro"
    closed = ["nosuid", "noexec", "nodev"]
    return [
        _mount("/proc", "proc", "proc", closed),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/dev/shm", "tmpfs", "shm", [*closed, "mode=1777", "size=65536k"]),
        _mount("/dev/mqueue", "mqueue", "mqueue", closed),
        _mount("/sys", "sysfs", "sysfs", [*closed, access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*closed, "relatime", access]),
    ]


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _bind(destination: str, file: Path) -> dict[str, Any]:
    return _mount(destination, "bind", str(file), ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"])


def _device(device: Device) -> dict[str, Any]:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def is_privileged(spec: Spec) -> bool:
    """Whether the container may do to the node what the operator may."""
    return spec.securityContext is not None and bool(spec.securityContext.privileged)


def shares_network(spec: Spec) -> bool:
    """Whether the container is on the node's own network."""
    return bool(spec.hostNetwork) or (spec.network is not None and spec.network.mode == "Host")


def _no_new_privileges(spec: Spec) -> bool:
    """Unless the spec says otherwise, a setuid program gains nothing. (The kubelet's default is another.)"""
    context = spec.securityContext
    return context is None or not (context.privileged or context.allowPrivilegeEscalation)


def _read_only(spec: Spec) -> bool:
    context = spec.securityContext
    return spec.rootfs.readOnly or (context is not None and bool(context.readOnlyRootFilesystem))


def _unconfined(spec: Spec) -> bool:
    context = spec.securityContext
    kind = context.seccompProfile.type if context is not None and context.seccompProfile is not None else None
    return kind == "Unconfined"
