"""What a changed spec means for a container that exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from oarlock.api import quantity
from oarlock.api.spec import Spec
from oarlock.api.standing import IN_PLACE


def replaced_fields(old: Mapping[str, Any], new: Mapping[str, Any], model: type[Spec] = Spec) -> tuple[str, ...]:
    """Names of the top-level fields whose change replaces the container.

    Both specs are as accepted, before defaults, and are compared through today's model with its defaults
    left out: a field that an upgrade adds with a default changes nothing. If today's model cannot read one
    of them, they are compared as they are written.
    """
    try:
        before, after = _canonical(old, model), _canonical(new, model)
    except ValidationError:
        before, after = dict(old), dict(new)
    names = (before.keys() | after.keys()) - IN_PLACE
    return tuple(sorted(name for name in names if before.get(name) != after.get(name)))


def _canonical(given: Mapping[str, Any], model: type[Spec]) -> dict[str, Any]:
    """The fields that say something, amounts in one spelling. Raises ValidationError."""
    fields = model.model_validate(given).model_dump(mode="json", exclude_defaults=True)
    resources = fields.get("resources", {})
    for amounts in (resources.get("limits"), resources.get("requests"), *resources.get("io", {}).get("devices", ())):
        for name in (amounts or {}).keys() - {"path"}:
            amounts[name] = quantity.value_of(amounts[name])
    return {name: value for name, value in fields.items() if value not in ({}, [])}
