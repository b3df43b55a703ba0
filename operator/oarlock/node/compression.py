"""Compression of rotated logs: one file at a time, in a thread that gives way to everything else."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oarlock.node.logfiles import draft_path, packed_path

logger = logging.getLogger(__name__)
_BLOCK = 1 << 18
_FAST = 1
_ROOM = 16 << 20
_LEAST_URGENT = 19


class Compressor:
    """Turns `1.log.7` into `1.log.7.gz`, in the order in which the files are given."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._given: set[Path] = set()
        self._trouble = ""
        self._worker = ThreadPoolExecutor(1, "log-compression", initializer=_give_way)

    def close(self) -> None:
        """Stop, also in the middle of a file: it stays as it is."""
        self._stopped.set()
        self._worker.shutdown(cancel_futures=True)

    def compress(self, path: Path) -> None:
        """Have the file compressed when its turn comes; giving it again meanwhile is fine."""
        if path not in self._given:
            self._given.add(path)
            self._worker.submit(self._compress, path)

    def _compress(self, path: Path) -> None:
        try:
            compress(path, self._stopped)
            self._trouble = ""
        except OSError as error:
            told = error.strerror or str(error)
            if told != self._trouble:
                logger.warning("log %s stays uncompressed: %s; tried again at the next rotation", path, told)
            self._trouble = told
        finally:
            self._given.discard(path)


def compress(path: Path, stopped: threading.Event) -> None:
    """Replace a file by its compressed form, unless `stopped` or the file is removed meanwhile.

    The compressed form is complete and on the disk before it gets its name, and has its name before the file goes.

    Raises:
        OSError: the file stays; ENOSPC when less than its size and 16 MiB are free.
    """
    draft = draft_path(path)
    draft.unlink(missing_ok=True)  # of an operator that was killed
    try:
        with path.open("rb", buffering=0) as source, open(draft, "xb", opener=_private) as target:
            size, disk = os.fstat(source.fileno()).st_size, os.fstatvfs(target.fileno())
            if disk.f_bavail * disk.f_frsize < size + _ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with gzip.GzipFile(path.name, "wb", _FAST, target) as packed:
                while block := source.read(_BLOCK):
                    if stopped.is_set():
                        draft.unlink(missing_ok=True)
                        return
                    packed.write(block)
            target.flush()
            os.fsync(target.fileno())
        draft.rename(packed_path(path))
    except FileNotFoundError:  # rotated out of what is kept, or the object is gone
        draft.unlink(missing_ok=True)
        return
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    try:
        path.unlink()
    except FileNotFoundError:  # removed while it was compressed
        packed_path(path).unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _give_way() -> None:
    """Lower the priority of this thread alone."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_URGENT)
