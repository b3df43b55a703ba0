"""The object as a whole, and its validation with errors for people."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from oarlock.api.fields import Contradiction
from oarlock.api.spec import SUPPORTED_LATER, Spec
from oarlock.errors import InvalidSpec

GROUP, VERSION = "oarlock.dev", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND, PLURAL = "ContainerSpec", "containerspecs"
FINALIZER = "oarlock.dev/container"

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_KINDS: Mapping[type, str] = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}
_SECRETS = frozenset({"command", "args", "env"})
"""Fields whose values are nobody's business."""
_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(_WORD)
_VALUE = re.compile(rf"({_WORD})?")
_METADATA = (
    *("name", "namespace", "labels", "annotations", "generateName", "uid", "resourceVersion", "generation"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers"),
    *("managedFields", "selfLink"),
)
"""Fields of ObjectMeta (meta/v1): what `kubectl get -o yaml` prints can be used as it is."""
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")


def validate(document: Mapping[str, Any], *, where: str, node_name: str | None) -> Spec:
    """The spec of a valid object.

    Args:
        where: how errors name the object.
        node_name: in the manifest source, the node itself: the default of spec.nodeName and its only value.

    Raises:
        InvalidSpec: the first problem, with the field's path and the way out.
    """
    for problem in _identity_problems(document, where, served=node_name is None):
        raise problem
    try:
        return _parse(document, node_name, where)
    except ValidationError as error:
        raise next(_spec_problems(error, where)) from None


def problems(document: Mapping[str, Any], *, where: str, node_name: str | None) -> list[InvalidSpec]:
    """Every problem of an object; empty when it is valid."""
    found = list(_identity_problems(document, where, served=node_name is None))
    if isinstance(document.get("spec"), Mapping):
        try:
            _parse(document, node_name, where)
        except ValidationError as error:
            found += _spec_problems(error, where)
        except InvalidSpec as problem:
            found.append(problem)
    return found


def given_spec(document: Mapping[str, Any], node_name: str | None) -> dict[str, Any]:
    """The spec as accepted, before defaults, with the node's name filled in."""
    spec = dict(document["spec"])
    if node_name is not None and spec.get("nodeName") is None:
        spec["nodeName"] = node_name
    return spec


def _parse(document: Mapping[str, Any], node_name: str | None, where: str) -> Spec:
    spec = Spec.model_validate(given_spec(document, node_name))
    if node_name is not None and spec.nodeName != node_name:
        raise InvalidSpec(
            where, "spec.nodeName", f"is {spec.nodeName!r}, but this node is {node_name!r}; leave it out or correct it"
        )
    return spec


def _identity_problems(document: Mapping[str, Any], where: str, *, served: bool) -> Iterator[InvalidSpec]:
    """`served`: the API server has let it pass."""
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if document.get(field) != wanted:
            yield InvalidSpec(where, field, f"is {_named(document.get(field))}; write {wanted}")
    for name in document:
        if name not in _TOP:
            yield InvalidSpec(where, str(name), _unknown(str(name), _TOP))
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        yield InvalidSpec(where, "metadata", "is missing or not a mapping; give the object a metadata.name")
    else:
        yield from _metadata_problems(metadata, where)
        yield from () if served else _metadata_misspelt(metadata, where)
    if not isinstance(document.get("spec"), Mapping):
        yield InvalidSpec(where, "spec", "is missing or not a mapping; describe the container there")


def _metadata_problems(metadata: Mapping[str, Any], where: str) -> Iterator[InvalidSpec]:
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if name is None:
        yield InvalidSpec(where, "metadata.name", "is required; add it, in lower-case letters, digits, '-' and '.'")
    elif isinstance(name, bool | int | float):
        yield InvalidSpec(where, "metadata.name", f"is {name!r}, which YAML takes for no text; quote it")
    elif not isinstance(name, str) or len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield InvalidSpec(
            where, "metadata.name", f"is {_named(name)}; write lower-case letters, digits, '-' and '.', at most 253"
        )
    if namespace is not None and (
        not isinstance(namespace, str) or len(namespace) > 63 or not _LABEL.fullmatch(namespace)
    ):
        yield InvalidSpec(
            where, "metadata.namespace", f"is {_named(namespace)}; write lower-case letters, digits and '-', at most 63"
        )
    for field in ("labels", "annotations"):
        entries = metadata.get(field) or {}
        if not isinstance(entries, Mapping) or any(
            not isinstance(text, str) for pair in entries.items() for text in pair
        ):
            yield InvalidSpec(where, f"metadata.{field}", "must map strings to strings; quote numbers and booleans")


def _metadata_misspelt(metadata: Mapping[str, Any], where: str) -> Iterator[InvalidSpec]:
    """What the API server refuses of the rest (apimachinery: ValidateLabels, ValidateAnnotations)."""
    for field in metadata:
        if field not in _METADATA:
            yield InvalidSpec(where, f"metadata.{field}", _unknown(str(field), _METADATA))
    for field in ("labels", "annotations"):
        entries = metadata.get(field)
        for key, value in entries.items() if isinstance(entries, Mapping) else ():
            if not (isinstance(key, str) and isinstance(value, str)):
                continue  # told already
            prefix, slash, name = (key.lower() if field == "annotations" else key).rpartition("/")
            named = len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix) if slash else True
            if not (named and _KEY.fullmatch(name)):
                told = (
                    f"{_named(key)} is no name; write letters, digits, '-', '_' and '.', at most 63, as app or a.b/app"
                )
                yield InvalidSpec(where, f"metadata.{field}", told)
            elif field == "labels" and not _VALUE.fullmatch(value):
                told = f"{key} is {_named(value)}; write letters, digits, '-', '_' and '.', at most 63"
                yield InvalidSpec(where, "metadata.labels", told)


