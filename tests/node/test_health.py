"""The health endpoint of a real operator: that it lives, that containers can run, and what it tells whom."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import oarlock
from tests import node_cgroups
from tests.cluster.processes import free_port
from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE, Operator, container, eventually, operating


class _Unix(http.client.HTTPConnection):
    """HTTP over a socket that has a path."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def get(address: str, page: str) -> tuple[int, str]:
    """Status and body of a page; (0, "") while nobody listens."""
    local = address.startswith("unix:")
    connection = _Unix(address.removeprefix("unix:")) if local else http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (ConnectionRefusedError, FileNotFoundError):
        return 0, ""
    finally:
        connection.close()


def ready(address: str) -> tuple[int, dict[str, Any]]:
    status, text = get(address, "/readyz")
    return status, json.loads(text) if text else {}


def conditions(told: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in told["conditions"]}


def runtime_of(path: Path, *lines: str) -> None:
    """An OCI runtime that is this script, put in place by a rename."""
    path.with_suffix(".new").write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.with_suffix(".new").chmod(0o755)
    path.with_suffix(".new").rename(path)


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


def test_a_node_that_can_run_containers_is_ready_and_says_by_what(
    node_dirs: NodeDirs, busybox_rootfs: Path, address: str
) -> None:
    with operating(node_dirs, "--health-address", address) as operator:
        operator.apply(
            container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0),
            container("job", busybox_rootfs, "sh", "-c", "exit 3", restartPolicy="Never"),
        )
        operator.wait("web", lambda s: s["phase"] == "Running")
        operator.wait("job", lambda s: s["phase"] == "Failed")
        assert get(address, "/healthz") == (200, "ok\n")
        status, told = ready(address)
        assert status == 200
        assert conditions(told) == {
            "RuntimeReady": ("True", "ChecksPassed"),
            "NetworkReady": ("True", "ChecksPassed"),
        }
        assert (told["node"], told["ready"], told["kernel"]) == ("node-a", True, os.uname().release)
        assert told["versions"]["oarlock"] == oarlock.__version__
        assert all(told["versions"][name] for name in ("conmon", node_cgroups.RUNTIME))
        assert told["containers"] == {"Running": 1, "Failed": 1}
        assert told["sources"] == {"manifests": {"present": True, "problems": 0}}
        assert told["cgroups"]["version"] in (1, 2)
        assert told["cgroups"]["manager"] in ("cgroupfs", "systemd")
        assert get(address, "/")[0] == 404
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not operator.records(), "nothing is left")
        assert ready(address)[1]["containers"] == {}
        assert operator.stop() == 0


