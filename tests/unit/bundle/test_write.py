"""What lies in a bundle directory."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from oarlock.bundle.write import files, write


def test_the_configuration_is_for_root_alone(tmp_path: Path) -> None:
    write({"process": {"env": ["TOKEN=ü"]}}, tmp_path / "bundle")
    file = tmp_path / "bundle/config.json"
    assert json.loads(file.read_text()) == {"process": {"env": ["TOKEN=ü"]}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_container_sees_its_own_name(tmp_path: Path) -> None:
    found = files(tmp_path, hostname="web", host_network=False)
    assert set(found) == {"/etc/hostname", "/etc/hosts"}
    assert found["/etc/hostname"].read_text() == "web\n"
    assert "127.0.0.1\tlocalhost web\n" in found["/etc/hosts"].read_text()
    assert stat.S_IMODE(found["/etc/hosts"].stat().st_mode) == 0o644


def test_on_the_host_network_it_sees_the_nodes_files(tmp_path: Path) -> None:
    found = files(tmp_path, hostname="node", host_network=True)
    assert set(found) == {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
    assert found["/etc/hosts"].read_bytes() == Path("/etc/hosts").read_bytes()
