"""What all figures share: a control plane, a node with its operator, the floor and the outsiders."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.floor import Floor, floor
from benchmarks.observing import Api, ApiWatch
from oarlock.linux.mount import mount_tmpfs
from tests.busybox import make_rootfs
from tests.cluster.control_plane import ControlPlane
from tests.cluster.serving import CRD, RBAC
from tests.node_dirs import node_directories
from tests.operating import Operator, container, eventually

_POSTERS = 4
_SETTLED = 1.0
_RUN_SIZE = 512 << 20


@dataclass(slots=True)
class Setting:
    """One node in one cluster.

    Attributes:
        operator: runs; a figure that restarts it puts the new one here.
        standing: the names of the containers that run and stay.
    """

    cluster: ControlPlane
    operator: Operator
    options: tuple[str, ...]
    floor: Floor
    watch: ApiWatch
    api: Api
    rootfs: Path
    standing: list[str]
    rss_empty: int = 0

    @property
    def pid(self) -> int:
        """The operator's."""
        assert self.operator.process is not None
        return self.operator.process.pid

    def places(self) -> dict[str, str]:
        """The variables that lead the command to this node."""
        dirs = self.operator.dirs
        return {"OARLOCK_STATE_DIR": str(dirs.state), "OARLOCK_RUN_DIR": str(dirs.run)}

    def sleeper(self, name: str) -> dict[str, Any]:
        """An object whose container sleeps for ever."""
        fields = {"terminationGracePeriodSeconds": 0, "nodeName": "node-a"}
        return container(name, self.rootfs, "sleep", "1000000", **fields)

    def stand(self, count: int) -> float:
        """Have `count` sleepers run that stay: the missing ones are created at once. Returns their rate per second,
        from the first POST until the watcher has seen the last of them Running."""
        names = [f"standing-{number:03d}" for number in range(len(self.standing), count)]
        rate = self.create_at_once([self.sleeper(name) for name in names]) if names else 0.0
        self.standing += names
        return rate

    def create_at_once(self, objects: Sequence[dict[str, Any]]) -> float:
        """Create all objects as quickly as a few clients can; as `stand`."""
        bodies = [json.dumps(each).encode() for each in objects]
        apis = [Api(self.cluster) for _ in range(_POSTERS)]

        def post(number: int) -> None:
            for body in bodies[number::_POSTERS]:
                apis[number].create(body)

        began = time.monotonic()
        threads = [threading.Thread(target=post, args=(number,)) for number in range(_POSTERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = [self.watch.wait(each["metadata"]["name"], running) for each in objects]
        for api in apis:
            api.close()
        return len(objects) / (max(seen) - began)

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects, and wait until the watcher has seen them go and their records are gone."""
        for name in names:
            self.api.delete(name)
        for name in names:
            self.watch.wait(name, deleted)
        gone = set(names)
        eventually(lambda: not gone & set(self.operator.records()), "the records are gone")


def running(_kind: str, status: Any) -> bool:
    """The object runs."""
    return bool(status.get("phase") == "Running")


def deleted(kind: str, _status: Any) -> bool:
    """The object is gone."""
    return kind == "DELETED"


def rss(pid: int) -> int:
    """Resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} tells no VmRSS")


@contextlib.contextmanager
def setting(say: Callable[[str], None]) -> Iterator[Setting]:
    """Start everything; at the end nothing is left."""
    with contextlib.ExitStack() as held:
        say("starting etcd, kube-apiserver and the operator")
        cluster = held.enter_context(ControlPlane())
        cluster.apply_crd(CRD)
        cluster.kubectl("apply", "-f", "-", input=RBAC)
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="oar-rootfs-", dir="/var/tmp"))
        rootfs = Path(folder) / "busybox"
        rootfs.mkdir()
        make_rootfs(rootfs)
        dirs = held.enter_context(node_directories())
        dirs.run.mkdir(mode=0o700)
        mount_tmpfs(dirs.run, _RUN_SIZE, 0o700)  # as /run is
        options = ("--kubeconfig", str(cluster.kubeconfig("oarlock")))
        by_hand = held.enter_context(floor(dirs.state, dirs.run / "floor"))
        watch = held.enter_context(ApiWatch(cluster))
        api = held.enter_context(contextlib.closing(Api(cluster)))
        operator = Operator(dirs, *options)
        made = Setting(cluster, operator, options, by_hand, watch, api, rootfs, [])
        held.callback(lambda: made.operator.kill())
        operator.start()
        operator.wait_ready()
        _await_watch(made)
        made.rss_empty = rss(made.pid)
        yield made


def _await_watch(made: Setting) -> None:
    """The operator serves the API: an object that runs nothing gets its status, and goes."""
    probe = copy.deepcopy(made.sleeper("probe"))
    probe["spec"]["state"] = "Stopped"
    made.api.create(json.dumps(probe).encode())
    made.watch.wait("probe", lambda _, status: status.get("phase") == "Stopped")
    made.delete(["probe"])
    time.sleep(_SETTLED)


def command() -> str:
    """The path of the installed `oarlock`."""
    return str(Path(sys.executable).with_name("oarlock"))
