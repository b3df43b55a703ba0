"""A node whose disk is full, as it is seen with kubectl."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.control_plane import ControlPlane
from tests.cluster.serving import Served, operator_of
from tests.node.test_hardship import fill, small_disk
from tests.node_dirs import NodeDirs
from tests.operating import container, left


def test_a_full_disk_is_a_condition_until_there_is_room(
    cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    with small_disk(node_dirs.state):
        node = operator_of(cluster, node_dirs)
        node.start()
        try:
            served = Served(cluster, node)
            served.apply(container("old", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
            old = served.wait("old", lambda s: s["phase"] == "Running")
            filler = fill(node_dirs.state)
            served.apply(container("new", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
            status = served.wait("new", lambda s: s["reason"] == "NodeFull")
            assert status["phase"] == "Pending"
            assert "No space left on device" in status["message"]
            told = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
            assert (told["Ready"], told["Reconciling"]) == (("False", "NodeFull"), ("True", "NodeFull"))
            assert served.object("old")["status"]["pid"] == old["pid"]
            filler.unlink()
            served.wait("new", lambda s: s["phase"] == "Running", 90)
            cluster.kubectl("delete", "cspec", "old", "new", "--timeout=60s")
            assert not left(node_dirs)
        finally:
            node.kill()
