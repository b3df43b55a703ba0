"""How fast a container can write its log: under oarlock, which rotates it, and into one file of conmon's by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.floor import wait_for_end
from benchmarks.setting import Setting, running
from benchmarks.table import Figure
from tests.operating import container, eventually

_PIECE = 7_812 * 128
_PIECES = 400
_SIZE = _PIECE * _PIECES
_COMMAND = (
    *("sh", "-c"),
    f"yes {'x' * 127} | head -c {_PIECE} >/tmp/piece; set -- $(yes /tmp/piece | head -n {_PIECES}); "
    'mkfifo /tmp/go; read line </tmp/go; exec cat "$@"',
)
"""Lines of 128 bytes, written as fast as they can be read out of memory."""
_DEADLINE = 60.0


def measure(setting: Setting, rounds: int) -> list[Figure]:
    """MB/s of a writer of lines that is told to begin, until conmon, which has written all of it, ends."""
    floor, rotated = [], []
    for number in range(rounds):
        floor.append(_floor(setting))
        rotated.append(_object(setting, f"writer-{number}"))
    return [Figure("log of a container that writes lines", rotated, "MB/s", floor, 0.9, more_is_better=True)]


def _document(setting: Setting, name: str) -> dict[str, Any]:
    fields = {"nodeName": "node-a", "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    return container(name, setting.rootfs, *_COMMAND, **fields)


def _floor(setting: Setting) -> float:
    made = setting.floor.make(_document(setting, "floor"))
    try:
        setting.floor.run(made)
        rate = _rate(int((made.bundle / "pidfile").read_text()), setting.floor.monitor(made))
        assert made.log.stat().st_size > _SIZE
        return rate
    finally:
        setting.floor.remove(made)


def _object(setting: Setting, name: str) -> float:
    setting.api.create(json.dumps(_document(setting, name)).encode())
    setting.watch.wait(name, running)
    current = setting.operator.records()[name]["current"]
    rate = _rate(current["pid"], current["monitorPID"])
    logs = Path(current["logPath"]).parent
    assert len(list(logs.iterdir())) > 1, "it was not rotated"
    setting.delete([name])
    return rate


def _rate(pid: int, monitor: int) -> float:
    fifo = Path(f"/proc/{pid}/root/tmp/go")
    eventually(fifo.exists, "the container waits for its order")
    with fifo.open("w") as order:
        began = time.monotonic()
        order.write("now\n")
    wait_for_end(monitor, _DEADLINE)
    return _SIZE / 1e6 / (time.monotonic() - began)
