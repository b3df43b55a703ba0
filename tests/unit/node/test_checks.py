"""Doctor's look at inotify: a real instance with a real watch, and what is told when there is none."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path

import pytest

from oarlock.linux import inotify as linux
from oarlock.node import checks_host
from oarlock.node.doctor import Verdict


def test_an_instance_with_a_watch_can_be_had_here() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    check = checks_host.inotify()
    assert check.verdict is not Verdict.FAIL
    assert check.message.startswith(
        f"{Path('/proc/sys/fs/inotify/max_user_instances').read_text().strip()} instances, "
    )
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("call", "code", "found", "way_out"),
    [
        ("inotify_init1", errno.EMFILE, "no inotify instance left", "raise fs.inotify.max_user_instances: sysctl"),
        ("inotify_add_watch", errno.ENOSPC, "no inotify watch left", "raise fs.inotify.max_user_watches: sysctl"),
        ("inotify_init1", errno.ENOSYS, "Function not implemented", "allow inotify in the seccomp profile"),
        ("inotify_add_watch", errno.EPERM, "Operation not permitted", "allow inotify in the seccomp profile"),
    ],
)
def test_what_the_kernel_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, call: str, code: int, found: str, way_out: str
) -> None:
    def refused(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(linux._libc, call, refused)
    check = checks_host.inotify()
    assert (check.name, check.verdict) == ("inotify", Verdict.FAIL)
    assert check.message.endswith(f" watches: {found}")
    assert check.way_out.startswith(way_out)