def _spec_problems(error: ValidationError, where: str) -> Iterator[InvalidSpec]:
    seen = set()
    for detail in error.errors(include_url=False):
        path = _path(detail)
        if path not in seen:
            seen.add(path)
            yield InvalidSpec(where, path, _sentence(detail))


def _path(detail: ErrorDetails) -> str:
    """The field at fault, as `spec.env[1].name`."""
    cause = detail.get("ctx", {}).get("error")
    location = detail["loc"] + (cause.path if isinstance(cause, Contradiction) else ())
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _sentence(detail: ErrorDetails) -> str:
    given = _shown(detail)
    match detail["type"]:
        case "missing":
            return "is required; add it"
        case "extra_forbidden":
            return _unknown(str(detail["loc"][-1]), _fields_beside(detail["loc"]))
        case "value_error":
            return detail["msg"].removeprefix("Value error, ")
        case "string_type":
            return f"must be a string, not {given}; quote it"
        case "bool_type":
            return f"must be true or false, not {given}; write it without quotes"
        case "int_type":
            return f"must be a whole number, not {given}; write it without quotes and units"
        case "list_type":
            return f"must be a list, not {given}; write it as [a, b]"
        case "string_too_long":
            return f"is too long; write at most {detail['ctx']['max_length']} characters"
        case "too_long":
            return f"has {detail['ctx']['actual_length']} entries; write at most {detail['ctx']['max_length']}"
        case "model_type":
            return f"must be a mapping, not {given}; write its fields below it"
        case _:
            message = detail["msg"].replace("Input should be", "must be").replace("String should have", "must have")
            return f"{message[0].lower()}{message[1:]}, not {given}; correct it"


def _named(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(detail: ErrorDetails) -> str:
    """The value at fault. Where it may be a secret, what kind of value it is: errors are logged."""
    given = detail["input"]
    secret = bool(detail["loc"]) and detail["loc"][0] in _SECRETS
    return _KINDS.get(type(given), "something else") if secret else _named(given)


def _unknown(name: str, known: tuple[str, ...]) -> str:
    if SUPPORTED_LATER.match(name):
        return "is not supported by this version of oarlock; take it out"
    close = difflib.get_close_matches(name, known, n=1)
    return f"is not a field here; did you mean {close[0]}?" if close else "is not a field here; take it out"


def _fields_beside(location: tuple[int | str, ...]) -> tuple[str, ...]:
    model: Any = Spec
    for part in location[:-1]:
        if isinstance(part, str) and hasattr(model, "model_fields") and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation)
    return tuple(field.alias or name for name, field in getattr(model, "model_fields", {}).items())


def _model_in(annotation: Any) -> Any:
    """The model inside `list[Annotated[Model, …]]` or `Model | None`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    found = [_model_in(argument) for argument in getattr(annotation, "__args__", ())]
    return next((model for model in found if model is not None), None)
