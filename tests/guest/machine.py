"""A guest under qemu with systemd: it runs a script on a copy of the clone, then ends."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build" / "guest"
RECIPE = ("tests/guest/build", "tests/guest/inside", "tests/guest/guest.service", "requirements/dev.txt")
_LEFT_OUT = {".git", ".venv", "build", "dist", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_END = "guest: exit "
_FAST = "mitigations=off no_timer_check cryptomgr.notests"
"""With a plain processor and these a boot takes half the time: the processor is emulated."""
_PATIENT = "panic=-1 clocksource=hpet systemd.default_timeout_start_sec=600"
"""The processor may be wanted elsewhere, also while the kernel measures the speed of its time stamp counter."""


def image() -> Path:
    """The folder of the guest's kernel, initrd and disk (scripts/setup makes the same name).

    Raises:
        FileNotFoundError: it is not made; the message says which command makes it.
    """
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in RECIPE)).hexdigest()[:16]
    folder = Path(os.environ.get("OARLOCK_CACHE", "/var/cache/oarlock")) / f"guest-{digest}"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: run scripts/setup test")
    return folder


class Guest:
    """One run of the guest, which boots at once.

    Args:
        name: of its logs, `build/guest/NAME.log` and `build/guest/NAME.console`.
        script: for bash in the clone's copy, /oarlock; its exit code is the guest's.
        options: of the kernel.
        reboots: whether a reset boots the same disks again, and so runs `script` again, instead of ending the guest.
    """

    def __init__(self, name: str, script: str, *, options: str = "", reboots: bool = False) -> None:
        self.name = name
        LOGS.mkdir(parents=True, exist_ok=True)
        self._log, self._console = LOGS / f"{name}.log", LOGS / f"{name}.console"
        self._log.write_bytes(b"")
        self._folder = tempfile.TemporaryDirectory(prefix="oar-guest-", dir="/var/tmp")
        try:
            clone = _copy_of_the_clone(Path(self._folder.name), script)
            command = self._command(clone, options, reboots)
            self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
            _behind_everything_else(self._qemu.pid)
        except BaseException:
            self._folder.cleanup()
            raise

    def lines(self, deadline: float) -> Iterator[str]:
        """What the script prints, line by line, until the guest is off; it is ended after `deadline` seconds.

        Raises:
            AssertionError: the script failed, or the deadline is over; the end of the console's log is told.
        """
        code = None
        for line in self._printed(time.monotonic() + deadline):
            if line.startswith(_END):
                code = int(line.removeprefix(_END))
            else:
                yield line
        self.close()
        if code != 0:
            told = f"its script ended with {code}" if code is not None else f"not done within {deadline:g} s"
            end = self._console.read_text(errors="replace")[-3000:]
            raise AssertionError(f"guest {self.name}: {told}; {self._console} ends:\n{end}")

    def close(self) -> None:
        """End it the hard way, if it has not ended."""
        self._qemu.kill()
        self._qemu.wait()
        self._folder.cleanup()

    def _printed(self, end: float) -> Iterator[str]:
        with self._log.open(errors="replace", newline="\n") as log:
            rest, ended = "", False
            while not ended and time.monotonic() < end:
                with suppress(subprocess.TimeoutExpired):
                    self._qemu.wait(0.2)
                    ended = True
                *whole, rest = (rest + log.read()).split("\n")
                yield from whole

    def _command(self, clone: Path, options: str, reboots: bool) -> list[str]:
        made = image()
        return [
            *("nice", "-n", "19", "qemu-system-x86_64"),
            *("-accel", os.environ.get("OARLOCK_GUEST_ACCEL", "tcg,thread=multi,tb-size=512")),
            *("-machine", "q35", "-cpu", "Nehalem", "-smp", "2", "-m", "2G", "-nodefaults", "-display", "none"),
            *([] if reboots else ["-no-reboot"]),
            *("-kernel", str(made / "kernel"), "-initrd", str(made / "initrd")),
            *("-append", f"root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 {_FAST} {_PATIENT} {options}"),
            *("-serial", f"file:{self._console}", "-serial", f"file:{self._log}"),
            *_drive(made / "disk.img"),
            *_drive(clone),
        ]


def _behind_everything_else(pid: int) -> None:
    """Give its session as little of the processors as there is: `nice` counts within one session alone (sched(7))."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("19")


def _drive(disk: Path) -> tuple[str, str]:
    """The disk as it is: what is written to it is forgotten when qemu ends."""
    return "-drive", f"file={disk},format=raw,if=virtio,snapshot=on,cache=unsafe"


def _copy_of_the_clone(folder: Path, script: str) -> Path:
    """A disk with the clone as it is now: nothing that the guest does reaches the clone, nor the other way."""
    tree, disk = folder / "tree", folder / "clone.img"
    # __pycache__ too: other processes write and rename files in it while it is copied
    left_out = _LEFT_OUT | {"__pycache__"}
    shutil.copytree(ROOT, tree, symlinks=True, ignore=lambda at, _: left_out if Path(at) == ROOT else {"__pycache__"})
    (tree / ".venv").symlink_to("/opt/venv")
    (tree / "command").write_text(script)
    command = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(disk), "256M"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    shutil.rmtree(tree)
    return disk
