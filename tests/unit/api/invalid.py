"""ContainerSpecs that must be refused, and what must be said of each: by the model, and by the API server."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

VALID: dict[str, Any] = {
    "apiVersion": "oarlock.dev/v1alpha1",
    "kind": "ContainerSpec",
    "metadata": {"name": "web"},
    "spec": {"nodeName": "node-a", "rootfs": {"path": "/srv/rootfs"}, "command": ["sleep", "60"]},
}
ABSENT = object()
"""Stands for a field that is taken out."""


@dataclass(frozen=True)
class Invalid:
    """One refused document.

    Attributes:
        path: where `VALID` is changed.
        value: what is put there, or `ABSENT`.
        field: the field that the error names; `path` itself when None.
        phrase: what the error says.
    """

    path: str
    value: Any
    phrase: str
    field: str | None = None

    @property
    def document(self) -> dict[str, Any]:
        return changed(self.path, self.value)

    @property
    def named(self) -> str:
        return self.field or self.path


def changed(path: str, value: Any) -> dict[str, Any]:
    """`VALID` with another value at `path`; what is missing on the way is made."""
    document = copy.deepcopy(VALID)
    *way, last = path.split(".")
    place = document
    for part in way:
        place = place.setdefault(part, {})
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return document


def _spec(path: str, value: Any, phrase: str, field: str | None = None) -> Invalid:
    return Invalid(f"spec.{path}", value, phrase, None if field is None else f"spec.{field}")


_LIMITS, _IO, _SECURITY = "resources.limits", "resources.io.devices", "securityContext"

INVALID: dict[str, Invalid] = {
    # the object
    "another API version": Invalid("apiVersion", "oarlock.dev/v1", "write oarlock.dev/v1alpha1"),
    "another kind": Invalid("kind", "Pod", "write ContainerSpec"),
    "no kind": Invalid("kind", ABSENT, "write ContainerSpec"),
    "no name": Invalid("metadata", {}, "lower-case letters", "metadata.name"),
    "a name in capitals": Invalid("metadata.name", "WEB", "lower-case letters"),
    "a name too long": Invalid("metadata.name", "a" * 254, "at most 253"),
    "a namespace with a dot": Invalid("metadata.namespace", "a.b", "at most 63"),
    "a label that is a number": Invalid("metadata.labels", {"a": 1}, "quote numbers"),
    "an annotation that is a boolean": Invalid("metadata.annotations", {"a": True}, "quote numbers"),
    "a field of the object misspelt": Invalid("specs", {}, "did you mean spec?"),
    "no spec": Invalid("spec", ABSENT, "describe the container"),
    "a spec that is a list": Invalid("spec", [], "describe the container"),
    # what is required
    "no node": _spec("nodeName", ABSENT, "is required; add it"),
    "no rootfs": _spec("rootfs", ABSENT, "is required; add it"),
    "no path": _spec("rootfs", {}, "is required; add it", "rootfs.path"),
    "no name of a variable": _spec("env", [{"value": "x"}], "is required; add it", "env[0].name"),
    # what is unknown
    "a field misspelt": _spec("comand", ["x"], "did you mean command?"),
    "a field misspelt deep down": _spec("rootfs", {"path": "/a", "readonly": True}, "did you mean", "rootfs.readonly"),
    "a field that no name can have": _spec("foo-bar", 1, "is not a field here; take it out"),
    "a resource that is not limited": _spec(f"{_LIMITS}.disk", 1, "is not a field here; take it out"),
    "a field of a variable": _spec("env", [{"name": "A", "valueFrom": {}}], "not supported", "env[0].valueFrom"),
    "a field of a later version": _spec("image", "busybox", "not supported by this version"),
    "a probe": _spec("livenessProbe", {}, "not supported by this version"),
    # what is of another type
    "a number for a string": _spec("command", ["sleep", 60], "quote it", "command[1]"),
    "a string for a list": _spec("command", "sleep 60", "must be a list"),
    "a secret that is a number": _spec(
        "env", [{"name": "A", "value": 48151623}], "not a number; quote", "env[0].value"
    ),
    "a name with a line end": Invalid("metadata.name", "web\n", "lower-case letters"),
    "a number as a value": _spec("env", [{"name": "A", "value": 1}], "quote it", "env[0].value"),
    "a mapping for a list": _spec("env", {"A": "x"}, "must be a list"),
    "a string for a mapping": _spec("rootfs", "/srv/rootfs", "must be a mapping"),
    "a string for a boolean": _spec("tty", "yes", "must be true or false"),
    "a number for another boolean": _spec("stdinOnce", 1, "must be true or false"),
    "a string for the host's processes": _spec("hostPID", "true", "must be true or false"),
    "a number for a boolean": _spec("hostNetwork", 1, "must be true or false"),
    "a string for a number": _spec("terminationGracePeriodSeconds", "30s", "must be a whole number"),
    "half a second": _spec("terminationGracePeriodSeconds", 0.5, "must be a whole number"),
    "a user by name": _spec(f"{_SECURITY}.runAsUser", "nobody", "must be a whole number"),
    # what is out of range
    "an empty node name": _spec("nodeName", "", "begin and end it"),
    "a node name in capitals": _spec("nodeName", "Node", "begin and end it"),
    "a node name too long": _spec("nodeName", "a" * 254, "at most 253"),
    "another state": _spec("state", "Sleeping", "'Running', 'Stopped' or 'Paused'"),
    "a state in lower case": _spec("state", "running", "'Running', 'Stopped' or 'Paused'"),
    "another restart policy": _spec("restartPolicy", "Sometimes", "'Always', 'OnFailure' or 'Never'"),
    "a relative rootfs": _spec("rootfs", {"path": "srv"}, "begin it with /", "rootfs.path"),
    "an empty rootfs": _spec("rootfs", {"path": ""}, "begin it with /", "rootfs.path"),
    "a relative working directory": _spec("workingDir", "data", "begin it with /"),
    "a path too long": _spec("workingDir", "/" + "a" * 4096, "at most 4096"),
    "a NUL in an argument": _spec("args", ["a\0b"], "NUL", "args[0]"),
    "a NUL in a path": _spec("rootfs", {"path": "/a\0"}, "NUL", "rootfs.path"),
    "an argument too long": _spec("args", ["a" * 131072], "at most 131071", "args[0]"),
    "too many words": _spec("command", ["a"] * 1025, "has 1025 entries; write at most 1024"),
    "an empty name of a variable": _spec("env", [{"name": ""}], "printable ASCII", "env[0].name"),
    "an equals sign in a name": _spec("env", [{"name": "A=B"}], "printable ASCII", "env[0].name"),
    "a name that is not ASCII": _spec("env", [{"name": "Ä"}], "printable ASCII", "env[0].name"),
    "a line end after a name": _spec("env", [{"name": "A\n"}], "printable ASCII", "env[0].name"),
    "a signal without SIG": _spec("lifecycle.stopSignal", "USR1", "write one as SIGUSR1"),
    "a signal that there is not": _spec("lifecycle.stopSignal", "SIGRTMIN+16", "write one as SIGUSR1"),
    "a hook that comes later": _spec("lifecycle.preStop", {"sleep": {"seconds": 1}}, "not supported by this version"),
    "a negative grace period": _spec("terminationGracePeriodSeconds", -1, "greater than or equal to 0"),
    "a grace period of more than a year": _spec("terminationGracePeriodSeconds", 31536001, "less than or equal to"),
    "a negative user": _spec(f"{_SECURITY}.runAsUser", -1, "greater than or equal to 0"),
    "a group that Linux lacks": _spec(f"{_SECURITY}.runAsGroup", 2**31, "less than or equal to 2147483647"),
    "a host name in capitals": _spec("hostname", "Web", "begin and end it"),
    "a host name with a dot": _spec("hostname", "web.local", "begin and end it"),
    "a host name too long": _spec("hostname", "a" * 64, "at most 63"),
    "a handler in capitals": _spec("runtimeHandler", "Kata", "begin and end it"),
    "a handler that is a path": _spec("runtimeHandler", "/usr/bin/runc", "begin and end it"),
    "a handler too long": _spec("runtimeHandler", "a" * 64, "at most 63"),
    "another network": _spec("network", {"mode": "Bridge"}, "'Host' or 'None'", "network.mode"),
    "another seccomp profile": _spec(
        f"{_SECURITY}.seccompProfile",
        {"type": "Localhost"},
        "'RuntimeDefault' or 'Unconfined'",
        f"{_SECURITY}.seccompProfile.type",
    ),
    "a capability that Linux lacks": _spec(
        f"{_SECURITY}.capabilities", {"add": ["FLY"]}, "write one such as NET_ADMIN", f"{_SECURITY}.capabilities.add[0]"
    ),
    "a capability in lower case": _spec(
        f"{_SECURITY}.capabilities",
        {"drop": ["ALL", "chown"]},
        "write one such as NET_ADMIN",
        f"{_SECURITY}.capabilities.drop[1]",
    ),
    "one log file": _spec("logRotation.maxFiles", 1, "greater than or equal to 2"),
    "a hundred and one log files": _spec("logRotation.maxFiles", 101, "less than or equal to 100"),
    # quantities
    "an unknown suffix": _spec(f"{_LIMITS}.memory", "64MB", "write a number with a suffix"),
    "a quantity of words": _spec(f"{_LIMITS}.cpu", "two", "write a number with a suffix"),
    "an empty quantity": _spec(f"{_LIMITS}.cpu", "", "write a number with a suffix"),
    "a line end after a quantity": _spec(f"{_LIMITS}.memory", "1\n", "write a number with a suffix"),
    "a quantity too long": _spec(f"{_LIMITS}.memory", "0" * 65, "write a number with a suffix"),
    "a negative quantity": _spec(f"{_LIMITS}.memory", "-1", "write a number with a suffix"),
    "a negative number": _spec(f"{_LIMITS}.cpu", -1, "write a number with a suffix"),
    "a fraction without quotes": _spec(f"{_LIMITS}.cpu", 0.5, "quote it"),
    "a boolean quantity": _spec(f"{_LIMITS}.cpu", True, "must be a quantity"),
    "more memory than there is": _spec(f"{_LIMITS}.memory", "1e30", "at most 1Ei"),
    "more memory than there is, as a number": _spec(f"{_LIMITS}.memory", 2**62, "at most 1Ei"),
    "swap without memory": _spec(_LIMITS, {"swap": "1Gi"}, "give limits.memory too", f"{_LIMITS}.swap"),
    "huge pages of a size that is none": _spec(f"{_LIMITS}.hugepages-4Mi", 1, "did you mean hugepages-2Mi?"),
    "huge pages asked for": _spec("resources.requests.hugepages-2Mi", 1, "is not a field here"),
    "huge pages in words": _spec(f"{_LIMITS}.hugepages-1Gi", "some", "write a number with a suffix"),
    "no processes": _spec(f"{_LIMITS}.pids", 0, "greater than or equal to 1"),
    "more processes than Linux has": _spec(f"{_LIMITS}.pids", 4194305, "less than or equal to 4194304"),
    "processes by the thousand": _spec(f"{_LIMITS}.pids", "1k", "must be a whole number"),
    "CPUs in words": _spec("resources.cpuset.cpus", "all", "write them as 0-3,5"),
    "no CPUs": _spec("resources.cpuset.cpus", "", "write them as 0-3,5"),
    "CPUs as a number": _spec("resources.cpuset.cpus", 0, "quote it"),
    "CPUs backwards": _spec("resources.cpuset.cpus", "0,3-1", "runs backwards"),
    "memory nodes with a line end": _spec("resources.cpuset.mems", "0\n", "write them as 0-3,5"),
    "a CPU of five digits": _spec("resources.cpuset.cpus", "10000", "write them as 0-3,5"),
    "a list of CPUs too long": _spec("resources.cpuset.cpus", ",".join(["1000"] * 52), "at most 256"),
    "a weight of 9": _spec("resources.io.weight", 9, "greater than or equal to 10"),
    "a weight of 1001": _spec("resources.io.weight", 1001, "less than or equal to 1000"),
    "a disk without a limit": _spec(_IO, [{"path": "/dev/sda"}], "limits nothing", f"{_IO}[0].path"),
    "a disk without a path": _spec(_IO, [{"readIops": 1}], "is required", f"{_IO}[0].path"),
    "a disk by name": _spec(_IO, [{"path": "sda", "readIops": 1}], "begin it with /", f"{_IO}[0].path"),
    "no bytes a second": _spec(_IO, [{"path": "/dev/sda", "readBps": 0}], "at least 1", f"{_IO}[0].readBps"),
    "half a byte a second": _spec(_IO, [{"path": "/dev/sda", "writeBps": "1m"}], "at least 1", f"{_IO}[0].writeBps"),
    "no writes a second": _spec(_IO, [{"path": "/dev/sda", "writeIops": 0}], "equal to 1", f"{_IO}[0].writeIops"),
    "the same disk twice": _spec(
        _IO,
        [{"path": "/dev/sda", "readIops": 1}, {"path": "/dev/sda", "writeIops": 1}],
        "a second time; keep one",
        f"{_IO}[1].path",
    ),
    "compression by a word": _spec("logRotation.compress", "gzip", "must be true or false"),
    "a tiny log": _spec("logRotation.maxSize", "1k", "at least 4Ki"),
    "a tiny log, as a number": _spec("logRotation.maxSize", 100, "at least 4Ki"),
    # contradictions
    "no program": _spec("command", [], "give the program to run in command"),
    "the same variable twice": _spec(
        "env", [{"name": "A"}, {"name": "B"}, {"name": "A"}], "a second time; keep one", "env[2].name"
    ),
    "more CPU asked for than allowed": _spec(
        "resources",
        {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}},
        "more than limits.cpu 1500m",
        "resources.requests.cpu",
    ),
    "more memory asked for than allowed": _spec(
        "resources",
        {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}},
        "lower it or raise the limit",
        "resources.requests.memory",
    ),
    "not root, but user 0": _spec(
        _SECURITY, {"runAsNonRoot": True, "runAsUser": 0}, "contradicts runAsUser 0", f"{_SECURITY}.runAsNonRoot"
    ),
    "privileged, but may not gain": _spec(
        _SECURITY,
        {"privileged": True, "allowPrivilegeEscalation": False},
        "contradicts privileged",
        f"{_SECURITY}.allowPrivilegeEscalation",
    ),
}
for _name, _spec_of in {
    "two networks": {"hostNetwork": True, "network": {"mode": "None"}},
    "two networks, one by default": {"hostNetwork": True, "network": {}},
}.items():
    INVALID[_name] = Invalid("spec", VALID["spec"] | _spec_of, "drop one of them", "spec.hostNetwork")
