"""What an object's spec becomes in config.json."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oarlock.api.spec import Spec
from oarlock.bundle import capabilities, config
from oarlock.bundle.facts import CAPABILITIES, Device, Facts
from oarlock.bundle.users import User
from oarlock.errors import BundleError

FACTS = Facts(
    capabilities=frozenset(CAPABILITIES) - {"CAP_SYS_RESOURCE"},
    kernel=(6, 1),
    open_files=20_000,
    swap_accounting=True,
    memory_bytes=8 << 30,
    oom_score_adj=0,
)
ROOT = User(0, 0, (0,), "/root", "root")
APP = User(1000, 1001, (1001, 29), "/home/app", "app")


def spec(**fields: Any) -> Spec:
    given = {"nodeName": "n", "rootfs": {"path": "/srv/busybox"}, "command": ["sleep", "1"]} | fields
    return Spec.model_validate(given)


def made(user: User = ROOT, facts: Facts = FACTS, **fields: Any) -> dict[str, Any]:
    return config.config(
        spec(**fields),
        hostname="web",
        cgroup_path="/oarlock/x",
        user=user,
        seccomp={"defaultAction": "SCMP_ACT_ERRNO"},
        facts=facts,
    )


def environment(found: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in found["process"]["env"])


def test_command_and_args_are_joined_and_their_variables_expanded() -> None:
    found = made(
        command=["echo", "$(WHO)"],
        args=["$$(WHO)", "$(NOBODY)", "$WHO", "$(WHO"],
        env=[{"name": "WHO", "value": "me"}],
    )
    assert found["process"]["args"] == ["echo", "me", "$(WHO)", "$(NOBODY)", "$WHO", "$(WHO"]


def test_args_alone_are_enough_and_nothing_at_all_is_refused() -> None:
    assert made(command=[], args=["id"])["process"]["args"] == ["id"]
    with pytest.raises(ValidationError, match="give the program to run in command"):
        made(command=[], args=[])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"args": ["a", "é" * 65536]}, "spec.args[1]"),
        ({"command": ["x" * 131071], "env": [{"name": "A", "value": "x" * 131071}]}, "spec.env[0].value"),
        (
            {"env": [{"name": f"E{n}", "value": f"$(E{n - 1})$(E{n - 1})" if n else "xx"} for n in range(64)]},
            "spec.env[16].value",
        ),
        ({"env": [{"name": f"E{n}", "value": "$(E0)" if n else "x" * 131000} for n in range(64)]}, "spec.env"),
    ],
)
def test_what_is_too_long_for_the_kernel_is_told_with_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BundleError) as told:
        made(**fields)
    assert str(told.value).startswith(f"{field}: ")


def test_the_environment_has_defaults_which_the_spec_may_replace() -> None:
    assert environment(made()) == {"PATH": config.PATH, "HOSTNAME": "web", "HOME": "/root"}
    assert environment(made(tty=True))["TERM"] == "xterm"
    found = environment(
        made(env=[{"name": "HOME", "value": "/x"}, {"name": "PATH", "value": "/bin"}, {"name": "EMPTY"}])
    )
    assert found == {"PATH": "/bin", "HOSTNAME": "web", "HOME": "/x", "EMPTY": ""}


def test_a_variable_sees_those_before_it() -> None:
    found = environment(
        made(
            env=[
                {"name": "B", "value": "$(A)"},
                {"name": "A", "value": "1"},
                {"name": "C", "value": "$(A)$(A)"},
                {"name": "D", "value": "$(HOME)"},
            ]
        )
    )
    assert {name: found[name] for name in "ABCD"} == {"A": "1", "B": "$(A)", "C": "11", "D": "$(HOME)"}


def test_root_holds_the_default_capabilities_and_can_gain_no_others() -> None:
    process = made()["process"]
    assert set(process["capabilities"]["effective"]) == capabilities.DEFAULT
    assert process["capabilities"]["effective"] == process["capabilities"]["bounding"]
    assert process["noNewPrivileges"] is True


def test_another_user_holds_no_capability() -> None:
    found = made(user=APP)["process"]
    assert found["capabilities"]["effective"] == found["capabilities"]["permitted"] == []
    assert "ambient" not in found["capabilities"]
    assert set(found["capabilities"]["bounding"]) == capabilities.DEFAULT
    assert found["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [1001, 29], "umask": 0o022}


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"add": ["NET_ADMIN"]}, capabilities.DEFAULT | {"CAP_NET_ADMIN"}),
        (
            {"add": ["CAP_SYS_TIME"], "drop": ["KILL"]},
            (capabilities.DEFAULT | {"CAP_SYS_TIME"}) - {"CAP_KILL"},
        ),
        ({"drop": ["ALL"]}, frozenset()),
        ({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, {"CAP_NET_BIND_SERVICE"}),
        ({"add": ["ALL"]}, FACTS.capabilities),
        ({"add": ["ALL"], "drop": ["SYS_ADMIN"]}, FACTS.capabilities - {"CAP_SYS_ADMIN"}),
    ],
)
def test_capabilities_are_added_and_dropped(lists: dict[str, list[str]], expected: frozenset[str]) -> None:
    found = made(securityContext={"capabilities": lists})
    assert set(found["process"]["capabilities"]["bounding"]) == expected


def test_a_capability_that_the_operator_lacks_is_refused_by_name() -> None:
    with pytest.raises(BundleError, match=r"capabilities\.add: the operator does not have CAP_SYS_RESOURCE"):
        made(securityContext={"capabilities": {"add": ["SYS_RESOURCE"]}})


def test_no_new_privileges_only_goes_when_asked_for() -> None:
    for context, expected in (
        ({"allowPrivilegeEscalation": True}, False),
        ({"allowPrivilegeEscalation": False}, True),
        ({"privileged": True}, False),
        ({}, True),
    ):
        assert made(securityContext=context)["process"]["noNewPrivileges"] is expected


def test_limits_stay_within_what_the_operator_may_give() -> None:
    (limit,) = made()["process"]["rlimits"]
    assert limit == {"type": "RLIMIT_NOFILE", "soft": 20_000, "hard": 20_000}
    (limit,) = made(facts=dataclasses.replace(FACTS, open_files=1 << 30))["process"]["rlimits"]
    assert limit["hard"] == config.OPEN_FILES
    assert made(facts=dataclasses.replace(FACTS, oom_score_adj=1000))["process"]["oomScoreAdj"] == 1000


def test_the_root_filesystem_is_read_only_by_either_field() -> None:
    assert made()["root"] == {"path": "rootfs", "readonly": False}
    assert made(rootfs={"path": "/x", "readOnly": True})["root"]["readonly"]
    assert made(securityContext={"readOnlyRootFilesystem": True})["root"]["readonly"]


def test_the_working_directory_is_the_root_unless_given() -> None:
    assert made()["process"]["cwd"] == "/"
    assert made(workingDir="/srv/app")["process"]["cwd"] == "/srv/app"


def test_only_the_host_network_is_without_a_network_namespace() -> None:
    kinds = {entry["type"] for entry in made()["linux"]["namespaces"]}
    assert kinds == {"pid", "ipc", "uts", "mount", "cgroup", "network"}
    for fields in ({"hostNetwork": True}, {"network": {"mode": "Host"}}):
        found = made(**fields)
        assert {entry["type"] for entry in found["linux"]["namespaces"]} == kinds - {"network"}
        assert found["linux"]["sysctl"] == {}, "the node's own settings must not be written"


def test_only_the_host_pid_is_without_a_pid_namespace() -> None:
    own, host = made()["linux"], made(hostPID=True)["linux"]
    assert [entry for entry in own["namespaces"] if entry not in host["namespaces"]] == [{"type": "pid"}]
    assert host["maskedPaths"] == own["maskedPaths"]
    assert host["readonlyPaths"] == own["readonlyPaths"]


def test_the_node_is_hidden_and_read_only() -> None:
    found = made(facts=dataclasses.replace(FACTS, masked=("/sys/devices/system/cpu/cpu0/thermal_throttle",)))
    options = {entry["destination"]: entry["options"] for entry in found["mounts"]}
    assert "ro" in options["/sys"]
    assert "ro" in options["/sys/fs/cgroup"]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(found["linux"]["maskedPaths"])
    assert "/sys/devices/system/cpu/cpu0/thermal_throttle" in found["linux"]["maskedPaths"]
    assert {"/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup"} <= set(found["linux"]["readonlyPaths"])
    assert found["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert not any("rbind" in entry["options"] for entry in found["mounts"])


def test_files_are_bound_read_only() -> None:
    found = config.config(
        spec(),
        hostname="web",
        cgroup_path="/x",
        user=ROOT,
        seccomp=None,
        facts=FACTS,
        files={"/etc/hosts": Path("/run/b/hosts")},
    )
    bound = found["mounts"][-1]
    assert (bound["destination"], bound["source"]) == ("/etc/hosts", "/run/b/hosts")
    assert {"bind", "ro"} <= set(bound["options"])
    assert "seccomp" not in found["linux"]


def test_the_profile_goes_for_unconfined_and_privileged_containers_only() -> None:
    assert "seccomp" in made()["linux"]
    assert "seccomp" in made(securityContext={"seccompProfile": {"type": "RuntimeDefault"}})["linux"]
    assert "seccomp" not in made(securityContext={"seccompProfile": {"type": "Unconfined"}})["linux"]
    assert "seccomp" not in made(securityContext={"privileged": True})["linux"]


def test_a_privileged_container_gets_what_the_operator_has() -> None:
    found = config.config(
        spec(securityContext={"privileged": True}),
        hostname="web",
        cgroup_path="/x",
        user=ROOT,
        seccomp=None,
        facts=FACTS,
        devices=[Device("/dev/fuse", "c", 10, 229, 0o666, 0, 0)],
    )
    assert set(found["process"]["capabilities"]["effective"]) == FACTS.capabilities
    assert found["linux"]["maskedPaths"] == found["linux"]["readonlyPaths"] == []
    assert found["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    (device,) = found["linux"]["devices"]
    assert (device["path"], device["type"], device["major"], device["minor"]) == ("/dev/fuse", "c", 10, 229)


def test_a_container_without_privileges_gets_no_device_of_the_node() -> None:
    found = config.config(
        spec(),
        hostname="web",
        cgroup_path="/x",
        user=ROOT,
        seccomp=None,
        facts=FACTS,
        devices=[Device("/dev/fuse", "c", 10, 229, 0o666, 0, 0)],
    )
    assert "devices" not in found["linux"]


@pytest.mark.parametrize(
    ("resources", "cpu"),
    [
        ({}, {"shares": 2}),
        ({"requests": {"cpu": "500m"}}, {"shares": 512}),
        ({"requests": {"cpu": "1m"}}, {"shares": 2}),
        ({"limits": {"cpu": "2"}}, {"shares": 2048, "period": 100_000, "quota": 200_000}),
        ({"limits": {"cpu": "1m"}}, {"shares": 2, "period": 100_000, "quota": 1_000}),
        (
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "250m"}},
            {"shares": 102, "period": 100_000, "quota": 25_000},
        ),
    ],
)
def test_cpu_is_counted_as_the_kubelet_counts_it(resources: dict[str, Any], cpu: dict[str, int]) -> None:
    assert made(resources=resources)["linux"]["resources"]["cpu"] == cpu


def test_a_memory_limit_counts_swap_where_the_kernel_can() -> None:
    fields: dict[str, Any] = {"resources": {"limits": {"memory": "64Mi"}}}
    assert made(**fields)["linux"]["resources"]["memory"] == {"limit": 64 << 20, "swap": 64 << 20}
    without = dataclasses.replace(FACTS, swap_accounting=False)
    assert made(facts=without, **fields)["linux"]["resources"]["memory"] == {"limit": 64 << 20}
    assert "memory" not in made()["linux"]["resources"]


@pytest.mark.parametrize(
    ("resources", "score"),
    [
        ({}, 1000),
        ({"requests": {"cpu": "1"}}, 999),
        ({"requests": {"memory": "4096Mi"}}, 500),
        ({"limits": {"memory": "16384Mi"}}, 2),
        ({"requests": {"memory": "1Mi"}}, 999),
    ],
)
def test_who_asks_for_less_memory_is_killed_first(resources: dict[str, Any], score: int) -> None:
    assert made(resources=resources)["process"]["oomScoreAdj"] == score
