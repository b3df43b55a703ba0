"""A directory under a real `ManifestSource`, and a sink that writes down what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oarlock.api.accepted import Accepted
from oarlock.api.identity import Key, manifest_uid
from oarlock.sources.manifests.source import ManifestSource

NODE = "node-1"


@dataclass
class Recorded:
    """A record as the engine has it."""

    origin: str | None
    generation: int
    spec: dict[str, Any]
    created: str = "2026-01-01T00:00:00Z"
    deleted: bool = False


@dataclass
class Told:
    """The sink.

    Attributes:
        calls: one word per call, as `applied web 1`, `gone web`, `listed 2`.
        objects: what exists, by name.
        problems: the last problem each name was refused for.
    """

    calls: list[str] = field(default_factory=list)
    objects: dict[str, Accepted] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    alive: Collection[Key] = ()
    times: list[float] = field(default_factory=list)
    waiters: list[asyncio.Event] = field(default_factory=list)

    def applied(self, obj: Accepted) -> None:
        self.objects[obj.key.name] = obj
        self.problems.pop(obj.key.name, None)
        self._say(f"applied {obj.key.name} {obj.generation}")

    def refused(self, key: Key, generation: int, problem: str) -> None:
        self.problems[key.name] = problem
        self._say(f"refused {key.name} {generation}")

    def gone(self, key: Key) -> None:
        self.objects.pop(key.name, None)
        self._say(f"gone {key.name}")

    def listed(self, source: str, alive: Collection[Key]) -> None:
        assert source == "manifests"
        self.alive = alive
        self._say(f"listed {len(alive)}")

    def _say(self, call: str) -> None:
        self.calls.append(call)
        self.times.append(time.perf_counter())
        for waiter in self.waiters:
            waiter.set()


@dataclass
class Desk:
    """A manifest directory, its source and its sink."""

    directory: Path
    told: Told
    records: dict[Key, Recorded] = field(default_factory=dict)

    @property
    def problems_file(self) -> Path:
        return self.directory.parent / "problems.json"

    def write(self, name: str, *documents: str) -> None:
        """Put a file into place as careful tools do: written beside it, then renamed."""
        beside = self.directory.parent / "beside"
        beside.write_text("---\n".join(documents))
        beside.rename(self.directory / name)

    def record(self, name: str, file: str, generation: int = 1, **spec: Any) -> Key:
        """The engine knows this object from an earlier life of the operator."""
        key = Key("manifests", "default", name, manifest_uid(NODE, "default", name))
        given = {"rootfs": {"path": "/srv/rootfs"}, "command": ["echo"], "nodeName": NODE} | spec
        self.records[key] = Recorded(f"{self.directory}/{file}:1", generation, given)
        return key

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Told]:
        """The source runs; the first look is done."""
        source = ManifestSource(self.directory, NODE, self.told, self.problems_file, known=lambda: self.records)
        task = asyncio.create_task(source.run())
        try:
            await self.until(lambda: any(call.startswith("listed") for call in self.told.calls), task)
            yield self.told
            await asyncio.sleep(0)
            assert not task.done(), task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, fact: Callable[[], bool], task: asyncio.Task[None] | None = None) -> None:
        """Wait, up to 5 s, for a fact about what the sink was told."""
        changed = asyncio.Event()
        self.told.waiters.append(changed)
        waits = [asyncio.ensure_future(asyncio.sleep(5))] + ([task] if task is not None else [])
        try:
            while not fact():
                waiter = asyncio.ensure_future(changed.wait())
                await asyncio.wait([waiter, *waits], return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                changed.clear()
                if task is not None and task.done():
                    task.result()
                assert fact() or not waits[0].done(), f"in vain; the sink was told {self.told.calls}"
        finally:
            waits[0].cancel()
            self.told.waiters.remove(changed)

    async def said(self, call: str) -> None:
        """Wait until the sink was told this, and forget all calls up to it."""
        await self.until(lambda: call in self.told.calls)
        del self.told.calls[: self.told.calls.index(call) + 1]

    async def marked(self, calls: list[str]) -> None:
        """Wait until all that happened so far was acted on; `calls` is what came of it.

        A new object marks the end. Time is left before it for a file that vanished to be gone.
        """
        self.write("zz-mark.yaml", manifest("mark"))
        await self.until(lambda: any(call.startswith("applied mark") for call in self.told.calls))
        os.unlink(self.directory / "zz-mark.yaml")
        await self.until(lambda: "gone mark" in self.told.calls)
        assert [call for call in self.told.calls if " mark" not in call] == calls
        self.told.calls.clear()

    def problems(self) -> list[str]:
        """`problems.json`, a line each."""
        found: list[Mapping[str, str]] = json.loads(self.problems_file.read_text())
        return [f"{each['where']}: {each['field']}: {each['problem']}" for each in found]


def manifest(name: str = "web", *, command: str = "echo", namespace: str | None = None, extra: str = "") -> str:
    """A small good manifest of 8 lines, `extra` lines of its spec below them."""
    where = f", namespace: {namespace}" if namespace else ""
    return (
        "apiVersion: oarlock.dev/v1alpha1\n"
        "kind: ContainerSpec\n"
        "metadata:\n"
        f"  {{name: {name}{where}}}\n"
        "spec:\n"
        "  rootfs:\n"
        "    path: /srv/rootfs\n"
        f"  command: [{command}]\n"
        f"{extra}"
    )
