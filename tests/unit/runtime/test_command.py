"""What the runtimes log and say, read."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from oarlock.linux.procfs import has_ended
from oarlock.runtime.command import logged_error, run
from tests.operating import eventually

WARNING = '{"level":"warning","msg":"skipping device /dev/char/10:200 for systemd","time":"2026-01-01T00:00:00Z"}\n'
ERROR = '{"level":"error","msg":"exec: \\"no\\\\u0000such\\": not found in $PATH","time":"2026-01-01T00:00:00Z"}\n'


def test_the_last_error_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "runtime.log"
    assert logged_error(log) is None
    for text, told in (
        ("", None),
        (WARNING, None),
        (WARNING + ERROR + WARNING, 'exec: "no\\u0000such": not found in $PATH'),
        (ERROR + '{"level":"fatal","msg":"the last"}\n', "the last"),
        (ERROR + '{"level":"error","msg":" "}\n{"level":"err', 'exec: "no\\u0000such": not found in $PATH'),
        ('plain text\n[]\n7\n{"level":[]}\n{"msg":"x"}\n\xff\n', None),
    ):
        log.write_text(text)
        assert logged_error(log) == told, text


async def test_a_command_that_is_given_up_as_it_begins_is_ended(tmp_path: Path) -> None:
    """At each of the steps in which asyncio connects its pipes; what it has begun holds them too."""
    script = tmp_path / "slow"
    script.write_text("#!/bin/sh\nsleep 1000 & echo $! > $1; wait\n")
    script.chmod(0o755)
    for steps in range(12):
        told = tmp_path / f"{steps}"
        running = asyncio.create_task(run([script, told], name="slow", timeout=60, environment=os.environ))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await running
        begun = told.read_text().strip() if told.exists() else ""
        if begun:
            await asyncio.to_thread(eventually, lambda pid=int(begun): has_ended(pid), f"{begun} is ended")
