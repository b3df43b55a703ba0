"""Which runtime runs a container, by its name and by its trust; and what `oarlock version` says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.node_cgroups import RUNTIME
from tests.node_dirs import NodeDirs
from tests.operating import Operator, container, eventually, left, operating

SLEEPER = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1000 & wait; done")


def usual() -> str:
    """The node's usual runtime."""
    found = shutil.which(RUNTIME)
    assert found is not None
    return found


def another(node_dirs: NodeDirs, name: str) -> Path:
    """The usual runtime under another name: one of its own as far as the operator is concerned."""
    path = node_dirs.root / name
    path.symlink_to(usual())
    return path


def recording(path: Path, words: str, calls: Path) -> None:
    """The usual runtime, which first writes these words, as a shell expands them, to a file at each call."""
    path.write_text(f'#!/bin/sh\necho "{words}" >> {calls}\nexec {usual()} "$@"\n')
    path.chmod(0o755)


def runtime_of(node: Operator, name: str) -> str:
    """The runtime in the arguments of a running container's monitor."""
    status = node.wait(name, lambda s: s["phase"] == "Running")
    arguments = Path(f"/proc/{status['monitorPID']}/cmdline").read_bytes().split(b"\0")
    return arguments[arguments.index(b"-r") + 1].decode()


def test_a_handler_chooses_the_runtime_whatever_the_trust(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    kata, sandbox = another(node_dirs, "kata-runtime"), another(node_dirs, "sandbox")
    options = ("--runtimes", f"kata={kata}", "--runtime-untrusted", str(sandbox))
    with operating(node_dirs, *options) as node:
        node.apply(
            container("plain", busybox_rootfs, *SLEEPER),
            container("named", busybox_rootfs, *SLEEPER, runtimeHandler="kata"),
            container("usual", busybox_rootfs, *SLEEPER, runtimeHandler=RUNTIME, trusted=False),
            container("theirs", busybox_rootfs, *SLEEPER, trusted=False),
        )
        found = {name: runtime_of(node, name) for name in ("plain", "named", "usual", "theirs")}
    assert found == {"plain": usual(), "named": str(kata), "usual": usual(), "theirs": str(sandbox)}


def test_an_unknown_handler_is_told_and_runs_once_the_operator_has_it(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    kata = another(node_dirs, "kata-runtime")
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER, runtimeHandler="kata"))
        told = node.wait("web", lambda s: s["reason"] == "Refused")
        assert told["phase"] == "Pending"
        assert told["message"] == (
            f"spec.runtimeHandler: kata is not a runtime of this node, which has {RUNTIME}; name one of them, "
            "or start the operator with --runtimes kata=PATH"
        )
        assert {each["type"]: each["status"] for each in told["conditions"]}["Stalled"] == "True"
        assert node.stop() == 0
    with operating(node_dirs, "--runtimes", f"kata={kata}") as node:
        assert runtime_of(node, "web") == str(kata)


def test_a_container_keeps_its_runtime_when_the_operator_has_others(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    kata = another(node_dirs, "kata-runtime")
    with operating(node_dirs, "--runtimes", f"kata={kata}") as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER, runtimeHandler="kata", terminationGracePeriodSeconds=20))
        before = node.wait("web", lambda s: s["phase"] == "Running")
        assert node.stop() == 0
    with operating(node_dirs) as node:
        node.wait_ready(2)
        assert node.status("web")["pid"] == before["pid"]
        assert runtime_of(node, "web") == str(kata)
        node.command("stop", "web")
        assert node.status("web")["exitCode"] == 7
        node.command("start", "web", "--no-wait")
        told = node.wait("web", lambda s: s["reason"] == "Refused")
        assert "spec.runtimeHandler: kata" in told["message"]


def test_a_missing_runtime_ends_the_start_and_is_named(node_dirs: NodeDirs) -> None:
    gone = node_dirs.root / "gone"
    node = Operator(node_dirs)
    for option, named in (("--runtime-trusted", str(gone)), ("--runtimes", f"kata={gone}"), ("--conmon", str(gone))):
        done = node.command("run", option, named, check=False)
        assert done.returncode in (1, 2)
        assert f"{gone} does not exist; install it or name it with {option}" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not node_dirs.state.exists()


