"""The folder of records: one JSON file an object, named by its uid."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oarlock.api.spec import Spec
from oarlock.errors import ForeignRecord, RecordError
from oarlock.linux.files import sync_folder, write_atomic
from oarlock.records.model import FORMAT, Record

logger = logging.getLogger(__name__)
_GOES = "its container, layers and logs are removed"


class Store:
    """Reads and writes records; what belongs to another node or a newer format is refused, never touched."""

    def __init__(self, folder: Path, node_name: str) -> None:
        self._folder = folder
        self._node = node_name

    def load(self) -> list[Record]:
        """Every record, as a loss of power has left it: one that never lasted is as good as none.

        Raises:
            ForeignRecord: one is of another node or of a newer format.
            RecordError: one cannot be read; the message names the file.
        """
        records = map(self._read, sorted(self._folder.glob("*.json")))
        return [record for record in records if record is not None]

    def write(self, uid: str, data: bytes, *, durable: bool = True) -> None:
        """Write a record (its JSON), atomically. The last durable one stays beside one that is not.

        Raises:
            OSError: nothing was changed.
        """
        path, lasting = self._folder / f"{uid}.json", self._lasting(uid)
        if not durable:
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(path, lasting)
        write_atomic(path, data, durable=durable)
        if durable:
            lasting.unlink(missing_ok=True)

    def remove(self, uid: str) -> None:
        """Forget an object; fine when it is forgotten already."""
        self._lasting(uid).unlink(missing_ok=True)
        (self._folder / f"{uid}.json").unlink(missing_ok=True)
        sync_folder(self._folder)

    def _lasting(self, uid: str) -> Path:
        return self._folder / f".{uid}.lasting"

    def _read(self, path: Path) -> Record | None:
        try:
            data = self._content(path)
        except (OSError, ValueError) as error:
            raise RecordError(
                f"record {path} cannot be read: {error}; move it away to go on without it ({_GOES})"
            ) from error
        if data is None:
            return None
        if data.get("format", 0) > FORMAT:
            raise ForeignRecord(f"record {path} has format {data['format']}, newer than {FORMAT}; run a newer oarlock")
        if data.get("nodeName") != self._node:
            raise ForeignRecord(
                f"record {path} belongs to node {data.get('nodeName')!r}, this is {self._node!r}; "
                "start with that --node-name, or with another --state-dir"
            )
        try:
            record = Record.model_validate(data)
            Spec.model_validate(record.spec)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise RecordError(
                f"record {path} is none for this version of oarlock: {field}: {first['msg']}; start the version that "
                f"wrote it, or move it away to go on without it ({_GOES})"
            ) from error
        return record

    def _content(self, path: Path) -> Any:
        """What is in a record; of a damaged one, in the durable one before. None when it was lost and never lasted.

        Raises:
            OSError, ValueError: it cannot be read.
        """
        raw, lasting = path.read_bytes(), self._lasting(path.stem)
        try:
            return json.loads(raw)
        except ValueError:
            before = lasting.read_bytes() if lasting.exists() else b""
            if not before.strip(b"\0") and not raw.strip(b"\0"):
                logger.warning("record %s was lost with the power before it lasted: removed", path)
                self.remove(path.stem)
                return None
            if not before:
                raise
        data = json.loads(before)
        logger.warning("record %s was damaged: the one before counts", path)
        lasting.rename(path)
        return data
