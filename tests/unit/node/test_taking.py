"""A node's directories have one operator, whoever looks at them meanwhile."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from oarlock.errors import AlreadyRunning
from oarlock.node.presence import find_operator
from oarlock.node.taking import _locked


def test_a_command_that_looks_whether_an_operator_runs_keeps_none_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    looks, done = open(path), threading.Event()  # noqa: SIM115 (closed by the timer)
    with looks:
        fcntl.flock(looks, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: (fcntl.flock(looks, fcntl.LOCK_UN), done.set())).start()
        with _locked("--run-dir", path):
            assert find_operator(path).running
            with (
                pytest.raises(AlreadyRunning, match="--run-dir: another oarlock already runs there"),
                _locked("--run-dir", path),
            ):
                pass
        done.wait(10)
    assert not find_operator(path).running
