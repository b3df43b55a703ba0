"""Whether the OOM killer struck: conmon's word and the kernel's count, each alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from oarlock.cgroups.manager import manager
from oarlock.cgroups.place import place
from oarlock.errors import ConfigurationError
from oarlock.linux.inotify import Inotify
from oarlock.runtime import oom
from oarlock.runtime.container import Container
from oarlock.runtime.monitor import MonitorSettings
from oarlock.runtime.runtime import Runtime


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("kind", ["container", "lasting"])
def test_either_is_enough(tmp_path: Path, file: bool, count: int, kind: str) -> None:
    settings = MonitorSettings(conmon=tmp_path, runtime_root=tmp_path, exits=tmp_path, sockets=tmp_path)
    runtime = Runtime(settings, manager("systemd", "test.slice"), create_timeout=1.0)
    where = place("systemd", "test.slice", "id-1")
    counted = getattr(where, kind)
    runtime._hierarchy = SimpleNamespace(  # type: ignore[assignment]
        oom_kills=lambda cgroup: count if cgroup == counted else 0
    )
    if file:
        (tmp_path / oom.FILE).touch()
    container = Container(id="id-1", runtime=tmp_path, bundle=tmp_path, log=tmp_path, place=where)
    assert runtime.oom_killed(container) == (file or count > 0)


async def test_without_a_watch_a_container_is_taken_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_self: Inotify, path: Path, _mask: object) -> int:
        raise ConfigurationError(f"{path}: no inotify watch left; raise fs.inotify.max_user_watches")

    monkeypatch.setattr(Inotify, "add", none_left)
    where = place("cgroupfs", "/none", "id-1")
    container = Container(id="id-1", runtime=tmp_path, bundle=tmp_path, log=tmp_path, place=where)
    watch = oom.OomWatch()
    watch.attach(asyncio.get_running_loop())
    watch.watch(container, lambda: None)
    assert "container id-1: an OOM kill of a child is not told before its end" in caplog.text
    assert "raise fs.inotify.max_user_watches" in caplog.text
    watch.forget(container)
