"""The words for what a keeper sees."""

from __future__ import annotations

import pytest

from oarlock.api.spec import Spec
from oarlock.reconcile.view import about_the_command, hostname


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


def test_a_host_name_is_one_that_the_kernel_takes() -> None:
    fields = {"nodeName": "a", "rootfs": {"path": "/srv/rootfs"}, "command": ["x"]}
    own, shared = Spec.model_validate(fields), Spec.model_validate(fields | {"hostNetwork": True})
    assert hostname(own, "web.example", "node") == "web-example"
    assert hostname(shared, "web", "node.example") == "node.example"
    assert hostname(shared, "web", "n" * 62 + ".example") == "n" * 62
    assert hostname(own, "w" * 62 + ".example", "node") == "w" * 62
