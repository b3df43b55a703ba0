"""The truth table of `oci.go: Path`: which runtime a container runs under."""

from __future__ import annotations

from pathlib import Path

import pytest

from oarlock.runtime.path import runtime_path

TRUSTED, UNTRUSTED = Path("/usr/bin/runc"), Path("/usr/bin/kata")


@pytest.mark.parametrize(
    ("trusted", "privileged", "default_trusted", "expected"),
    [
        (True, False, True, TRUSTED),
        (True, True, True, TRUSTED),
        (True, True, False, TRUSTED),
        (True, False, False, UNTRUSTED),
        (False, False, True, UNTRUSTED),
        (False, False, False, UNTRUSTED),
        (False, True, True, TRUSTED),
        (False, True, False, TRUSTED),
    ],
)
def test_with_two_runtimes(trusted: bool, privileged: bool, default_trusted: bool, expected: Path) -> None:
    found = runtime_path(
        trusted=trusted,
        privileged=privileged,
        default_trusted=default_trusted,
        trusted_path=TRUSTED,
        untrusted_path=UNTRUSTED,
    )
    assert found == expected


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("privileged", [True, False])
@pytest.mark.parametrize("default_trusted", [True, False])
def test_with_one_runtime_it_is_that_one(trusted: bool, privileged: bool, default_trusted: bool) -> None:
    found = runtime_path(
        trusted=trusted,
        privileged=privileged,
        default_trusted=default_trusted,
        trusted_path=TRUSTED,
        untrusted_path=None,
    )
    assert found == TRUSTED
