"""Compressing a rotated log: the file or its compressed form is there, whatever happens meanwhile."""

from __future__ import annotations

import errno
import gzip
import os
import threading
from pathlib import Path

import pytest

from oarlock.node import compression
from oarlock.node.compression import Compressor, compress
from oarlock.node.logfiles import rotated

TEXT = b"2026-01-31T12:00:00.000000000+00:00 stdout F a line\n" * 20_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "1.log.7"
    path.write_bytes(TEXT)
    return path


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_the_compressed_form_takes_its_place(tmp_path: Path, old: Path) -> None:
    (tmp_path / "1.log.7.gz.new").write_bytes(b"what a killed operator left")
    compress(old, threading.Event())
    assert names(tmp_path) == ["1.log.7.gz"]
    packed = tmp_path / "1.log.7.gz"
    assert gzip.decompress(packed.read_bytes()) == TEXT
    assert packed.stat().st_mode & 0o777 == 0o600


def test_a_stop_leaves_the_file(tmp_path: Path, old: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    compress(old, stopped)
    assert names(tmp_path) == ["1.log.7"]


def test_a_file_that_is_gone_leaves_nothing(tmp_path: Path, old: Path) -> None:
    old.unlink()
    compress(old, threading.Event())
    assert names(tmp_path) == []
    compress(tmp_path / "gone" / "1.log.7", threading.Event())


def test_a_file_that_is_removed_meanwhile_stays_removed(
    tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(_fd: int) -> None:
        (found,) = rotated(tmp_path / "1.log")
        found.remove()
        (tmp_path / "1.log.7.gz.new").write_bytes(b"")

    monkeypatch.setattr(compression.os, "fsync", remove)
    compress(old, threading.Event())
    assert names(tmp_path) == []


def test_without_room_the_file_stays(tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_ROOM", 1 << 60)
    with pytest.raises(OSError) as refused:
        compress(old, threading.Event())
    assert refused.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["1.log.7"]


def test_files_are_compressed_at_the_lowest_priority_and_this_thread_keeps_its_own(tmp_path: Path, old: Path) -> None:
    compressor = Compressor()
    compressor.compress(old)
    priority = compressor._worker.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(
        timeout=30
    )
    assert (priority, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) == (19, 0)
    compressor.close()
    assert names(tmp_path) == ["1.log.7.gz"]


def test_the_numbers_of_files_are_numbers(tmp_path: Path) -> None:
    for name in ("1.log", "1.log.2", "1.log.10.gz", "1.log.9", "1.log.9.gz", "1.log.tmp", "11.log.3", "1.log.x"):
        (tmp_path / name).touch()
    assert [(each.number, each.packed) for each in rotated(tmp_path / "1.log")] == [(2, False), (9, False), (10, True)]
    assert rotated(tmp_path / "gone" / "1.log") == []
