"""A guest under qemu with cgroup v2 and systemd: it runs one shell script on a copy of the clone, then goes off."""

from __future__ import annotations

import hashlib
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_RECIPE = ("tests/guest/build", "tests/guest/inside", "tests/guest/guest.service", "requirements/dev.txt")
_LEFT_OUT = (".git", ".venv", "build", "dist", ".hypothesis", ".*_cache", "go.sum")
_END = "guest: exit "
_FAST = "mitigations=off tsc=reliable cryptomgr.notests"
"""A plain processor without what its emulation makes dear: a boot takes half the time of `-cpu max`."""


def image() -> Path:
    """The folder of the guest's kernel, initrd and disk (scripts/setup makes the same name).

    Raises:
        FileNotFoundError: it is not made; the message says which command makes it.
    """
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in _RECIPE)).hexdigest()[:16]
    folder = Path(os.environ.get("OARLOCK_CACHE", "/var/cache/oarlock")) / f"guest-{digest}"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: run scripts/setup test")
    return folder


@dataclass(frozen=True)
class Guest:
    """One run of the guest.

    Args:
        name: of its logs, `build/guest/NAME.log` and `build/guest/NAME.console`.
        script: for bash in the clone's copy, /oarlock; its exit code is the guest's.
        options: of the kernel.
        reboots: whether a reset boots the same disk again (and runs `script` again) instead of ending the guest.
    """

    name: str
    script: str
    options: str = ""
    reboots: bool = False

    def lines(self, deadline: float) -> Iterator[str]:
        """Boot it and give what the script prints, line by line.

        Raises:
            AssertionError: the script failed, or the guest was not off after `deadline` seconds.
        """
        logs = ROOT / "build" / "guest"
        logs.mkdir(parents=True, exist_ok=True)
        console = logs / f"{self.name}.console"
        code = None
        with tempfile.TemporaryDirectory(prefix="oar-guest-", dir="/var/tmp") as folder:
            with (logs / f"{self.name}.log").open("w") as log:
                for line in _output(self._command(Path(folder), console), deadline):
                    log.write(line)
                    log.flush()
                    if line.startswith(_END):
                        code = int(line.removeprefix(_END))
                    else:
                        yield line
        if code != 0:
            end = console.read_text(errors="replace")[-3000:]
            told = f"exit code {code}" if code is not None else f"it did not end within {deadline:g} s"
            raise AssertionError(f"guest {self.name}: {told}; its console, {console}, ends:\n{end}")

    def _command(self, folder: Path, console: Path) -> list[str]:
        made = image()
        options = f"root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 {_FAST} {self.options}"
        return [
            "qemu-system-x86_64",
            *("-accel", os.environ.get("OARLOCK_GUEST_ACCEL", "tcg,thread=multi,tb-size=512")),
            *("-machine", "q35", "-cpu", "Nehalem", "-smp", "2", "-m", "2G", "-nodefaults", "-display", "none"),
            *([] if self.reboots else ["-no-reboot"]),
            *("-kernel", str(made / "kernel"), "-initrd", str(made / "initrd"), "-append", options),
            *("-serial", f"file:{console}", "-serial", "stdio"),
            *_drive(made / "disk.img"),
            *_drive(self._clone(folder)),
        ]

    def _clone(self, folder: Path) -> Path:
        """A disk with a copy of the clone as it is now: nothing that the guest does reaches the clone."""
        tree, disk = folder / "tree", folder / "clone.img"
        shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        (tree / ".venv").symlink_to("/opt/venv")
        (tree / "command").write_text(self.script)
        command = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(disk), "128M"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return disk


def _drive(path: Path) -> tuple[str, str]:
    """The disk as it is: what is written to it is forgotten with qemu's end."""
    return "-drive", f"file={path},format=raw,if=virtio,snapshot=on,cache=unsafe"


def _output(command: list[str], deadline: float) -> Iterator[str]:
    """The lines that a command prints until it ends, or until `deadline` seconds are over: then it is killed."""
    end = time.monotonic() + deadline
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            assert process.stdout is not None
            selector, rest = selectors.DefaultSelector(), b""
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, end - time.monotonic())):
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace").rstrip("\r") + "\n" for line in whole)
        finally:
            process.kill()
