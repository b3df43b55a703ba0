"""Proves, before anything is touched, that an operator can start with a configuration."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from oarlock.cgroups.hierarchy import ROOT, hierarchy
from oarlock.cgroups.place import runs_systemd
from oarlock.errors import ConfigurationError
from oarlock.node.configuration import Configuration, option
from oarlock.node.values import CgroupVersion, Switch

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Searched after PATH: a login shell of Debian has no sbin, where runc is."""

JOURNAL = Path("/run/systemd/journal/socket")
"""Where programs that log to systemd's journal send it (sd_journal_send(3))."""


def checked(configuration: Configuration) -> Configuration:
    """See `Configuration.checked`."""
    check_kubernetes(configuration)
    return checked_node(configuration)


def checked_node(configuration: Configuration) -> Configuration:
    """The same without the API: what its kubeconfig is like says nothing of the node."""
    _node_name(configuration)
    _directories(configuration)
    _times(configuration)
    _journal(configuration)
    _runtimes(configuration)
    _cgroups(configuration)
    untrusted = configuration.runtime_untrusted
    return dataclasses.replace(
        configuration,
        conmon=find_program("conmon", configuration.conmon),
        runtime_trusted=find_program("runtime_trusted", configuration.runtime_trusted),
        runtime_untrusted=None if untrusted is None else find_program("runtime_untrusted", untrusted),
        runtimes=tuple((name, find_program("runtimes", path, name)) for name, path in configuration.runtimes),
    )


def find_program(name: str, program: Path, runtime: str | None = None) -> Path:
    """The absolute path of the program which option `name` gives; `runtime` is its name where it gives several.

    Raises:
        ConfigurationError: it is missing or not executable; names the path and the way out.
    """
    flag = option(name).flag
    given = flag if runtime is None else f"{flag} {runtime}"
    way_out = f"install it or name it with {flag}"
    if not program.is_absolute():
        path = f"{os.environ.get('PATH', '')}:{PROGRAM_PATH}"
        found = shutil.which(str(program), path=path)
        if found is None:
            raise ConfigurationError(f"{given}: no {program} in {path.strip(':')}; {way_out}")
        return Path(found).absolute()
    if not program.exists():
        raise ConfigurationError(f"{given}: {program} does not exist; {way_out}")
    if not program.is_file() or not os.access(program, os.X_OK):
        raise ConfigurationError(f"{given}: {program} is not an executable file; {way_out}")
    return program


def _cgroups(configuration: Configuration) -> None:
    asked, version = configuration.cgroup_version, hierarchy().VERSION
    if asked not in (CgroupVersion.AUTO, f"v{version}"):
        raise ConfigurationError(
            f"--cgroup-version {asked}: {ROOT} is v{version} here, and the runtimes go by what is mounted; give auto, "
            f"or boot with systemd.unified_cgroup_hierarchy={2 - version}"
        )
    manager, parent = configuration.manager, configuration.parent
    if manager == "systemd" and not runs_systemd():
        raise ConfigurationError("--cgroup-manager systemd: systemd does not run here; give cgroupfs or auto")
    if (manager == "systemd") is not parent.endswith(".slice"):
        example = "a slice, as oarlock.slice" if manager == "systemd" else "a path, as /oarlock"
        raise ConfigurationError(
            f"--cgroup-parent {parent}: the {manager} manager needs {example}; correct it, or give --cgroup-manager"
        )


def _runtimes(configuration: Configuration) -> None:
    trusted, seen = configuration.runtime_trusted, set[str]()
    for name, program in configuration.runtimes:
        if name in seen:
            raise ConfigurationError(f"--runtimes {name}: given twice; give one of them another name")
        seen.add(name)
        if name == trusted.name and program not in (trusted, Path(name)):
            raise ConfigurationError(
                f"--runtimes {name}: {program} has the name of --runtime-trusted {trusted}; give it another name"
            )


def _node_name(configuration: Configuration) -> None:
    try:
        option("node_name").read(configuration.node_name)
    except ValueError:
        raise ConfigurationError(
            f"the host name {configuration.node_name!r} is no valid node name; give one with --node-name"
        ) from None


def _directories(configuration: Configuration) -> None:
    state, run = configuration.state_dir, configuration.run_dir
    for name, path in (("state_dir", state), ("run_dir", run)):
        if path.exists() and not path.is_dir():
            raise ConfigurationError(f"{option(name).flag}: {path} is not a directory")
    if state == run or state in run.parents or run in state.parents:
        raise ConfigurationError(
            f"--state-dir {state} and --run-dir {run}: one lies in the other; the run directory "
            "ends with the boot, so give them separate places"
        )
    manifests = configuration.manifests
    if manifests.exists() and not manifests.is_dir():
        raise ConfigurationError(f"--manifests: {manifests} is not a directory; give the directory it lies in")


def _times(configuration: Configuration) -> None:
    if configuration.backoff_initial > configuration.backoff_max:
        raise ConfigurationError(
            f"--backoff-initial {configuration.backoff_initial:g}s is longer than "
            f"--backoff-max {configuration.backoff_max:g}s; raise the second or lower the first"
        )
    if configuration.create_timeout <= 0:
        raise ConfigurationError("--create-timeout: must be longer than nothing, as 60s")
    if configuration.runtime_timeout <= 0:
        raise ConfigurationError("--runtime-timeout: must be longer than nothing, as 30s")
    if configuration.log_max_size < 4096:
        raise ConfigurationError("--log-max-size: must be at least 4Ki")
    if configuration.log_max_files < 2:
        raise ConfigurationError("--log-max-files: must be at least 2, the file being written and one that was")


def _journal(configuration: Configuration) -> None:
    """conmon drops what it writes to a journal that is not there, and says nothing."""
    if configuration.journald and not JOURNAL.is_socket():
        raise ConfigurationError(
            f"--journald: no journal listens at {JOURNAL}; start systemd-journald (in a pod: mount "
            f"{JOURNAL.parent} from the host), or leave the option out"
        )


def check_kubernetes(configuration: Configuration) -> None:
    """Prove that the API that is asked for can be asked; raises ConfigurationError."""
    if configuration.kubernetes is Switch.ON and not configuration.uses_kubernetes:
        raise ConfigurationError(
            "--kubernetes on: there is neither a kubeconfig nor a service account; give --kubeconfig FILE"
        )
    path = configuration.kubeconfig
    if path is not None and not path.is_file():
        raise ConfigurationError(f"--kubeconfig: {path} does not exist; give another, or --kubernetes off")
    if path is not None and not os.access(path, os.R_OK):
        raise ConfigurationError(f"--kubeconfig: {path} cannot be read by this user")
