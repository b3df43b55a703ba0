"""Valid specs with any of the fields, for property tests."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from oarlock.api.capabilities import CAPABILITIES
from tests.unit.api.invalid import VALID

BASE: dict[str, Any] = VALID["spec"]

words = st.text("abc/= $()", max_size=6)
quantities = st.one_of(st.integers(1, 2**40), st.from_regex(r"\A[1-9][0-9]{0,3}(m|k|Mi)?\Z"))
rates = st.one_of(st.integers(1, 2**40), st.from_regex(r"\A[1-9][0-9]{0,3}(k|Mi)?\Z"))
paths = words.map(lambda word: "/" + word)
names = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,5}[a-z0-9])?\Z")
ids = st.integers(0, 2147483647)
capabilities = st.lists(st.sampled_from(sorted(CAPABILITIES)), max_size=3)
amounts = st.fixed_dictionaries({}, optional={"cpu": quantities, "memory": quantities})
limits = st.one_of(
    amounts,
    st.fixed_dictionaries(
        {"memory": quantities},
        optional={
            "swap": quantities,
            "hugepages-2Mi": quantities,
            "hugepages-1Gi": quantities,
            "pids": st.integers(1, 2**22),
        },
    ),
)
ranges = st.lists(st.sampled_from(["0", "1-3", "12", "0007", "100-1000"]), min_size=1, max_size=4).map(",".join)
disks = st.fixed_dictionaries(
    {"path": st.sampled_from(["/dev/sda", "/dev/vdb", "/dev/disk/by-id/x"]), "readIops": st.integers(1, 2**32 - 1)},
    optional={"readBps": rates, "writeBps": rates, "writeIops": st.integers(1, 2**32 - 1)},
)
LEAVES: dict[tuple[str, ...], st.SearchStrategy[Any]] = {
    ("rootfs", "path"): paths,
    ("rootfs", "readOnly"): st.booleans(),
    ("command",): st.lists(words, min_size=1, max_size=3),
    ("args",): st.lists(words, max_size=3),
    ("workingDir",): paths,
    ("env",): st.lists(
        st.fixed_dictionaries({"name": st.sampled_from("ABC")}, optional={"value": words}),
        unique_by=lambda variable: variable["name"],
        max_size=3,
    ),
    ("resources", "limits"): limits,
    ("resources", "cpuset", "cpus"): ranges,
    ("resources", "cpuset", "mems"): ranges,
    ("resources", "io", "weight"): st.integers(10, 1000),
    ("resources", "io", "devices"): st.lists(disks, unique_by=lambda disk: disk["path"], max_size=3),
    ("resources", "requests"): st.just({}),
    ("securityContext", "runAsUser"): st.integers(1, 2**31 - 1),
    ("securityContext", "runAsGroup"): ids,
    ("securityContext", "runAsNonRoot"): st.booleans(),
    ("securityContext", "readOnlyRootFilesystem"): st.booleans(),
    ("securityContext", "allowPrivilegeEscalation"): st.just(True),
    ("securityContext", "privileged"): st.booleans(),
    ("securityContext", "capabilities", "add"): capabilities,
    ("securityContext", "capabilities", "drop"): capabilities,
    ("securityContext", "seccompProfile", "type"): st.sampled_from(["RuntimeDefault", "Unconfined"]),
    ("tty",): st.booleans(),
    ("stdin",): st.booleans(),
    ("stdinOnce",): st.booleans(),
    ("hostNetwork",): st.booleans(),
    ("network", "mode"): st.just("Host"),
    ("hostname",): names,
    ("trusted",): st.booleans(),
    ("runtimeHandler",): names,
    ("hostPID",): st.booleans(),
    ("nodeName",): names,
    ("state",): st.sampled_from(["Running", "Stopped", "Paused"]),
    ("restartPolicy",): st.sampled_from(["Always", "OnFailure", "Never"]),
    ("lifecycle", "stopSignal"): st.sampled_from(["SIGTERM", "SIGUSR1", "SIGRTMIN", "SIGRTMIN+15", "SIGRTMAX-14"]),
    ("terminationGracePeriodSeconds",): st.integers(0, 3600),
    ("logRotation", "maxSize"): st.integers(4096, 2**40),
    ("logRotation", "maxFiles"): st.integers(2, 100),
    ("logRotation", "compress"): st.booleans(),
}


def put(spec: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *way, last = path
    for part in way:
        spec = spec.setdefault(part, {})
    spec[last] = value


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Valid specs with any of the fields."""
    spec = copy.deepcopy(BASE)
    for path in draw(st.lists(st.sampled_from(sorted(LEAVES)), unique=True)):
        put(spec, path, draw(LEAVES[path]))
    return spec
