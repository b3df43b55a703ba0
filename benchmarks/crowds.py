"""Many containers: a burst of them, what they cost while they idle, a restart among them, listing them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from datetime import datetime
from pathlib import Path

from benchmarks.setting import Setting, command, rss
from benchmarks.table import Figure
from tests.operating import Operator, eventually

_MANY = 100
_AT_ONCE = 8
_SETTLED = 3.0
_IMPORTED_FIRST = str(Path(__file__).with_name("imported_first.py"))


def burst(setting: Setting) -> list[Figure]:
    """100 objects at once, and the floor before and after them. The containers stay."""
    floor = [_floor(setting)]
    rate = setting.stand(_MANY)
    floor.append(_floor(setting))
    return [Figure(f"burst of {_MANY}, all Running in the API", [rate], "1/s", floor, 0.45, more_is_better=True)]


def _floor(setting: Setting) -> float:
    return setting.floor.burst([setting.sleeper("floor")] * _MANY, _AT_ONCE)


def idle(setting: Setting, seconds: float) -> list[Figure]:
    """The operator's CPU time while 100 containers sleep."""
    setting.stand(_MANY)
    time.sleep(_SETTLED)
    before, began = setting.operator.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    used = (setting.operator.cpu_seconds() - before) / (time.monotonic() - began)
    return [Figure(f"CPU while {_MANY} containers idle, {seconds:g} s", [100 * used], "% core", (), 0.3)]


def listing(setting: Setting, rounds: int) -> list[Figure]:
    """`oarlock ps`, from its start to its end."""
    setting.stand(_MANY)
    samples = []
    for _ in range(rounds):
        began = time.monotonic()
        table = _ps(setting)
        samples.append(1000 * (time.monotonic() - began))
        missing = [name for name in setting.standing if name not in table]
        assert not missing, f"oarlock ps does not list {missing}"
    return [Figure(f"oarlock ps with {_MANY} containers", samples, "ms", (), 150.0 + len(setting.standing))]


def _ps(setting: Setting) -> str:
    done = subprocess.run(
        [command(), "ps"],
        env={"PATH": os.environ["PATH"], **setting.places()},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def memory(setting: Setting) -> list[Figure]:
    """The operator's memory before it had a container, and what each of 200 has added."""
    setting.stand(2 * _MANY)
    time.sleep(_SETTLED)
    each = (rss(setting.pid) - setting.rss_empty) / len(setting.standing)
    rest = setting.standing[_MANY:]
    setting.delete(rest)
    del setting.standing[_MANY:]
    return [
        Figure("memory (RSS) of the empty operator", [setting.rss_empty / 1024], "MiB", (), 95.0),
        Figure(f"memory (RSS) for each of {2 * _MANY} containers", [each], "KiB", (), 80.0),
    ]


def restart(setting: Setting, rounds: int) -> list[Figure]:
    """From the end of the imports until all 100 containers are adopted, every one with the pid it had."""
    setting.stand(_MANY)
    pids = _pids(setting)
    samples = []
    for _ in range(rounds):
        ready = setting.operator.log().count("is ready")
        setting.operator.stop()
        setting.operator = Operator(setting.operator.dirs, *setting.options, entry=(_IMPORTED_FIRST,))
        setting.operator.start()
        setting.operator.wait_ready(ready + 1)
        held = eventually(lambda: _pidfds(setting.pid) >= _MANY, "every container is held by a pidfd", 5)
        assert held
        assert _pids(setting) == pids
        samples.append(_told_ready(setting.operator.log()))
    return [Figure(f"restart with {_MANY} containers, imports → all adopted", samples, "s", (), 1.0)]


def _pids(setting: Setting) -> dict[str, int]:
    return {name: record["status"]["pid"] for name, record in setting.operator.records().items()}


def _pidfds(pid: int) -> int:
    """How many processes a process holds."""
    folder, held = Path(f"/proc/{pid}/fd"), 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held += "pidfd" in os.readlink(folder / name)
    return held


def _told_ready(log: str) -> float:
    """Seconds between the newest two lines that tell the end of the imports and readiness."""
    imported = float(re.findall(r"^imported at ([\d.]+)$", log, re.MULTILINE)[-1])
    told = re.findall(r"^(\S+ \S+) .* is ready$", log, re.MULTILINE)[-1]
    return datetime.strptime(told, "%Y-%m-%d %H:%M:%S,%f").timestamp() - imported
