"""Invalid manifests, all of the API's table at once: each is one clear error, and what is good goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.node_dirs import NodeDirs
from tests.operating import Operator, container, eventually, operating
from tests.unit.api.invalid import INVALID

DEFAULTED = "no node"
"""What the API demands and a manifest may leave out."""
REFUSED = {name: case for name, case in INVALID.items() if name != DEFAULTED}
BROKEN = {
    "tab.yaml": "spec:\n\tcommand: [x]\n",
    "cut.json": '{"apiVersion": "oarlock.dev/v1alpha1", "kind": ',
    "scalar.yaml": "just a word\n",
    "bytes.yaml": b"\xff\xfe\x00",
    "alias.yaml": "a: *nowhere\n",
    "twice.yaml": "apiVersion: oarlock.dev/v1alpha1\nkind: ContainerSpec\nkind: ContainerSpec\n",
}


def problems(node: Operator) -> list[dict[str, Any]]:
    path = node.dirs.state / "problems.json"
    found: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
    return found


def test_every_invalid_manifest_is_one_error_and_the_good_ones_go_on(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("good", busybox_rootfs, "sleep", "1000"))
        pid = node.wait("good", lambda s: s["phase"] == "Running")["pid"]
        files = {}
        for number, (name, case) in enumerate(REFUSED.items()):
            document = dict(case.document)
            if isinstance(document.get("metadata"), dict) and document["metadata"].get("name") == "web":
                document["metadata"] = document["metadata"] | {"name": f"web-{number}"}
            (node_dirs.manifests / f"{number:02}.yaml").write_text(yaml.safe_dump(document))
            files[f"{number:02}.yaml"] = name
        eventually(lambda: len({each["where"].split(":")[0] for each in problems(node)}) >= len(files), "all are told")
        found = problems(node)
        assert len(found) == len(files)
        for each in found:
            case = REFUSED[files[each["where"].split(":")[0]]]
            assert each["field"] == case.named, each
            assert "ContainerSpec" in each["problem"] if case.named == "kind" else case.phrase in each["problem"], each
        assert set(node.records()) == {"good"}
        assert node.status("good")["pid"] == pid


def test_broken_files_are_named_with_their_line(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        for name, content in BROKEN.items():
            (node_dirs.manifests / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        node.apply(container("good", busybox_rootfs, "sleep", "1000"))
        node.wait("good", lambda s: s["phase"] == "Running")
        eventually(lambda: len(problems(node)) == len(BROKEN), "all are told")
        assert {each["where"].split(":")[0] for each in problems(node)} == set(BROKEN)
        assert all(each["problem"] for each in problems(node))
        told = node.log()
        assert all(name in told for name in BROKEN)
