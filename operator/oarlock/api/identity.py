"""Who an object is: its key, and the ids derived from it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

KUBERNETES = "kubernetes"
MANIFESTS = "manifests"

TRIAL = "oarlock-trial"
"""The id of the container that a node makes and removes to see that it can; an object's ends in a number."""

_MANIFEST_OBJECTS = uuid.UUID("6f61726c-6f63-6b2e-6465-762f6f626a73")


@dataclass(frozen=True, slots=True)
class Key:
    """Identity of one object: the same name made again has another uid, so it is another key."""

    source: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def manifest_uid(node: str, namespace: str, name: str) -> str:
    """The uid of an object in the manifest directory: the same on every look at the same node."""
    return str(uuid.uuid5(_MANIFEST_OBJECTS, f"{node}/{namespace}/{name}"))


def container_id(uid: str, attempt: int) -> str:
    """The OCI runtime's id of one attempt. Never made from a name: names are too long and too free."""
    return f"{uid}-{attempt}"
