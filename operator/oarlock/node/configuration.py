"""The operator's options: one table that flags, environment, file and documentation are made from.

Each field of `Configuration` is one option. Its name gives the flag (`--state-dir`), the variable
(`OARLOCK_STATE_DIR`) and the key in the file (`stateDir`); its metadata (`declared`) give the
help and the function that reads its text. An option is looked for in that order: flag, environment, file, default.

Loaded by `oarlock ps` too, so it imports no pydantic, and YAML only when there is a file.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from oarlock.cgroups import place
from oarlock.cgroups.place import runs_systemd
from oarlock.errors import ConfigurationError
from oarlock.node import values
from oarlock.node.option import Given, Option, declared
from oarlock.node.values import CgroupVersion, LogFormat, LogLevel, Manager, Switch, TrustLevel

DEFAULT_FILE = Path("/etc/oarlock/config.yaml")
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Every option of the operator. Durations are seconds, sizes bytes, paths as they were given.

    `load` reads it; `checked` proves that an operator can start with it and resolves the binaries.
    """

    node_name: str = declared(
        "",
        "This node's name, as spec.nodeName has it (default: the host name).",
        values.node_name,
        "Node",
        "NAME",
    )
    manifests: Path = declared(
        Path("/etc/oarlock/manifests"),
        "Directory of manifests to run; may be absent.",
        values.absolute,
        "Node",
        "DIR",
    )
    state_dir: Path = declared(
        Path("/var/lib/oarlock"),
        "What must last: records, container layers, logs. Not on overlayfs.",
        values.state_path,
        "Node",
        "DIR",
    )
    run_dir: Path = declared(
        Path("/run/oarlock"),
        "What ends with the boot: lock, the runtime's state, exits, sockets.",
        values.state_path,
        "Node",
        "DIR",
    )
    health_address: str = declared(
        "",
        "Where /healthz and /readyz are served: HOST:PORT, best on the loopback, or unix:PATH (default: nowhere).",
        values.listening,
        "Node",
        "ADDRESS",
    )
    kubernetes: Switch = declared(
        Switch.AUTO,
        "Serve a Kubernetes API: auto (when a kubeconfig or a service account is there), on or off.",
        values.choice(Switch),
        "Kubernetes",
        "auto|on|off",
    )
    kubeconfig: Path | None = declared(
        None,
        "kubeconfig of the API to serve (default: $KUBECONFIG, then the pod's service account).",
        values.absolute,
        "Kubernetes",
        "FILE",
    )
    in_cluster: bool = declared(
        False, "Use the pod's service account, whatever KUBECONFIG says.", values.boolean, "Kubernetes", ""
    )
    node_conditions: bool = declared(
        True,
        "Show the conditions OarlockRuntimeReady and OarlockNetworkReady on this node's Node object.",
        values.boolean,
        "Kubernetes",
        "",
    )
    conmon: Path = declared(
        Path("conmon"), "conmon, as a path or a name to find in PATH.", values.program, "Runtime", "PROGRAM"
    )
    runtime_trusted: Path = declared(
        Path("runc"), "OCI runtime of trusted containers.", values.program, "Runtime", "PROGRAM"
    )
    runtime_untrusted: Path | None = declared(
        None,
        "OCI runtime of containers with trusted: false (default: the trusted one).",
        values.program,
        "Runtime",
        "PROGRAM",
    )
    runtimes: tuple[tuple[str, Path], ...] = declared(
        (),
        "A further OCI runtime, under the name that spec.runtimeHandler gives; may be given several times.",
        values.named_program,
        "Runtime",
        "NAME=PROGRAM",
        several=True,
    )
    conmon_env: tuple[tuple[str, str], ...] = declared(
        (),
        "A further variable of conmon's and the runtime's environment; may be given several times.",
        values.variable,
        "Runtime",
        "NAME=VALUE",
        several=True,
    )
    default_trust_level: TrustLevel = declared(
        TrustLevel.TRUSTED,
        "What containers are unless they say trusted: false; with untrusted, all of them are.",
        values.choice(TrustLevel),
        "Runtime",
        "trusted|untrusted",
    )
    no_pivot: bool = declared(
        False, "chroot instead of pivot_root (a root filesystem in RAM).", values.boolean, "Runtime", ""
    )
    cgroup_version: CgroupVersion = declared(
        CgroupVersion.AUTO,
        "The version of cgroups: v1, v2, or auto (as mounted). With another one mounted the operator does not start.",
        values.choice(CgroupVersion),
        "Runtime",
        "auto|v1|v2",
    )
    cgroup_manager: Manager = declared(
        Manager.AUTO,
        "Who makes the cgroups: cgroupfs (oarlock itself), systemd, or auto (systemd where it runs).",
        values.choice(Manager),
        "Runtime",
        "auto|cgroupfs|systemd",
    )
    cgroup_parent: str = declared(
        "",
        "The cgroup, or systemd's slice, under which all containers live (default: /oarlock, or oarlock.slice).",
        values.cgroup,
        "Runtime",
        "PARENT",
    )
    max_parallel_creates: int = declared(
        8, "Containers being created at one time.", values.positive, "Runtime", "COUNT"
    )
    create_timeout: float = declared(
        240.0, "How long conmon and the runtime may take to create.", values.duration, "Runtime", "DURATION"
    )
    runtime_timeout: float = declared(
        30.0,
        "How long the runtime may take for anything else (start, state, pause, resume, delete).",
        values.duration,
        "Runtime",
        "DURATION",
    )
    backoff_initial: float = declared(
        10.0, "Delay before the second restart; doubles with each.", values.duration, "Restarts", "DURATION"
    )
    backoff_max: float = declared(300.0, "The longest delay.", values.duration, "Restarts", "DURATION")
    backoff_reset: float = declared(
        600.0, "After so long without an exit the delays begin anew.", values.duration, "Restarts", "DURATION"
    )
    log_max_size: int = declared(
        10 << 20,
        "A container's log is rotated at this size, unless it says otherwise.",
        values.size,
        "Logs",
        "SIZE",
    )
    log_max_files: int = declared(
        5, "Files of a log that are kept, unless it says otherwise.", values.positive, "Logs", "COUNT"
    )
    log_compress: bool = declared(
        False,
        "Compress rotated files of a log but the newest of them, unless it says otherwise.",
        values.boolean,
        "Logs",
        "",
    )
    journald: bool = declared(
        False,
        "Have conmon write to systemd's journal too; `oarlock logs` reads the files all the same.",
        values.boolean,
        "Logs",
        "",
    )
    log_level: LogLevel = declared(
        LogLevel.INFO,
        "How much the operator itself tells.",
        values.choice(LogLevel),
        "Logs",
        "debug|info|warning|error",
    )
    log_format: LogFormat = declared(
        LogFormat.TEXT, "As lines of text or of JSON.", values.choice(LogFormat), "Logs", "text|json"
    )
    allow_privileged: bool = declared(False, "Accept privileged containers.", values.boolean, "Policy", "")
    allow_untrusted_privileged: bool = declared(
        False,
        "Accept containers that are untrusted and privileged (they run under the trusted runtime).",
        values.boolean,
        "Policy",
        "",
    )
    allow_host_network: bool = declared(True, "Accept containers in the host's network.", values.boolean, "Policy", "")
    allow_host_pid: bool = declared(
        False, "Accept containers in the host's pid namespace.", values.boolean, "Policy", ""
    )
    allowed_rootfs: tuple[Path, ...] = declared(
        (),
        "Directories that rootfs.path must lie in (default: any that is not part of the host's own system).",
        values.listed,
        "Policy",
        "DIR",
        several=True,
    )

    @property
    def uses_kubernetes(self) -> bool:
        """Whether the operator serves a Kubernetes API."""
        return self.kubernetes is not Switch.OFF and (self.kubeconfig is not None or self.in_cluster)

    @property
    def handlers(self) -> dict[str, Path]:
        """Every runtime by the name that spec.runtimeHandler gives: those of `runtimes`, and the two others'."""
        from oarlock.runtime.path import handlers

        return handlers(self.runtime_trusted, self.runtime_untrusted, dict(self.runtimes))

    @property
    def records_dir(self) -> Path:
        return self.state_dir / "records"

    @property
    def overrides_dir(self) -> Path:
        return self.state_dir / "overrides"

    @property
    def containers_dir(self) -> Path:
        return self.state_dir / "containers"

    @property
    def problems_file(self) -> Path:
        return self.state_dir / "problems.json"

    @property
    def node_file(self) -> Path:
        return self.state_dir / "node.json"

    @property
    def lock_file(self) -> Path:
        return self.run_dir / "lock"

    @property
    def runtime_root(self) -> Path:
        """The runtime's --root: what it knows about containers ends with the boot."""
        return self.run_dir / "runtime"

    @property
    def exits_dir(self) -> Path:
        return self.run_dir / "exits"

    @property
    def bundles_dir(self) -> Path:
        return self.run_dir / "bundles"

    @property
    def sockets_dir(self) -> Path:
        return self.run_dir / "sockets"

    @property
    def manager(self) -> place.Manager:
        """Who makes the cgroups."""
        by_systemd = runs_systemd() if self.cgroup_manager is Manager.AUTO else self.cgroup_manager is Manager.SYSTEMD
        return "systemd" if by_systemd else "cgroupfs"

    @property
    def parent(self) -> str:
        """The cgroup or slice of all containers."""
        return self.cgroup_parent or place.DEFAULT_PARENT[self.manager]

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Given | None] | None = None,
        environ: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> Configuration:
        """Read flags (by option name; None = not given), environment and file, in this order.

        Raises:
            ConfigurationError: a value or a key that cannot be used; names the place and the way out.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, Any] = dict(_from_file(file, environ))
        for each in options():
            flag = (flags or {}).get(each.name)
            if flag is not None:
                found[each.name] = each.value(flag, each.flag)
            elif environ.get(each.variable):
                found[each.name] = each.value(environ[each.variable], each.variable)
        found.setdefault("node_name", "")
        if not found["node_name"]:
            found["node_name"] = socket.gethostname().lower()
        return cls(**_with_kubernetes(found, environ))

    def checked(self) -> Configuration:
        """The same with every program resolved, once it is clear that an operator can start with it.

        Raises:
            ConfigurationError: names the option and the way out.
        """
        from oarlock.node.checked import checked

        return checked(self)


@cache
def options() -> tuple[Option, ...]:
    """The table of options, in the order in which they are documented."""
    return tuple(
        Option(name=each.name, default=each.default, **each.metadata) for each in dataclasses.fields(Configuration)
    )


def option(name: str) -> Option:
    """One option of the table by its name."""
    return next(each for each in options() if each.name == name)


def _with_kubernetes(found: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Fill in which API is served: --kubeconfig, --in-cluster, $KUBECONFIG, a pod's service account."""
    if found.get("kubernetes") is Switch.OFF:
        return found | {"kubeconfig": None, "in_cluster": False}
    if found.get("kubeconfig") is not None and found.get("in_cluster"):
        raise ConfigurationError("--kubeconfig and --in-cluster exclude each other; give one of them")
    if found.get("kubeconfig") is None and not found.get("in_cluster"):
        paths = [each for each in environ.get("KUBECONFIG", "").split(os.pathsep) if each]
        if paths:
            existing = [each for each in paths if os.path.exists(each)]
            found["kubeconfig"] = Path(existing[0] if existing else paths[0]).absolute()
        elif environ.get("KUBERNETES_SERVICE_HOST") and SERVICE_ACCOUNT_TOKEN.exists():
            found["in_cluster"] = True
    return found


def _from_file(file: Path | None, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """The options in the configuration file; without --config or OARLOCK_CONFIG it may be absent."""
    named = file or (Path(environ["OARLOCK_CONFIG"]) if environ.get("OARLOCK_CONFIG") else None)
    path = named or DEFAULT_FILE
    if named is None and not path.exists():
        return {}
    from oarlock.node.configurationfile import read

    return read(path, options())
