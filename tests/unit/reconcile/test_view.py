"""The words for what a keeper sees."""

from __future__ import annotations

import pytest

from oarlock.api.spec import Spec
from oarlock.reconcile.view import about_the_command


@pytest.mark.parametrize(
    ("fields", "said", "told"),
    [
        ({"command": ["/bin/x"]}, "open executable: Permission denied", "/bin/x: open executable: Permission denied"),
        ({"args": ["job", "-v"]}, "exec: not found", "job: exec: not found"),
        ({"command": ["nosuch"]}, 'exec: "nosuch": executable file not found in $PATH', None),
    ],
)
def test_the_command_is_named_whatever_the_runtime_says(
    fields: dict[str, list[str]], said: str, told: str | None
) -> None:
    spec = Spec.model_validate({"nodeName": "a", "rootfs": {"path": "/srv/rootfs"}} | fields)
    assert about_the_command(said, spec) == (told or said)
