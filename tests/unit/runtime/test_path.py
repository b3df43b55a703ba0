"""The truth table of `oci.go: Path`, and handlers: which runtime a container runs under."""

from __future__ import annotations

from pathlib import Path

import pytest

from oarlock.runtime.path import handlers, runtime_path

TRUSTED, UNTRUSTED, CRUN = Path("/usr/bin/runc"), Path("/usr/bin/kata"), Path("/usr/bin/crun")
HANDLERS = {"runc": TRUSTED, "kata": UNTRUSTED, "fast": CRUN}


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


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("privileged", [True, False])
@pytest.mark.parametrize("default_trusted", [True, False])
@pytest.mark.parametrize("untrusted_path", [UNTRUSTED, None])
@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_goes_before_all_of_it(
    handler: str, trusted: bool, privileged: bool, default_trusted: bool, untrusted_path: Path | None
) -> None:
    found = runtime_path(
        handler=handler,
        trusted=trusted,
        privileged=privileged,
        default_trusted=default_trusted,
        trusted_path=TRUSTED,
        untrusted_path=untrusted_path,
        handlers=HANDLERS,
    )
    assert found == HANDLERS[handler]


def test_the_usual_runtimes_are_handlers_by_their_own_names() -> None:
    assert handlers(TRUSTED, UNTRUSTED, {"fast": CRUN}) == HANDLERS
    assert handlers(TRUSTED, None, {}) == {"runc": TRUSTED}
    assert handlers(TRUSTED, Path("/opt/runc"), {}) == {"runc": TRUSTED}
    assert handlers(TRUSTED, UNTRUSTED, {"kata": CRUN}) == {"runc": TRUSTED, "kata": CRUN}
