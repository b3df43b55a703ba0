"""The CustomResourceDefinition is the models, in the form that the API server takes."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from oarlock.api.crd import crd, render
from oarlock.api.security import SeccompProfile
from oarlock.api.spec import RestartPolicy, Spec, State
from oarlock.api.status import Condition, Phase, Status

FILE = Path(__file__).parents[3] / "crds" / "oarlock.dev_containerspecs.yaml"
VERSION: dict[str, Any] = crd()["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]
ALLOWED = {
    *("type", "description", "default", "enum", "format", "pattern", "minimum", "maximum", "maxLength", "maxItems"),
    *("minLength", "required", "properties", "items", "x-kubernetes-int-or-string", "x-kubernetes-validations"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a schema with its path, as `.spec.env[].name`."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


NODES = dict(nodes(SCHEMA))


def fields(model: Any, path: str) -> Iterator[str]:
    """The paths of all fields of a model, in the same spelling."""
    for name, field in model.model_fields.items():
        yield f"{path}.{field.alias or name}"
        yield from below(field.annotation, f"{path}.{field.alias or name}")


def below(annotation: Any, path: str) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from fields(annotation, path)
    for inner in get_args(annotation):
        yield from below(inner, f"{path}[]" if getattr(annotation, "__origin__", None) is list else path)


def test_the_file_is_what_the_models_say() -> None:
    assert FILE.read_text() == render(), "stale: run `oarlock crd` and save its output there"


def test_the_file_is_plain_yaml_that_says_the_same() -> None:
    text = FILE.read_text()
    assert yaml.safe_load(text) == crd()
    assert not any(line.lstrip(" -").startswith(("&", "*")) or ": &id" in line for line in text.splitlines())
    assert render() == render()


@pytest.mark.parametrize("path", NODES)
def test_every_node_is_structural(path: str) -> None:
    node = NODES[path]
    assert node.keys() <= ALLOWED
    assert ("type" in node) != (node.get("x-kubernetes-int-or-string") is True)
    assert node.get("type") in (None, "object", "array", "string", "integer", "boolean")
    assert (node.get("type") == "object") == ("properties" in node) or path == ".metadata"
    assert (node.get("type") == "array") == ("items" in node)


@pytest.mark.parametrize("path", [path for path in NODES if path.startswith((".spec", ".status"))])
def test_every_field_is_described_in_a_sentence(path: str) -> None:
    if path.endswith("[]") and "properties" not in NODES[path]:
        return
    words = NODES[path]["description"]
    assert words[0].isupper()
    assert words.endswith(".")
    assert len(words) >= 10
    assert words.isprintable()


@pytest.mark.parametrize("path", [path for path, node in NODES.items() if "x-kubernetes-list-map-keys" in node])
def test_keys_of_lists_are_always_there(path: str) -> None:
    node = NODES[path]
    assert node["x-kubernetes-list-type"] == "map"
    for key in node["x-kubernetes-list-map-keys"]:
        assert key in node["items"]["required"] or "default" in node["items"]["properties"][key]


def test_lists_of_objects_have_keys_and_every_list_has_an_end() -> None:
    for path, node in NODES.items():
        if node.get("type") == "array":
            assert node["maxItems"] > 0, path
            assert ("properties" in node["items"]) == ("x-kubernetes-list-map-keys" in node), path


def test_every_field_of_the_models_is_there_and_no_other() -> None:
    known = {*fields(Spec, ".spec"), *fields(Status, ".status")}
    written = {path.removesuffix("[]") for path in NODES if path.startswith((".spec.", ".status."))}
    assert {path.replace("[][]", "[]") for path in known} == written


ENUMS: dict[str, type[StrEnum] | Any] = {
    ".spec.state": State,
    ".spec.restartPolicy": RestartPolicy,
    ".status.phase": Phase,
    ".spec.securityContext.seccompProfile.type": SeccompProfile,
    ".spec.network.mode": None,
    ".status.conditions[].type": Condition,
    ".status.conditions[].status": Condition,
}


def test_every_choice_of_the_models_is_there() -> None:
    assert {path for path, node in NODES.items() if "enum" in node} == set(ENUMS)
    for path, enum in ENUMS.items():
        if isinstance(enum, type) and issubclass(enum, StrEnum):
            assert NODES[path]["enum"] == [str(member) for member in enum]
        elif enum is not None:
            assert NODES[path]["enum"] == list(get_args(enum.model_fields[path.rsplit(".", 1)[-1]].annotation))
    assert NODES[".spec.network.mode"]["enum"] == ["Host", "None"]


def test_defaults_are_the_models() -> None:
    empty = Spec.model_validate({"nodeName": "n", "rootfs": {"path": "/r"}, "command": ["x"], "env": [{"name": "A"}]})
    full = empty.model_dump(mode="json")
    for path, node in NODES.items():
        if path.startswith(".spec.") and "default" in node and not path.startswith(".spec.network."):
            value: Any = full
            for part in path.removeprefix(".spec.").replace("[]", ".0").split("."):
                value = value[int(part) if part.isdigit() else part]
            assert node["default"] == value, path


def test_required_is_what_has_no_default() -> None:
    assert NODES[".spec"]["required"] == ["nodeName", "rootfs"]
    assert SCHEMA["required"] == ["spec"]
    assert "required" not in NODES[".status"]


def test_rules_say_what_is_wrong_and_a_way_out() -> None:
    rules = [(path, rule) for path, node in NODES.items() for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) >= 8
    for path, rule in rules:
        assert ";" in rule["message"], path
        assert f"{path}{rule.get('fieldPath', '')}" in NODES


def test_columns_show_what_exists() -> None:
    for column in VERSION["additionalPrinterColumns"]:
        path = column["jsonPath"]
        if not path.startswith(".metadata"):
            head, _, rest = path.partition("[")
            assert head + ("[]" + rest.partition("]")[2] if rest else "") in NODES
    assert VERSION["selectableFields"] == [{"jsonPath": ".spec.nodeName"}]
