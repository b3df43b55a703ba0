"""A node as the command sees it: record files, logs and a lock, written by hand as the operator does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE = 20.0


def start_time(pid: int) -> int:
    """Field 22 of /proc/<pid>/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@dataclass(frozen=True)
class Node:
    """State and run directory of a node, and the command that looks at them."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    def record(
        self,
        name: str,
        *,
        namespace: str = "default",
        uid: str | None = None,
        pid: int | None = None,
        status: dict[str, Any] | None = None,
        current: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """Write one record atomically; by default of a container that runs as this process. Returns the uid."""
        uid = uid or f"{namespace}-{name}"
        pid = os.getpid() if pid is None else pid
        attempt = more.get("attempt", 1)
        container = f"{uid}-{attempt}"
        data = {
            "format": 1,
            "nodeName": "n",
            "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "source": "manifests",
            "namespace": namespace,
            "name": name,
            "uid": uid,
            "origin": f"/etc/oarlock/manifests/{name}.yaml:3",
            "generation": 1,
            "created": "2026-01-01T00:00:00Z",
            "labels": {},
            "annotations": {},
            "spec": {"nodeName": "n", "rootfs": {"path": "/srv/rootfs"}, "command": ["sleep", "60"]},
            "deleted": False,
            "attempt": attempt,
            "current": {
                "attempt": attempt,
                "containerID": container,
                "pid": pid,
                "pidStart": start_time(pid) if Path(f"/proc/{pid}").exists() else 1,
            }
            | (current or {}),
            "exits": [],
            "status": {
                "observedGeneration": 1,
                "phase": "Running",
                "pid": pid,
                "containerID": container,
                "exitCode": None,
                "oomKilled": None,
                "restartCount": 0,
                "ready": True,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Running", "message": ""}],
            }
            | (status or {}),
        } | more
        folder = self.state / "records"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{uid}.json.new"
        temporary.write_text(json.dumps(data))
        temporary.rename(folder / f"{uid}.json")
        return uid

    def ended(self, name: str, phase: str = "Succeeded", code: int | None = 0, **more: Any) -> str:
        """A record of a container that is settled."""
        status = {"phase": phase, "pid": None, "exitCode": code, "oomKilled": False, "ready": False}
        return self.record(name, status=status, **more) if "current" in more else self._ended(name, status, more)

    def _ended(self, name: str, status: dict[str, Any], more: dict[str, Any]) -> str:
        uid = self.record(name, status=status, **more)
        path = self.state / "records" / f"{uid}.json"
        data = json.loads(path.read_text()) | {"current": None}
        temporary = path.with_name(f".{uid}.json.new")
        temporary.write_text(json.dumps(data))
        temporary.rename(path)
        return uid

    def remove(self, uid: str) -> None:
        (self.state / "records" / f"{uid}.json").unlink()

    def override(self, uid: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "overrides" / f"{uid}.json").read_text())
        return found

    def log(self, uid: str, name: str, text: bytes) -> Path:
        """Write one file of a container's log, as `1.log` or `1.log.2`."""
        path = self.state / "containers" / uid / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        return path

    @contextlib.contextmanager
    def operator(self) -> Iterator[None]:
        """Hold the run directory's lock, as a running operator does."""
        self.run_dir.mkdir(exist_ok=True)
        with open(self.run_dir / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump({"pid": os.getpid(), "nodeName": "n", "stateDir": str(self.state)}, file)
            file.flush()
            yield

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OARLOCK_", "KUBE", "PYTHON"))}
        return kept | {
            "PYTHONPATH": str(ROOT / "operator"),
            "OARLOCK_STATE_DIR": str(self.state),
            "OARLOCK_RUN_DIR": str(self.run_dir),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "oarlock", *arguments]

    def oarlock(self, *arguments: str, input: bytes = b"", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run the command to its end; `code` is what it must exit with (None: anything)."""
        done = subprocess.run(
            self.command(*arguments), env=self.environment, input=input, capture_output=True, timeout=DEADLINE
        )
        said = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode()
        )
        assert "Traceback" not in said.stderr, said.stderr
        if code is not None:
            assert said.returncode == code, (said.stdout, said.stderr)
        return said

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the command; the caller ends it."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)
