"""`make run`: the first thing that a new user sees, and its way out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE

ROOT = Path(__file__).parents[2]


def demo(dirs: NodeDirs, *arguments: str) -> str:
    """What scripts/demo prints, with a place and cgroups of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "OARLOCK_DEMO": str(dirs.root / "demo"),
        "OARLOCK_DEMO_SECONDS": f"{6 * PATIENCE:.0f}",
        "OARLOCK_CGROUP_MANAGER": node_cgroups.MANAGER,
        "OARLOCK_CGROUP_PARENT": dirs.cgroup_parent,
        "OARLOCK_RUNTIME_TRUSTED": node_cgroups.RUNTIME,
    }
    done = subprocess.run(
        [ROOT / "scripts" / "demo", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_run_go_on_and_are_removed(node_dirs: NodeDirs) -> None:
    subprocess.run([ROOT / "examples" / "make-rootfs"], check=True, capture_output=True, timeout=60 * PATIENCE)
    told = demo(node_dirs)
    rows = {fields[1]: fields[2:5] for line in told.splitlines() if (fields := line.split())[:1] == ["default"]}
    assert rows["clock"][:2] == ["Running", "Running"]
    assert Path(f"/proc/{rows['clock'][2]}").exists()
    assert "OOMKilled" in told
    assert "scripts/demo --remove" in told
    demo(node_dirs, "--remove")
    assert not Path(f"/proc/{rows['clock'][2]}").exists()
    assert not (node_dirs.root / "demo").exists()
    assert node_cgroups.containers(node_dirs.cgroup) == (set(), set())
