"""A field is in the API only once it works: tests of a real node or cluster name every one."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from oarlock.api.spec import Spec
from oarlock.api.status import Status
from tests.unit.api.test_crd import fields

APART = {"test_crd.py", "test_chart.py"}
TESTS = Path(__file__).parents[2]
PATHS = {*fields(Spec, "spec"), *fields(Status, "status")}
LEAVES = sorted(path for path in PATHS if not any(other.startswith((path + ".", path + "[")) for other in PATHS))


@cache
def words() -> frozenset[str]:
    """Every word in the tests that run containers or a control plane.

    Those of the CRD prove no behaviour, and those of the chart speak of the operator's own pod.
    """
    files = [*TESTS.glob("node/**/*.py"), *TESTS.glob("cluster/**/*.py")]
    text = "\n".join(file.read_text() for file in files if file.name not in APART)
    return frozenset(re.findall(r"\w+", text) + re.findall(r"\w+(?:-\w+)+", text))


def test_there_are_leaves() -> None:
    assert {"spec.nodeName", "spec.resources.limits.cpu", "spec.env[].value", "status.conditions[].type"} <= {*LEAVES}


@pytest.mark.parametrize("path", LEAVES)
def test_a_test_of_the_real_thing_names(path: str) -> None:
    name = path.rsplit(".", 1)[-1]
    if name not in words():
        pytest.fail(f"no test of a node or a cluster names {name}")