def test_a_runtime_that_breaks_makes_the_node_not_ready_until_it_is_whole_again(
    node_dirs: NodeDirs, address: str, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    runtime_of(runtime, "exit 3")
    with operating(node_dirs, "--health-address", address, "--runtime-trusted", str(runtime)) as operator:
        operator.wait_ready()
        status, told = ready(address)
        assert status == 503
        assert conditions(told)["RuntimeReady"] == ("False", "RuntimeTrustedFailed")
        assert conditions(told)["NetworkReady"][0] == "True"
        assert "RuntimeReady is False: runtime-trusted: " in operator.log()
        assert get(address, "/healthz")[0] == 200
        runtime_of(runtime, 'exec runc "$@"')
        eventually(lambda: ready(address)[0] == 200, "ready again")
        assert "the node is ready for containers again" in operator.log()


@pytest.mark.parametrize(
    ("dropped", "broken"),
    [
        ("net_admin", {"RuntimeReady": "CapabilitiesFailed", "NetworkReady": "NetworkFailed"}),
        ("mknod", {"RuntimeReady": "CapabilitiesFailed"}),
    ],
)
def test_a_node_without_a_right_is_not_ready(node_dirs: NodeDirs, dropped: str, broken: dict[str, str]) -> None:
    done = subprocess.run(
        ["setpriv", f"--bounding-set=-{dropped}", sys.executable, "-m", "oarlock", "doctor", "-o", "json"],
        env=Operator(node_dirs).environment,
        capture_output=True,
        timeout=60 * PATIENCE,
    )
    told = conditions(json.loads(done.stdout))
    assert (done.returncode, {name: reason for name, (status, reason) in told.items() if status != "True"}) == (
        1,
        broken,
    )


def test_a_state_directory_that_cannot_last_makes_the_node_not_ready(node_dirs: NodeDirs) -> None:
    done = Operator(node_dirs).command("doctor", "-o", "json", "--state-dir", "/dev/shm/oarlock", check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, conditions(told)["RuntimeReady"]) == (1, ("False", "StateDirFailed"))
    assert conditions(told)["NetworkReady"][0] == "True"


def test_a_runtime_that_hangs_keeps_neither_the_loop_nor_the_end_of_the_operator(
    node_dirs: NodeDirs, address: str, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    runtime_of(runtime, "exec sleep 60")
    with operating(node_dirs, "--health-address", address, "--runtime-trusted", str(runtime)) as operator:
        operator.wait_ready()
        assert get(address, "/healthz") == (200, "ok\n")  # while the first look waits for the runtime
        status, told = ready(address)
        assert status == 503
        assert "gave no answer" in {each["type"]: each["message"] for each in told["conditions"]}["RuntimeReady"]
        time.sleep(5.1)  # the next one who asks makes it look again
        asked = subprocess.Popen([sys.executable, "-c", ASK.format(address=address)])
        try:
            assert operator.stop() == 0
        finally:
            asked.kill()
            asked.wait()


ASK = "import urllib.request; urllib.request.urlopen('http://{address}/readyz')"


def test_it_looks_when_asked_and_then_not_for_a_minute(node_dirs: NodeDirs, address: str, tmp_path: Path) -> None:
    runtime, calls = tmp_path / "runtime", tmp_path / "calls"
    runtime_of(runtime, f'echo "$*" >> {calls}; exec runc "$@"')
    with operating(node_dirs, "--health-address", address, "--runtime-trusted", str(runtime)) as operator:
        operator.wait_ready()
        answers = [ready(address) for _ in range(20)]
        assert {status for status, _ in answers} == {200}
        assert len({told["lookedAt"] for _, told in answers}) == 1
        told = calls.read_text().splitlines()
        assert (told.count("--version"), sum(" create " in each for each in told)) == (1, 1)


def test_a_socket_is_for_root_alone_and_a_stale_one_is_replaced(node_dirs: NodeDirs, tmp_path: Path) -> None:
    path = tmp_path / "health"
    address = f"unix:{path}"
    for start in (1, 2):
        with operating(node_dirs, "--health-address", address) as operator:
            operator.wait_ready(start)
            assert get(address, "/healthz") == (200, "ok\n")
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_an_address_that_is_taken_ends_the_start_and_touches_no_container(
    node_dirs: NodeDirs, busybox_rootfs: Path, address: str
) -> None:
    with operating(node_dirs) as operator:
        operator.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        pid = operator.wait("web", lambda s: s["phase"] == "Running")["pid"]
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        refused = Operator(node_dirs, "--health-address", address)
        refused.start()
        assert refused.ends() == 2
    assert f"--health-address {address}: Address already in use; give another address" in refused.log()
    assert Path(f"/proc/{pid}").exists()
    with operating(node_dirs) as operator:
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not operator.records(), "nothing is left")


@pytest.mark.parametrize(
    "wrong", ["10276", "localhost", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "unix:health", "unix:/" + "x" * 108]
)
def test_what_is_no_address_is_refused(node_dirs: NodeDirs, wrong: str) -> None:
    refused = Operator(node_dirs, "--health-address", wrong)
    done = refused.command("run", "--health-address", wrong, check=False)
    assert done.returncode == 2
    assert "--health-address" in done.stderr


def test_without_an_address_nothing_of_it_is_loaded(node_dirs: NodeDirs) -> None:
    with operating(node_dirs) as operator:
        operator.wait_ready()
        assert operator.process is not None
        maps = Path(f"/proc/{operator.process.pid}/maps").read_text()
        assert "aiohttp" not in maps
