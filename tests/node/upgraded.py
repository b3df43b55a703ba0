"""An operator of a later version: its model has one more field at the top and one more inside, both with defaults.

Run as `upgraded.py run …`.
"""

from __future__ import annotations

import sys

from pydantic import Field

import oarlock.api.spec as model


class LaterRootFS(model.RootFS):
    """`rootfs` with a new field."""

    shared: bool = True


class LaterSpec(model.Spec):
    """The spec with a new field."""

    rootfs: LaterRootFS
    priority: int = Field(100, ge=0)


if __name__ == "__main__":
    model.Spec = LaterSpec  # type: ignore[misc]  # before anything else has imported it by name
    from oarlock.cli import main

    sys.exit(main())
