"""A root filesystem for test containers, made from Debian's busybox-static."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
_GROUP = "root:x:0:\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n"


def make_rootfs(root: Path) -> Path:
    """Fill `root` with /bin/busybox and a link for each of its applets, users and the usual folders."""
    for name in (
        "bin",
        "dev",
        "etc",
        "home/app",
        "mnt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "var/log",
    ):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    shutil.chown(root / "home/app", 1000, 1000)
    busybox = root / "bin" / "busybox"
    shutil.copy("/bin/busybox", busybox)
    applets = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True, timeout=10).stdout
    for applet in set(applets.split()) - {"busybox"}:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(_PASSWD)
    (root / "etc/group").write_text(_GROUP)
    (root / "etc/hostname").write_text("rootfs\n")
    return root
