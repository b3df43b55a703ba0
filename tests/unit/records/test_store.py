"""Records that come back as they were written, and those that are refused untouched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oarlock.errors import ForeignRecord, RecordError
from oarlock.records.model import FORMAT, Current, Exit, Record
from oarlock.records.store import Store


def record(**fields: Any) -> Record:
    given: dict[str, Any] = {
        "nodeName": "node-a",
        "bootID": "b",
        "source": "manifests",
        "namespace": "default",
        "name": "web",
        "uid": "u-1",
        "generation": 1,
        "created": "2026-01-01T00:00:00Z",
        "spec": {"nodeName": "node-a", "rootfs": {"path": "/srv/rootfs"}, "command": ["true"]},
    }
    return Record(**(given | fields))


def put(folder: Path, **fields: Any) -> Path:
    path = folder / "u-1.json"
    path.write_text(json.dumps(json.loads(record().model_dump_json(exclude_none=True)) | fields))
    return path


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    current = Current(attempt=3, containerID="u-1-3", runtime="/usr/bin/runc", spec={"a": 1}, logPath="/l", pid=7)
    ended = Exit(attempt=2, containerID="u-1-2", exitCode=137, signal=9, reason="Error", finishedAt="t")
    written = record(current=current, exits=[ended], problem=("NodeFull", "no room"), refused=(2, "bad"))
    store = Store(tmp_path, "node-a")
    store.write("u-1", written.model_dump_json(exclude_none=True).encode())
    assert store.load() == [written]
    assert (tmp_path / "u-1.json").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["u-1.json"]


def test_a_spec_that_this_version_does_not_take_is_told_with_its_field(tmp_path: Path) -> None:
    path = put(tmp_path, spec=record().spec | {"restartPolicy": "Sometimes"})
    with pytest.raises(RecordError, match=rf"record {path} is none for this version of oarlock: restartPolicy: "):
        Store(tmp_path, "node-a").load()


def test_removed_once_and_again(tmp_path: Path) -> None:
    store = Store(tmp_path, "node-a")
    store.write("u-1", record().model_dump_json().encode())
    store.remove("u-1")
    store.remove("u-1")
    assert store.load() == []


def test_another_nodes_record_is_refused_and_left(tmp_path: Path) -> None:
    path = put(tmp_path, nodeName="node-b")
    before = path.read_bytes()
    with pytest.raises(ForeignRecord, match="'node-b', this is 'node-a'; start with that --node-name"):
        Store(tmp_path, "node-a").load()
    assert path.read_bytes() == before


def test_a_newer_format_is_refused_and_left(tmp_path: Path) -> None:
    path = put(tmp_path, format=FORMAT + 1, fields="of another time")
    before = path.read_bytes()
    with pytest.raises(ForeignRecord, match=f"format {FORMAT + 1}, newer than {FORMAT}; run a newer oarlock"):
        Store(tmp_path, "node-a").load()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"nodeName": "node-a"}', b'{"nodeName": "node-a", "x": 1}'])
def test_a_broken_record_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "u-1.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"u-1\.json .*move it away"):
        Store(tmp_path, "node-a").load()
    assert path.read_bytes() == content


def test_what_a_crash_left_half_written_is_no_record(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / ".u-2.json.tmp").write_text("{")
    assert [found.uid for found in Store(tmp_path, "node-a").load()] == ["u-1"]


def test_a_record_that_the_power_took_is_the_durable_one_before(tmp_path: Path) -> None:
    """XFS may leave a file empty whose data were not yet on the disk; ext4 fills one with zeros."""
    store = Store(tmp_path, "node-a")
    path = tmp_path / "u-1.json"
    for generation, durable in ((1, True), (2, False), (3, False)):
        store.write("u-1", record(generation=generation).model_dump_json().encode(), durable=durable)
    assert [each.generation for each in store.load()] == [3]
    for left in (b"", b"\0" * 100, b'{"format": 1'):
        path.write_bytes(left)
        assert [each.generation for each in Store(tmp_path, "node-a").load()] == [1]
        store.write("u-1", record(generation=2).model_dump_json().encode(), durable=False)
    store.write("u-1", record(generation=4).model_dump_json().encode(), durable=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["u-1.json"]
    store.write("u-1", record(generation=5).model_dump_json().encode(), durable=False)
    store.remove("u-1")
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_never_lasted_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, "node-a")
    for generation in (1, 2):
        store.write("u-1", record(generation=generation).model_dump_json().encode(), durable=False)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert store.load() == []
    assert list(tmp_path.iterdir()) == []
