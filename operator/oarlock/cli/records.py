"""A reading view of the records on disk: what `ps`, `inspect` and `logs` know without the operator.

Only the JSON of the record files is used; the operator may be writing, upgraded, or gone.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oarlock.api.identity import MANIFESTS
from oarlock.cli import exitcodes
from oarlock.cli.liveness import ended_unseen
from oarlock.linux.procfs import boot_id
from oarlock.node.configuration import Configuration
from oarlock.node.presence import Operator

API_VERSION = "oarlock.dev/v1alpha1"
KIND = "ContainerSpec"


@dataclass(frozen=True, slots=True)
class Record:
    """One container's record, as it is on disk (`data`), with its status made honest (`status`)."""

    data: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        return str(self.data.get("namespace", "default"))

    @property
    def name(self) -> str:
        return str(self.data.get("name", ""))

    @property
    def uid(self) -> str:
        return str(self.data.get("uid", ""))

    @property
    def source(self) -> str:
        return str(self.data.get("source", MANIFESTS))

    @property
    def origin(self) -> str | None:
        origin = self.data.get("origin")
        return None if origin is None else str(origin)

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.data.get("spec") or {}

    @property
    def desired(self) -> str:
        """The state that is wanted: the command's word goes before the spec's."""
        return str(self.data.get("override") or self.spec.get("state") or "Running")

    @property
    def current(self) -> Mapping[str, Any]:
        return self.data.get("current") or {}

    @property
    def attempt(self) -> int:
        return int(self.data.get("attempt") or 0)

    @property
    def phase(self) -> str:
        return str(self.status.get("phase") or "Pending")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def object(self) -> dict[str, Any]:
        """The whole object as kubectl prints it."""
        metadata = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "generation": self.data.get("generation"),
            "creationTimestamp": self.data.get("created"),
            "labels": self.data.get("labels"),
            "annotations": self.data.get("annotations"),
        }
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {key: value for key, value in metadata.items() if value not in (None, {})},
            "spec": self.spec,
            "status": self.status,
        }


@dataclass(frozen=True, slots=True)
class Shelf:
    """All records of one node, read at one moment.

    Attributes:
        unreadable: files that are no record, each with the reason.
    """

    records: tuple[Record, ...]
    unreadable: tuple[str, ...]

    def select(self, namespace: str | None) -> list[Record]:
        """The records of one namespace (None: of all), by namespace and name."""
        return [each for each in self.records if namespace in (None, each.namespace)]

    def find(self, name: str, namespace: str | None) -> Record:
        """The record of `name`, `namespace/name` or a uid.

        Raises:
            Failure: there is none (exit code 3), or there are several (2).
        """
        if "/" in name:
            namespace, name = name.split("/", 1)
        known = self.select(namespace)
        found = [each for each in known if name in (each.name, each.uid)]
        if not found:
            raise exitcodes.Failure(_not_found(name, namespace, known), exitcodes.NOT_FOUND)
        places = sorted({str(each) for each in found})
        if len(places) > 1:
            raise exitcodes.Failure(
                f"{name} is in several namespaces; choose one of {', '.join(places)}", exitcodes.USAGE
            )
        return min(found, key=_standing)


def read_record(path: Path) -> Record | None:
    """One record; None when there is no such file.

    Raises:
        ValueError: the file is no record.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(data, dict) or "name" not in data:
        raise ValueError("not a record")
    return Record(data, data.get("status") or {})


def read_shelf(configuration: Configuration, operator: Operator) -> Shelf:
    """All records; none when there is no state directory. Without an operator the dead are told as such.

    Raises:
        PermissionError: the state directory is not for this user.
    """
    records: list[Record] = []
    unreadable: list[str] = []
    boot = boot_id()
    for path in record_files(configuration.records_dir):
        try:
            record = read_record(path)
        except ValueError as error:
            unreadable.append(f"{path}: {error}")
            continue
        if record is not None:
            if not operator.running:
                status = ended_unseen(record.data, boot, configuration.exits_dir)
                record = record if status is None else Record(record.data, status)
            records.append(record)
    records.sort(key=lambda each: (each.namespace, each.name, _standing(each)))
    return Shelf(tuple(records), tuple(unreadable))


def record_files(directory: Path) -> Iterator[Path]:
    """The files that are records: `<uid>.json`, not the temporary ones beside them."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            yield directory / name


def read_problems(configuration: Configuration) -> list[str]:
    """What the manifest directory has wrong now, one sentence each."""
    try:
        found = json.loads(configuration.problems_file.read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    rows: Iterable[Mapping[str, Any]] = found if isinstance(found, list) else ()
    return [": ".join(str(each[key]) for key in ("where", "field", "problem") if each.get(key)) for each in rows]


def _standing(record: Record) -> tuple[bool, bool, str]:
    """Sorts the record that holds the name first: not deleted, not refused, then by uid."""
    return (bool(record.data.get("deleted")), record.status.get("reason") == "NameTaken", record.uid)


def _not_found(name: str, namespace: str | None, known: list[Record]) -> str:
    place = f" in namespace {namespace}" if namespace else ""
    close = difflib.get_close_matches(name, [each.name for each in known], n=1)
    hint = f"; did you mean {close[0]}?" if close else "; `oarlock ps` lists those that are there"
    return f"no container {name}{place}{hint}"
