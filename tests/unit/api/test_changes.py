"""Which changes of a spec replace the container."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, StrictStr

from oarlock.api.changes import IN_PLACE, replaced_fields
from oarlock.api.spec import Spec
from tests.unit.api.valid import BASE, LEAVES, put, specs


def with_defaults(spec: dict[str, Any]) -> dict[str, Any]:
    """The same spec with every default written out."""
    full: dict[str, Any] = Spec.model_validate(spec).model_dump(mode="json", exclude_none=True)
    return full


def test_the_leaves_above_are_all_there_are() -> None:
    assert {path[0] for path in LEAVES} == set(Spec.model_fields)
    assert {path[0] for path in LEAVES if path[0] in IN_PLACE} == IN_PLACE


@settings(deadline=None)
@given(specs())
def test_a_spec_is_no_change_of_itself(spec: dict[str, Any]) -> None:
    before = copy.deepcopy(spec)
    assert replaced_fields(spec, copy.deepcopy(spec)) == ()
    assert spec == before


@settings(deadline=None)
@given(specs())
def test_a_default_written_out_is_no_change(spec: dict[str, Any]) -> None:
    assert replaced_fields(spec, with_defaults(spec)) == ()
    assert replaced_fields(with_defaults(spec), spec) == ()


@settings(deadline=None)
@given(specs(), specs())
def test_only_in_place_fields_replace_nothing(spec: dict[str, Any], other: dict[str, Any]) -> None:
    new = {name: value for name, value in spec.items() if name not in IN_PLACE}
    new |= {name: value for name, value in other.items() if name in IN_PLACE}
    assert replaced_fields(spec, new) == ()


@settings(deadline=None)
@given(specs(), st.data())
def test_any_other_changed_leaf_is_named(spec: dict[str, Any], data: st.DataObject) -> None:
    elsewhere = IN_PLACE | {"resources"}  # amounts have many spellings: see below
    path = data.draw(st.sampled_from(sorted(path for path in LEAVES if path[0] not in elsewhere)))
    new = copy.deepcopy(spec)
    put(new, path, data.draw(LEAVES[path]))
    same = with_defaults(spec).get(path[0]) == with_defaults(new).get(path[0])
    assert replaced_fields(spec, new) == (() if same else (path[0],))
    assert replaced_fields(new, spec) == replaced_fields(spec, new)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ({"cpu": "1"}, {"cpu": "1000m"}, ()),
        ({"cpu": 1}, {"cpu": "1.0"}, ()),
        ({"memory": "1Ki"}, {"memory": 1024}, ()),
        ({"memory": "1k"}, {"memory": "1e3"}, ()),
        ({"memory": None}, {}, ()),
        ({"memory": "1k"}, {"memory": "1Ki"}, ("resources",)),
        ({"cpu": "1"}, {"memory": "1"}, ("resources",)),
        ({"cpu": "1"}, {}, ("resources",)),
        ({}, {"cpu": "0"}, ("resources",)),
    ],
)
def test_amounts_are_compared_by_value(old: Any, new: Any, changed: tuple[str, ...]) -> None:
    limits = [BASE | {"resources": {"limits": amounts}} for amounts in (old, new)]
    assert replaced_fields(*limits) == changed


@pytest.mark.parametrize("empty", [{}, {"limits": {}}, {"limits": {}, "requests": {"cpu": None}}, None])
def test_an_empty_part_is_an_absent_one(empty: Any) -> None:
    assert replaced_fields(BASE, BASE | {"resources": empty}) == ()


def test_several_changes_are_named_in_order() -> None:
    assert replaced_fields(BASE, BASE | {"tty": True, "args": ["x"], "state": "Stopped"}) == ("args", "tty")


class NewerSpec(Spec):
    """The model after an upgrade that brought a field."""

    umask: StrictStr = Field("022", description="Default permissions.")


def test_a_field_that_an_upgrade_brings_changes_nothing() -> None:
    assert replaced_fields(BASE, BASE, NewerSpec) == ()
    assert replaced_fields(BASE, BASE | {"umask": "022"}, NewerSpec) == ()
    assert replaced_fields(BASE, with_defaults(BASE), NewerSpec) == ()
    assert replaced_fields(BASE, BASE | {"umask": "077"}, NewerSpec) == ("umask",)


@pytest.mark.parametrize(
    "unreadable",
    [
        BASE | {"umask": "022"},
        BASE | {"resources": {"limits": {"cpu": "many"}}},
        BASE | {"resources": {"limits": None, "requests": {"cpu": {}}}},
        BASE | {"resources": ["x"]},
        BASE | {"tty": False, "state": "Frozen"},
    ],
)
def test_what_this_version_cannot_read_is_compared_as_written(unreadable: dict[str, Any]) -> None:
    before = copy.deepcopy(unreadable)
    assert replaced_fields(unreadable, copy.deepcopy(unreadable)) == ()
    changed = tuple(sorted(name for name in unreadable if unreadable[name] != BASE.get(name) and name not in IN_PLACE))
    assert replaced_fields(unreadable, BASE) == replaced_fields(BASE, unreadable) == changed
    assert unreadable == before
