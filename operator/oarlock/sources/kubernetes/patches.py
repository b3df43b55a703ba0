"""The JSON patches (RFC 6902) we write. Pure: each fails (422) on another object of the same name.

The API server ignores a uid inside a merge patch on /status, so only `test` holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Patch = list[dict[str, Any]]


def status(uid: str, value: Mapping[str, Any]) -> Patch:
    """Replace the whole status."""
    return [_same(uid), {"op": "add", "path": "/status", "value": value}]


def add_finalizer(uid: str, finalizer: str, present: Sequence[str]) -> Patch:
    """Add a finalizer to those that are present; fails when there is one and we thought there was none."""
    if present:
        return [_same(uid), {"op": "add", "path": "/metadata/finalizers/-", "value": finalizer}]
    # A `test` for null passes where nothing is (evanphx/json-patch), so nobody's finalizer is overwritten.
    return [
        _same(uid),
        {"op": "test", "path": "/metadata/finalizers", "value": None},
        {"op": "add", "path": "/metadata/finalizers", "value": [finalizer]},
    ]


def remove_finalizer(uid: str, finalizer: str, present: Sequence[str]) -> Patch:
    """Remove one finalizer and no other; fails when the list is not as we thought."""
    place = f"/metadata/finalizers/{list(present).index(finalizer)}"
    return [_same(uid), {"op": "test", "path": place, "value": finalizer}, {"op": "remove", "path": place}]


def _same(uid: str) -> dict[str, Any]:
    return {"op": "test", "path": "/metadata/uid", "value": uid}
