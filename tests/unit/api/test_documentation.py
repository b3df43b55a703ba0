"""docs/api.md says of every field what the models say."""

from __future__ import annotations

import re
from pathlib import Path

from oarlock.api.changes import IN_PLACE
from oarlock.api.spec import Spec
from oarlock.api.status import Phase
from tests.unit.api.test_crd import fields

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| `")]


def test_every_field_and_what_its_change_does() -> None:
    told = {}
    for row in (row for row in ROWS if len(row) == 3):
        for name in set(re.findall(r"`(\w+)`", row[0])) & Spec.model_fields.keys():
            told[name] = row[2]
    expected = dict.fromkeys(Spec.model_fields, "replaces") | dict.fromkeys(IN_PLACE, "applies in place")
    assert told == expected | {"nodeName": "is refused"}


def test_every_part_of_a_field_is_named() -> None:
    named = set(re.findall(r"`([\w-]+)`", " ".join(row[0] for row in ROWS if len(row) == 3)))
    assert {path.rsplit(".", 1)[-1] for path in fields(Spec, "spec")} <= named


def test_every_phase_is_explained() -> None:
    assert [row[0].strip("`") for row in ROWS if len(row) == 6] == [str(phase) for phase in Phase]


def test_the_text_says_that_a_change_replaces_where_it_does() -> None:
    for name, field in Spec.model_fields.items():
        description = field.description or ""
        assert ("Applies in place." in description) == (name in IN_PLACE - {"nodeName"}), name
        assert ("A change replaces the container." in description) == (name not in IN_PLACE), name
