"""Whom the container's process runs as, by the container's own /etc/passwd and /etc/group.

The rules are the kubelet's and containerd's (`WithUserID`, `WithAdditionalGIDs`): the primary group is the
passwd entry's unless `runAsGroup` says otherwise, and 0 without an entry; the supplementary groups are
those that list the user by name.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oarlock.errors import BundleError
from oarlock.linux.openat import read_inside

if TYPE_CHECKING:
    from oarlock.api.spec import Spec

Accounts = tuple[bytes, bytes]
"""A container's passwd and group; empty when it has none."""
_LIMIT = 1 << 20
_HIGHEST = 2**32 - 2


@dataclass(frozen=True, slots=True)
class User:
    """A resolved user.

    Attributes:
        uid: numeric user id.
        gid: primary group id.
        additional_gids: supplementary groups, the primary one first, as containerd gives them.
        home: home directory; `/` without a passwd entry.
        name: empty without a passwd entry.
    """

    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


def resolve(found: Accounts, spec: Spec) -> User:
    """The user of `spec` among these accounts.

    Raises:
        BundleError: `runAsNonRoot` with uid 0.
    """
    context = spec.securityContext
    uid = (context.runAsUser if context is not None else None) or 0
    group = context.runAsGroup if context is not None else None
    if uid == 0 and context is not None and context.runAsNonRoot:
        raise BundleError(
            "spec.securityContext.runAsNonRoot: the container would run as root (uid 0); "
            "set spec.securityContext.runAsUser to another user"
        )
    passwd, groups = found
    name, primary, home = _account(passwd, uid)
    gid = primary if group is None else group
    return User(uid, gid, _supplementary(groups, name, gid), home, name)


def find(root: Path | int, text: str) -> User:
    """The user that a call names, as `1000`, `app`, `1000:2000` or `app:extra`, in the tree `root`.

    Raises:
        BundleError: there is none of this name, or an account file cannot be read.
    """
    passwd, groups = accounts(root)
    name, given, group = text.partition(":")
    uid = _number(name)
    if uid is None:
        uid = _named(passwd, name, "user", "/etc/passwd")
    name, primary, home = _account(passwd, uid)
    gid = primary
    if given:
        number = _number(group)
        gid = _named(groups, group, "group", "/etc/group") if number is None else number
    return User(uid, gid, _supplementary(groups, name, gid), home, name)


def _named(accounts: bytes, name: str, kind: str, file: str) -> int:
    """The id of the first entry called `name`."""
    for line in accounts.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        number = _number(fields[2]) if len(fields) >= 3 and name and fields[0] == name else None
        if number is not None:
            return number
    raise BundleError(f"the container's {file} has no {kind} {name!r}; give a number, or a name that it has")


def accounts(root: Path | int) -> Accounts:
    """Those of the tree `root` (a path, or a descriptor of its top).

    Raises:
        BundleError: a file cannot be read.
    """
    with contextlib.ExitStack() as opened:
        try:
            if isinstance(root, int):
                fd = root
            else:
                fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, fd)
            passwd, groups = (read_inside(fd, name, _LIMIT) for name in ("/etc/passwd", "/etc/group"))
        except (OSError, ValueError) as error:
            raise BundleError(f"spec.rootfs.path: {error}; the user cannot be looked up") from None
    return passwd or b"", groups or b""


def _account(passwd: bytes, uid: int) -> tuple[str, int, str]:
    """Name, primary group and home of the first entry with `uid`."""
    for line in passwd.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and _number(fields[2]) == uid:
            home = fields[5] if fields[5].startswith("/") else "/"
            return fields[0], _number(fields[3]) or 0, home
    return "", 0, "/"


def _supplementary(groups: bytes, name: str, primary: int) -> tuple[int, ...]:
    found = [primary]
    for line in groups.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if name and len(fields) >= 4 and name in (member.strip() for member in fields[3].split(",")):
            gid = _number(fields[2])
            if gid is not None and gid not in found:
                found.append(gid)
    return tuple(found)


def _number(text: str) -> int | None:
    """A user or group id, or None when the field holds none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    value = int(text)
    return value if value <= _HIGHEST else None
