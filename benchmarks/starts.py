"""One container at a time: from the manifest or the object to a process, to `Running` in the API, and its exit there.

The floor, a manifest and an object take turns, each from a node on which nothing runs. The container of all three
ends with code 3 when it is told to.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.observing import Record, RecordWatch
from benchmarks.setting import Setting, running
from benchmarks.table import Figure
from tests.operating import container, eventually

_PAUSE = 0.15
"""Seconds in which what the round before left to the kernel is done."""
_COMMAND = ("sh", "-c", "mkfifo /tmp/go; read line </tmp/go; exit 3")


def measure(setting: Setting, rounds: int) -> list[Figure]:
    """The figures of single starts and exits; a first round of each is not counted."""
    by_hand, manifest, process, seen, exits = [], [], [], [], []
    with contextlib.closing(RecordWatch(setting.operator.dirs.state / "records")) as records:
        for number in range(rounds + 1):
            time.sleep(_PAUSE)
            by_hand.append(_floor(setting))
            time.sleep(_PAUSE)
            manifest.append(_manifest(setting, records, f"manifest-{number}"))
            time.sleep(_PAUSE)
            to_process, to_seen, to_exit = _object(setting, records, f"object-{number}")
            process.append(to_process)
            seen.append(to_seen)
            exits.append(to_exit)
    floor = _ms(by_hand)
    return [
        Figure("manifest dropped → process running", _ms(manifest), "ms", floor, 1.25),
        Figure("object created → process running", _ms(process), "ms", floor, 1.25),
        Figure("object created → Running seen by a watcher", _ms(seen), "ms", floor, 2.0),
        Figure("process exit → exit code seen by a watcher", _ms(exits), "ms", (), 30.0),
    ]


def _ms(samples: list[float]) -> list[float]:
    return [1000 * sample for sample in samples[1:]]


def _document(setting: Setting, name: str) -> dict[str, Any]:
    fields = {"nodeName": "node-a", "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    return container(name, setting.rootfs, *_COMMAND, **fields)


def _floor(setting: Setting) -> float:
    made = setting.floor.make(_document(setting, "floor"))
    try:
        return setting.floor.run(made)
    finally:
        setting.floor.remove(made)


def _manifest(setting: Setting, records: RecordWatch, name: str) -> float:
    """From the rename into the directory until the record says that it runs."""
    dirs = setting.operator.dirs
    draft, placed = dirs.root / "draft", dirs.manifests / f"{name}.yaml"
    draft.write_text(yaml.safe_dump(_document(setting, name)))
    began = time.monotonic()
    draft.rename(placed)
    ran = records.wait(name, _runs)
    placed.unlink()
    eventually(lambda: not setting.operator.records(), "the record is gone")
    return ran - began


def _object(setting: Setting, records: RecordWatch, name: str) -> tuple[float, float, float]:
    """From sending the POST until the record says that it runs, and until the watcher sees it; then from the
    process's order to end until the watcher sees the exit code."""
    body = json.dumps(_document(setting, name)).encode()
    began = time.monotonic()
    setting.api.create(body)
    ran = records.wait(name, _runs)
    seen = setting.watch.wait(name, running)
    fifo = Path(f"/proc/{setting.operator.status(name)['pid']}/root/tmp/go")
    eventually(fifo.exists, "the container waits for its order")
    with fifo.open("w") as order:
        time.sleep(_PAUSE)
        ordered = time.monotonic()
        order.write("now\n")
    ended = setting.watch.wait(name, lambda _, status: status.get("exitCode") == 3)
    setting.delete([name])
    return ran - began, seen - began, ended - ordered


def _runs(record: Record) -> bool:
    return bool(record["status"].get("phase") == "Running")
