"""An object that a source accepted: valid, identified, ready to be reconciled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oarlock.api.identity import Key
from oarlock.api.spec import Spec

RESTARTED_AT = "oarlock.dev/restartedAt"
"""Annotation: a changed value replaces the container, as `oarlock restart` does."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One valid version of one object.

    Attributes:
        key: who it is.
        generation: counts the versions of its spec.
        spec: the validated spec, defaults filled in.
        given: the spec as it was accepted, before defaults (JSON shape); what is recorded and compared.
        created: RFC 3339 time of the object's creation.
        deleted: a deletion timestamp is set.
        finalizer: oarlock's finalizer is on it (always true for manifests).
        origin: `file:line` for a manifest, else None.
    """

    key: Key
    generation: int
    spec: Spec
    given: Mapping[str, Any]
    created: str
    deleted: bool = False
    finalizer: bool = False
    origin: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
