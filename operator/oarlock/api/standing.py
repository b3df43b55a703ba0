"""What a wish of the command holds for: as long as a document asks for the same container in the same state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IN_PLACE = frozenset(
    {"nodeName", "state", "restartPolicy", "terminationGracePeriodSeconds", "lifecycle", "logRotation"}
)
"""Fields that apply to a container that runs already."""


def standing(given: Mapping[str, Any]) -> str:
    """A digest of a spec without the fields that apply in place, but with `state`.

    Imports no models: the command asks it too.
    """
    told = {name: value for name, value in given.items() if name == "state" or name not in IN_PLACE}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
