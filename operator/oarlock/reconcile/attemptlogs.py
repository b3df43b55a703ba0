"""The logs of an object's attempts: which of them are kept. (`node.logfiles` knows the files of one attempt.)"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)
_KEPT = 2


def drop_old(folder: Path) -> None:
    """Keep those of the newest two attempts that have one."""
    _drop(folder, sorted(_files(folder))[:-_KEPT])


def drop(folder: Path, attempt: int) -> None:
    """Remove that of an attempt which never ran; fine when there is none."""
    _drop(folder, (attempt,))


def _drop(folder: Path, attempts: Iterable[int]) -> None:
    files = _files(folder)
    for path in itertools.chain.from_iterable(files.get(each, ()) for each in attempts):
        try:
            os.unlink(path)
        except FileNotFoundError:  # it was being compressed
            continue
        except OSError as error:
            logger.warning("log %s cannot be removed: %s", path, error.strerror)


def _files(folder: Path) -> dict[int, list[str]]:
    """The files, by attempt."""
    found: dict[int, list[str]] = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            number = entry.name.partition(".")[0]
            if number.isdigit():
                found.setdefault(int(number), []).append(entry.path)
    return found
