"""What a node refuses, and what it warns of, although the spec is well-formed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from oarlock.api.spec import Spec
from oarlock.reconcile.admission import refusal, warning
from oarlock.reconcile.backoff import BackOff
from oarlock.reconcile.node import Policy

OPEN = {
    "allow_privileged": True,
    "allow_untrusted_privileged": True,
    "allow_host_network": True,
    "allow_host_pid": True,
    "default_trusted": True,
}


def policy(**changed: Any) -> Policy:
    """A node that allows everything but what is `changed`."""
    known: dict[str, Any] = {
        "runtime_trusted": Path("/usr/bin/runc"),
        "runtime_untrusted": None,
        "handlers": {"runc": Path("/usr/bin/runc"), "crun": Path("/usr/bin/crun")},
        "allowed_rootfs": (),
        "forbidden": (),
        "backoff": BackOff(10, 300, 600),
        "log_max_size": 1 << 20,
        "log_max_files": 5,
        **OPEN,
        **changed,
    }
    names = {each.name for each in dataclasses.fields(Policy)}
    return Policy(**{name: known.get(name) for name in names})


def spec(**fields: Any) -> Spec:
    return Spec.model_validate({"nodeName": "n", "rootfs": {"path": "/srv"}, "command": ["true"], **fields})


PRIVILEGED = {"securityContext": {"privileged": True}}


@pytest.mark.parametrize(
    ("fields", "closed", "sentence"),
    [
        (PRIVILEGED, "allow_privileged", "spec.securityContext.privileged: not allowed on this node"),
        (PRIVILEGED | {"trusted": False}, "allow_untrusted_privileged", "spec.trusted: an untrusted container may not"),
        ({"hostNetwork": True}, "allow_host_network", "spec.hostNetwork: not allowed on this node"),
        ({"hostPID": True}, "allow_host_pid", "spec.hostPID: not allowed on this node; drop it, or start the operator"),
    ],
)
def test_each_option_of_the_policy(fields: dict[str, Any], closed: str, sentence: str) -> None:
    assert refusal(spec(**fields), policy()) is None
    refused = refusal(spec(**fields), policy(**{closed: False}))
    assert refused is not None
    assert refused.startswith(sentence)
    assert f"--{closed.replace('_', '-')}" in refused


def test_a_handler_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert refusal(spec(runtimeHandler="crun"), policy()) is None
    assert refusal(spec(runtimeHandler="kata"), policy()) == (
        "spec.runtimeHandler: kata is not a runtime of this node, which has crun, runc; name one of them, "
        "or start the operator with --runtimes kata=PATH"
    )


@pytest.mark.parametrize("handler", [None, "crun"])
@pytest.mark.parametrize(
    ("trusted", "privileged", "default_trusted", "both"),
    [
        (True, False, True, False),
        (True, True, True, False),
        (False, False, True, False),
        (False, True, True, True),
        (True, False, False, False),
        (True, True, False, True),
        (False, False, False, False),
        (False, True, False, True),
    ],
)
def test_untrusted_and_privileged_is_refused_or_warned_of(
    trusted: bool, privileged: bool, default_trusted: bool, both: bool, handler: str | None
) -> None:
    given = spec(trusted=trusted, securityContext={"privileged": privileged}, runtimeHandler=handler)
    closed = policy(default_trusted=default_trusted, allow_untrusted_privileged=False)
    at_fault = "spec.securityContext.privileged:" if trusted else "spec.trusted:"
    assert (refusal(given, closed) or "").startswith(at_fault) == both
    found = warning(given, policy(default_trusted=default_trusted))
    assert refusal(given, policy(default_trusted=default_trusted)) is None
    if not both:
        assert found is None
    else:
        assert found is not None
        assert found[0] == "UntrustedPrivileged"
        assert ("runtime crun" if handler else "the trusted runtime") in found[1]
