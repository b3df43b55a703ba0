"""A root filesystem as an object names it, read before anything is made of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oarlock.bundle import users
from oarlock.bundle.rootfs import FIELD, check_rootfs
from oarlock.errors import BundleError
from oarlock.linux.patience import patiently

_ANSWER, _FRESH = 5.0, 1.0
"""Seconds that a file system has to answer, and for which its answer holds: many begin at one time."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What is read of it: its real path, and the accounts in it."""

    top: Path
    accounts: users.Accounts


def look(path: Path, *, forbidden: Sequence[Path] = (), allowed: Sequence[Path] = ()) -> Tree:
    """Read it; takes for ever where the server of a file system on the way is away. For the rest see `check_rootfs`.

    Raises:
        BundleError: it does not exist, or must not be used, or its accounts cannot be read.
    """
    top = check_rootfs(path, forbidden=forbidden, allowed=allowed)
    return Tree(top, users.accounts(top))


async def looked_at(path: Path, *, forbidden: Sequence[Path], allowed: Sequence[Path]) -> Tree:
    """The same beside the loop, which all objects share: what hangs is given up.

    Raises:
        BundleError: as `look`, or it gives no answer.
    """
    step = functools.partial(look, path, forbidden=forbidden, allowed=allowed)
    try:
        return await patiently(f"rootfs {path}", step, _ANSWER, _FRESH)
    except TimeoutError:
        told = f"{FIELD}: {path} gives no answer within {_ANSWER:g} s; see the file system that it lies on"
        raise BundleError(told) from None
