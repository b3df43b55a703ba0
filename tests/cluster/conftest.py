"""What the tests of a whole operator share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.serving import Served, serve
from tests.node_dirs import NodeDirs
from tests.operating import census, eventually


@pytest.fixture
def served(cluster: ControlPlane, node_dirs: NodeDirs) -> Iterator[Served]:
    """A running operator; at the end its objects are deleted and gone, and so are their containers."""
    served = serve(cluster, node_dirs)
    try:
        yield served
        cluster.kubectl("delete", "cspec", "--all", "--timeout=60s")
        eventually(lambda: not served.node.records(), "every record is gone")
        assert census(node_dirs) == {kind: set() for kind in census(node_dirs)}
        assert served.node.process is not None
        assert served.node.process.poll() is None, served.node.log()
    finally:
        served.node.kill()
