"""The end of a container: from its KILL until nothing of it is left, and from its manifest's removal on.

The floor, an exit and a removed manifest take turns, each with a container that sleeps.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.observing import RemovalWatch
from benchmarks.setting import Setting
from benchmarks.table import Figure
from tests.operating import census, eventually

_PAUSE = 0.15
"""Seconds in which what the round before left to the kernel is done."""


def measure(setting: Setting, rounds: int) -> list[Figure]:
    """The figures of single deletions; a first round of each is not counted."""
    floor, removed, gone = [], [], []
    dirs = setting.operator.dirs
    with (
        contextlib.closing(RemovalWatch(dirs.run / "bundles")) as bundles,
        contextlib.closing(RemovalWatch(dirs.state / "records")) as records,
    ):
        for number in range(rounds + 1):
            floor.append(_floor(setting))
            removed.append(_killed(setting, bundles, f"killed-{number}"))
            gone.append(_removed(setting, records, f"removed-{number}"))
    told = [[1000 * sample for sample in samples[1:]] for samples in (floor, removed, gone)]
    return [
        Figure("container killed → recorded, all of it removed", told[1], "ms", told[0], 0.6),
        Figure("manifest removed → container killed, record gone", told[2], "ms", told[0], 0.6),
    ]


def _floor(setting: Setting) -> float:
    made = setting.floor.make(setting.sleeper("floor"))
    try:
        setting.floor.run(made)
        time.sleep(_PAUSE)
        return setting.floor.delete(made)
    finally:
        setting.floor.remove(made)


def _killed(setting: Setting, bundles: RemovalWatch, name: str) -> float:
    """From the KILL until the exit is recorded and runtime state, cgroups, mount and bundle are gone."""
    current, placed = _running(setting, name)
    began = time.monotonic()
    os.kill(current["pid"], signal.SIGKILL)
    removed = bundles.wait(current["containerID"])
    assert setting.operator.status(name)["exitCode"] == 137
    _assert_gone(setting, current["containerID"])
    placed.unlink()
    eventually(lambda: name not in setting.operator.records(), "the record is gone")
    return removed - began


def _removed(setting: Setting, records: RemovalWatch, name: str) -> float:
    """From the manifest's removal until its container is gone and forgotten."""
    current, placed = _running(setting, name)
    uid = current["containerID"].rpartition("-")[0]
    began = time.monotonic()
    placed.unlink()
    gone = records.wait(f"{uid}.json")
    _assert_gone(setting, current["containerID"])
    return gone - began


def _running(setting: Setting, name: str) -> tuple[dict[str, Any], Path]:
    """What is recorded of a container that runs, and its manifest."""
    dirs, document = setting.operator.dirs, setting.sleeper(name)
    document["spec"]["restartPolicy"] = "Never"
    draft, placed = dirs.root / "draft", dirs.manifests / f"{name}.yaml"
    draft.write_text(yaml.safe_dump(document))
    draft.rename(placed)
    setting.operator.wait(name, lambda status: status["phase"] == "Running")
    time.sleep(_PAUSE)
    current: dict[str, Any] = setting.operator.records()[name]["current"]
    return current, placed


def _assert_gone(setting: Setting, container_id: str) -> None:
    left = [kind for kind, found in census(setting.operator.dirs).items() if container_id in found]
    assert not left, f"{container_id} is removed, but not from: {left}"
