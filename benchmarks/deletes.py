"""The end of a container that sleeps: from its KILL until nothing of it is left, and from its object's deletion on.

The floor, a kill, a manifest and an object take turns. A manifest is emptied: a file that vanishes is given a moment to
come back (`sources.manifests.source.MOMENT`), which is no work.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import Any

from benchmarks.observing import Record, RecordWatch
from benchmarks.setting import Setting, deleted
from benchmarks.table import Figure
from tests.operating import census, eventually

_PAUSE = 0.15
"""Seconds in which what was before left to the kernel is done."""


def measure(setting: Setting, rounds: int) -> list[Figure]:
    """The figures of single deletions; a first round of each is not counted."""
    floor, killed, manifest, seen = [], [], [], []
    with contextlib.closing(RecordWatch(setting.operator.dirs.state / "records")) as records:
        for number in range(rounds + 1):
            floor.append(_floor(setting))
            killed.append(_killed(setting, records, f"killed-{number}"))
            manifest.append(_manifest(setting, records, f"emptied-{number}"))
            seen.append(_object(setting, f"deleted-{number}"))
    by_hand, *figures = [[1000 * sample for sample in samples[1:]] for samples in (floor, killed, manifest, seen)]
    return [
        Figure("container killed → recorded, all of it removed", figures[0], "ms", by_hand, 0.6),
        Figure("taken out of its manifest → killed, record gone", figures[1], "ms", by_hand, 0.6),
        Figure("object deleted → killed, gone for a watcher", figures[2], "ms", by_hand, 0.8),
    ]


def _floor(setting: Setting) -> float:
    made = setting.floor.make(setting.sleeper("floor"))
    try:
        setting.floor.run(made)
        time.sleep(_PAUSE)
        return setting.floor.delete(made)
    finally:
        setting.floor.remove(made)


def _killed(setting: Setting, records: RecordWatch, name: str) -> float:
    """From the KILL until the record says how it ended, and that nothing of it is left."""
    current = _running_manifest(setting, name)
    began = time.monotonic()
    os.kill(current["pid"], signal.SIGKILL)
    took = records.wait(name, _is_removed) - began
    assert setting.operator.status(name)["exitCode"] == 137
    _assert_gone(setting, current)
    _empty_manifest(setting)
    eventually(lambda: not setting.operator.records(), "the record is gone")
    return took


def _manifest(setting: Setting, records: RecordWatch, name: str) -> float:
    """From the rename of an empty file over the manifest until the record is gone."""
    current = _running_manifest(setting, name)
    began = time.monotonic()
    _empty_manifest(setting)
    took = records.wait_removed(current["containerID"].rpartition("-")[0]) - began
    _assert_gone(setting, current)
    return took


def _object(setting: Setting, name: str) -> float:
    """From sending the DELETE until another watcher of the API has seen the object go."""
    setting.api.create(json.dumps(setting.sleeper(name)).encode())
    current = _running(setting, name)
    began = time.monotonic()
    setting.api.delete(name)
    took = setting.watch.wait(name, deleted) - began
    _assert_gone(setting, current)
    eventually(lambda: not setting.operator.records(), "the record is gone")
    return took


def _running_manifest(setting: Setting, name: str) -> dict[str, Any]:
    document = setting.sleeper(name)
    document["spec"]["restartPolicy"] = "Never"
    setting.operator.apply(document)
    return _running(setting, name)


def _empty_manifest(setting: Setting) -> None:
    setting.operator.apply()


def _running(setting: Setting, name: str) -> dict[str, Any]:
    """What is recorded of the container, once it runs and the node is quiet again."""
    setting.operator.wait(name, lambda status: status["phase"] == "Running")
    time.sleep(_PAUSE)
    current: dict[str, Any] = setting.operator.records()[name]["current"]
    return current


def _is_removed(record: Record) -> bool:
    return record.get("current") is None


def _assert_gone(setting: Setting, current: dict[str, Any]) -> None:
    name = current["containerID"]
    left = [kind for kind, found in census(setting.operator.dirs).items() if name in found]
    assert not left, f"{name} is removed, but not from: {left}"
