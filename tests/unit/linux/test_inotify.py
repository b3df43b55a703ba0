"""inotify on real directories: what happens arrives, in order, with and without an event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from oarlock.errors import ConfigurationError
from oarlock.linux import inotify as module
from oarlock.linux.inotify import Event, Inotify, Mask, parse


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    with Inotify() as instance:
        yield instance


def test_a_rename_is_two_events_with_one_cookie(inotify: Inotify, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    watch = inotify.add(tmp_path, Mask.MOVED_FROM | Mask.MOVED_TO)
    (tmp_path / "a").rename(tmp_path / "b")
    gone, come = inotify.wait(5)
    assert (gone.wd, gone.mask, gone.name) == (watch, Mask.MOVED_FROM, "a")
    assert (come.wd, come.mask, come.name) == (watch, Mask.MOVED_TO, "b")
    assert gone.cookie == come.cookie != 0


def test_one_instance_holds_many_watches(inotify: Inotify, tmp_path: Path) -> None:
    watches = {}
    for name in "abc":
        (tmp_path / name).mkdir()
        watches[name] = inotify.add(tmp_path / name, Mask.CREATE)
    for name in "abc":
        (tmp_path / name / "x").touch()
    assert [event.wd for event in inotify.wait(5)] == [watches[name] for name in "abc"]


def test_reading_never_blocks_and_waiting_ends_at_the_deadline(inotify: Inotify, tmp_path: Path) -> None:
    inotify.add(tmp_path, Mask.CREATE)
    assert inotify.read() == []
    assert inotify.wait(0.01) == []


def test_the_descriptor_can_be_polled_and_does_not_outlive_an_exec(inotify: Inotify, tmp_path: Path) -> None:
    inotify.add(tmp_path, Mask.CREATE)
    (tmp_path / "x").touch()
    assert select.select([inotify], [], [], 5)[0] == [inotify]
    assert not os.get_inheritable(inotify.fileno())


def test_a_removed_watch_says_so_and_removing_it_again_is_fine(inotify: Inotify, tmp_path: Path) -> None:
    watch = inotify.add(tmp_path, Mask.CREATE)
    inotify.remove(watch)
    inotify.remove(watch)
    assert [event.mask for event in inotify.read()] == [Mask.IGNORED]
    (tmp_path / "x").touch()
    assert inotify.read() == []


def test_a_name_of_255_bytes_and_one_that_is_not_utf8_arrive_whole(inotify: Inotify, tmp_path: Path) -> None:
    inotify.add(tmp_path, Mask.CREATE)
    for name in (b"n" * 255, b"\xff\xfe"):
        os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT, 0o600))
    assert [os.fsencode(event.name) for event in inotify.wait(5)] == [b"n" * 255, b"\xff\xfe"]


def test_thousands_of_events_are_read_in_one_go_and_in_order(inotify: Inotify, tmp_path: Path) -> None:
    inotify.add(tmp_path, Mask.CREATE)
    for number in range(5000):
        (tmp_path / str(number)).touch()
    assert [event.name for event in inotify.wait(5)] == [str(number) for number in range(5000)]


def test_a_lost_queue_is_an_event() -> None:
    assert parse(struct.pack("iIII", -1, Mask.Q_OVERFLOW, 0, 0)) == [Event(-1, Mask.Q_OVERFLOW, 0, "")]


def test_what_does_not_exist_cannot_be_watched(inotify: Inotify, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inotify.add(tmp_path / "nothing", Mask.CREATE)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        inotify.add(tmp_path / "file", Mask.CREATE | Mask.ONLYDIR)


@pytest.mark.parametrize(("code", "limit"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_instances")])
def test_an_exhausted_limit_is_named(code: int, limit: str) -> None:
    error = module._told(code, "/etc/oarlock/manifests")
    assert isinstance(error, ConfigurationError)
    assert limit in str(error)


def test_the_limit_of_instances_is_named_when_it_is_really_reached() -> None:
    held: list[Inotify] = []
    try:
        with pytest.raises(ConfigurationError, match="max_user_instances"):
            for _ in range(100_000):
                held.append(Inotify())
    finally:
        for instance in held:
            instance.close()


async def test_a_callback_hears_events_until_detached(inotify: Inotify, tmp_path: Path) -> None:
    heard: asyncio.Queue[list[Event]] = asyncio.Queue()
    inotify.add(tmp_path, Mask.CREATE)
    inotify.attach(asyncio.get_running_loop(), heard.put_nowait)
    (tmp_path / "x").touch()
    async with asyncio.timeout(5):
        assert [event.name for event in await heard.get()] == ["x"]
    inotify.detach()
    (tmp_path / "y").touch()
    assert [event.name for event in inotify.wait(5)] == ["y"]
    assert heard.empty()


async def test_events_can_be_iterated(inotify: Inotify, tmp_path: Path) -> None:
    inotify.add(tmp_path, Mask.CREATE)
    asyncio.get_running_loop().call_soon((tmp_path / "x").touch)
    async with asyncio.timeout(5):
        async for event in inotify.events():
            assert event.name == "x"
            break
