"""Mounting by system call: no mount(8), no shell, no path that is parsed twice.

An overlay mounted this way costs 0.1 ms against 2 ms for the command. The layers are handed to the
kernel as descriptors (`/proc/self/fd/N`), so that `:`, `,` and `\\` in a path mean nothing, and so
that what was checked is what is mounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from oarlock.linux import openat

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND = 0x2, 0x4, 0x8, 0x1000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8

# The new mount API; the same numbers on every architecture.
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 429, 430, 431, 432
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_NODEV = 0x4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mount_overlay(lower: Path, upper: Path, work: Path, target: Path, *, devices: bool = False) -> None:
    """Mount an overlay of `upper` over `lower` at `target`.

    It is `volatile`: nothing is synced to disk for it, and after a crash of the machine the kernel refuses
    this upper; each attempt has a new one. setuid programs work (the container decides with
    no_new_privs); the mount itself is only reachable through directories that are root's alone.

    Args:
        lower: the tree that is only read; its path must be free of symbolic links.
        upper: takes what is written. An empty directory, on the same filesystem as `work`.
        work: an empty directory for the kernel.
        target: the directory to mount on.
        devices: whether device nodes in it can be opened.

    Raises:
        OSError: as mount(2); `filename` is the path at fault.
    """
    with contextlib.ExitStack() as opened:
        layers = [_layer(opened, path) for path in (lower, upper, work)]
        names = ("lowerdir", "upperdir", "workdir")
        options = [(name, f"/proc/self/fd/{fd}") for name, fd in zip(names, layers, strict=True)]
        try:
            _mount_detached(options, target, 0 if devices else _MOUNT_ATTR_NODEV)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
                raise
            data = ",".join([f"{name}={value}" for name, value in options] + ["index=off", "volatile"])
            _mount("overlay", target, "overlay", 0 if devices else _MS_NODEV, data)
    _mount(None, target, None, _MS_PRIVATE, None)


def mount_tmpfs(target: Path, size_bytes: int, mode: int) -> None:
    """Mount an empty tmpfs of at most `size_bytes` at `target`; its top has `mode`. No programs, no devices.

    Raises:
        OSError: as mount(2).
    """
    options = f"size={size_bytes},mode={mode:04o}"
    _mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
    _mount(None, target, None, _MS_PRIVATE, None)


def mount_private(target: Path) -> None:
    """Make `target` a mount point of its own, so that mounts below it stay in this mount namespace.

    On a host run by systemd `/` is shared: without this, each container's overlay would be copied into
    every other mount namespace, which then keeps it busy.

    Raises:
        OSError: as mount(2).
    """
    if not is_mounted(target):
        _mount(os.fspath(target), target, None, _MS_BIND | _MS_REC, None)
    _mount(None, target, None, _MS_PRIVATE | _MS_REC, None)


def unmount(target: Path) -> None:
    """Detach whatever is mounted at `target`, all of it; fine when nothing is, or when it does not exist.

    What still uses the mount keeps it until it ends. A symbolic link is not followed.

    Raises:
        OSError: as umount(2).
    """
    while _libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
        pass
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
        raise OSError(code, os.strerror(code), os.fspath(target))


def is_mounted(target: Path) -> bool:
    """Whether something is mounted at exactly `target` in this mount namespace."""
    wanted = os.path.join(os.path.realpath(target.parent), target.name)
    return any(point == wanted for point in _mount_points())


def mounts_under(prefix: Path) -> list[Path]:
    """The mount points below `prefix` (not itself), deepest first, so that they can be detached in order."""
    top = os.path.realpath(prefix).rstrip("/") + "/"
    found = {point for point in _mount_points() if point.startswith(top)}
    return [Path(point) for point in sorted(found, key=lambda point: (-point.count("/"), point))]


def _layer(opened: contextlib.ExitStack, path: Path) -> int:
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        fd = openat.openat2(path, flags, resolve=openat.NO_SYMLINKS)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    opened.callback(os.close, fd)
    return fd


def _mount_detached(options: Sequence[tuple[str, str]], target: Path, attributes: int) -> None:
    """Mount an overlay through fsopen(2), whose options are not parsed out of one string."""
    with contextlib.ExitStack() as opened:
        context = _call(_SYS_FSOPEN, b"overlay", _CLOEXEC)
        opened.callback(os.close, context)
        for name, value in (*options, ("index", "off")):
            _call(_SYS_FSCONFIG, context, _SET_STRING, name.encode(), value.encode(), 0)
        _call(_SYS_FSCONFIG, context, _SET_FLAG, b"volatile", None, 0)
        _call(_SYS_FSCONFIG, context, _CREATE, None, None, 0)
        mounted = _call(_SYS_FSMOUNT, context, _CLOEXEC, attributes)
        opened.callback(os.close, mounted)
        _call(_SYS_MOVE_MOUNT, mounted, b"", -100, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def _call(number: int, *arguments: int | bytes | None) -> int:
    result = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def _mount(source: str | None, target: Path, kind: str | None, flags: int, data: str | None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, kind, data)]
    if _libc.mount(encoded[0], os.fsencode(target), encoded[1], flags, encoded[2]) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(target))


def _mount_points() -> Iterator[str]:
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file.read().splitlines():
            yield unescaped(line.split(b" ", 5)[4])


def unescaped(field: bytes) -> str:
    """A path as /proc/PID/mountinfo has it, where blanks and the like are octal numbers (proc(5))."""
    return os.fsdecode(_ESCAPED.sub(lambda octal: bytes([int(octal[1], 8)]), field))