def test_where_nothing_is_trusted_all_run_under_the_untrusted_runtime_and_without_a_pivot(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    """`trusted: true` is the default, so it says nothing more; what is privileged is in no sandbox."""
    calls, sandbox = node_dirs.root / "calls", node_dirs.root / "sandbox"
    recording(sandbox, "$*", calls)
    untrusted = ("--default-trust-level", "untrusted", "--runtime-untrusted", str(sandbox))
    allowed = ("--allow-privileged", "--allow-untrusted-privileged")
    with operating(node_dirs, *untrusted, *allowed, "--no-pivot") as node:
        node.apply(
            container("silent", busybox_rootfs, *SLEEPER),
            container("trusted", busybox_rootfs, *SLEEPER, trusted=True),
            container("privileged", busybox_rootfs, *SLEEPER, securityContext={"privileged": True}),
        )
        found = {name: runtime_of(node, name) for name in ("silent", "trusted", "privileged")}
        assert found == {"silent": str(sandbox), "trusted": str(sandbox), "privileged": usual()}
        assert node.command("exec", "silent", "--", "hostname").stdout == "silent\n"
        ids = {name: node.status(name)["containerID"].removeprefix("oarlock://") for name in ("silent", "trusted")}
    created = [line.split() for line in calls.read_text().splitlines() if " create " in line]
    assert sorted(words[-1] for words in created) == sorted(ids.values())
    assert all("--no-pivot" in words for words in created)


def test_conmon_and_its_runtime_have_the_environment_that_is_configured(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    seen, wrapper = node_dirs.root / "seen", node_dirs.root / "wrapper"
    recording(wrapper, "$DEPTH of $*", seen)
    given = ("--conmon-env", "DEPTH=a b", "--conmon-env", "TMPDIR=/var/tmp")
    with operating(node_dirs, "--runtime-trusted", str(wrapper), *given) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        monitor = node.wait("web", lambda s: s["phase"] == "Running")["monitorPID"]
        environment = dict(
            each.split("=", 1) for each in Path(f"/proc/{monitor}/environ").read_text().split("\0") if each
        )
        assert {name for name in environment if not name.startswith("_OCI_")} == {"PATH", "LC_ALL", "DEPTH", "TMPDIR"}
        node.command("exec", *given, "web", "--", "true")
        node.command("exec", *given, "--timeout", "20s", "web", "--", "true")
        assert node.command("exec", "web", "--", "env").stdout.count("DEPTH") == 0
        node.command("stop", "web")
        eventually(lambda: not left(node_dirs), "it is removed")
    calls = [line for line in seen.read_text().splitlines() if line.startswith("a b of ")]
    assert {verb for line in calls for verb in ("create", "start", "exec", "delete") if f" {verb} " in line} == {
        *("create", "start", "exec", "delete")
    }
    assert sum(" exec " in line for line in calls) == 2
    refused = Operator(node_dirs).command("run", "--conmon-env", "NOTIFY_SOCKET=/x", check=False)
    assert refused.returncode == 2
    assert "--conmon-env: NOTIFY_SOCKET would keep conmon or the runtime from answering" in refused.stderr


def test_version_asks_conmon_and_each_runtime(node_dirs: NodeDirs) -> None:
    kata, gone = another(node_dirs, "kata-runtime"), node_dirs.root / "gone"
    node = Operator(node_dirs)
    options = ("--runtimes", f"kata={kata}", "--runtimes", f"gone={gone}")
    lines = node.command("version", *options).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["oarlock", "conmon", RUNTIME, "kata", "gone"]
    assert lines[3].split()[1] == lines[2].split()[1]
    assert lines[4].startswith(f"gone unknown: --runtimes gone: {gone} does not exist; install it")
    told = json.loads(node.command("version", *options, "-o", "json").stdout)
    assert told["conmon"]["version"] == lines[1].split()[1]
    assert [each["name"] for each in told["runtimes"]] == [RUNTIME, "kata", "gone"]
    assert told["runtimes"][1] == {"name": "kata", "version": lines[3].split()[1], "path": str(kata)}
    assert told["runtimes"][2]["version"] is None
    doctor = node.command("doctor", *options, check=False).stdout
    assert f"{kata} {lines[3].split()[1]}" in doctor
    assert f"{gone} does not exist" in doctor
