"""What the model refuses, and what it says then."""

from __future__ import annotations

import copy
import re
import time
from typing import Any

import pytest

from oarlock.api.containerspec import given_spec, problems, validate
from oarlock.errors import InvalidSpec
from tests.unit.api.invalid import INVALID, VALID, changed


def test_the_valid_document_is_valid() -> None:
    assert problems(VALID, where="web", node_name=None) == []
    assert validate(VALID, where="web", node_name=None).nodeName == "node-a"


@pytest.mark.parametrize("name", INVALID)
def test_the_error_names_the_field_and_a_way_out(name: str) -> None:
    case = INVALID[name]
    document = case.document
    before = copy.deepcopy(document)
    with pytest.raises(InvalidSpec) as refused:
        validate(document, where="default/web", node_name=None)
    error = refused.value
    assert (error.where, error.field) == ("default/web", case.named)
    assert case.phrase in error.problem
    assert re.search(r"; \w|did you mean \w+\?$", error.problem), "no way out"
    assert str(error).isprintable()
    assert len(str(error)) < 250
    assert document == before


@pytest.mark.parametrize("name", INVALID)
def test_it_is_one_problem(name: str) -> None:
    case = INVALID[name]
    found = problems(case.document, where="web", node_name=None)
    assert [each.field for each in found] == [case.named], [str(each) for each in found]


def test_independent_problems_are_all_found_in_one_go() -> None:
    document = changed("spec.tty", "yes")
    document["spec"] |= {"comand": [], "restartPolicy": "Sometimes"}
    document["metadata"]["name"] = "WEB"
    found = {each.field for each in problems(document, where="web", node_name=None)}
    assert found == {"metadata.name", "spec.tty", "spec.comand", "spec.restartPolicy"}


@pytest.mark.parametrize("given", [{}, {"spec": None}, {"metadata": []}, {"spec": {}}, {1: 2}])
def test_nonsense_is_refused_and_never_breaks(given: dict[Any, Any]) -> None:
    with pytest.raises(InvalidSpec):
        validate(given, where="x", node_name=None)
    assert len(problems(given, where="x", node_name=None)) > 1


def test_a_manifest_may_leave_its_node_out_and_may_not_name_another() -> None:
    document = copy.deepcopy(VALID)
    del document["spec"]["nodeName"]
    assert validate(document, where="web", node_name="node-b").nodeName == "node-b"
    assert given_spec(document, "node-b")["nodeName"] == "node-b"
    assert "nodeName" not in document["spec"]
    with pytest.raises(InvalidSpec, match="this node is 'node-b'; leave it out or correct it") as refused:
        validate(VALID, where="web", node_name="node-b")
    assert refused.value.field == "spec.nodeName"
    assert [each.field for each in problems(VALID, where="web", node_name="node-b")] == ["spec.nodeName"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.terminationGracePeriodSeconds", 30.0),
        ("spec.securityContext.runAsUser", 1000.0),
        ("spec.logRotation.maxFiles", 2.0),
        ("spec.resources.limits.cpu", 2.0),
    ],
)
def test_json_has_one_kind_of_number(path: str, value: float) -> None:
    validate(changed(path, value), where="web", node_name=None)


@pytest.mark.parametrize("path", ["command", "args"])
def test_either_command_or_args_is_enough(path: str) -> None:
    document = copy.deepcopy(VALID)
    words = document["spec"].pop("command")
    document["spec"][path] = words
    assert getattr(validate(document, where="web", node_name=None), path) == words


def test_many_variables_take_no_time() -> None:
    variables = [{"name": f"V{index}", "value": "x"} for index in range(1024)]
    began = time.process_time()
    validate(changed("spec.env", variables), where="web", node_name=None)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("path", ["spec.tty", "spec.hostname", "spec.env", "spec.resources.limits", "spec.nodeName"])
def test_null_is_absent_as_for_the_server(path: str) -> None:
    assert problems(changed(path, None), where="web", node_name="node-a") == []
    given = given_spec(changed(path, None), "node-a")
    assert given["nodeName"] == "node-a"


def test_what_is_required_may_not_be_null() -> None:
    found = problems(changed("spec.rootfs", None), where="web", node_name=None)
    assert [(each.field, each.problem) for each in found] == [("spec.rootfs", "is required; add it")]
