"""`$(VAR)`, by the cases of Kubernetes' own test of it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oarlock.bundle.expansion import LONGEST, TooLong, expand

VARIABLES = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)-$(VAR_A)", "A-A"),
        ("$(VAR_REF)-1", "$(VAR_A)-1"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$$$$$(VAR_A)", "$$A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$VAR_A", "$VAR_A"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_A", "$(VAR_A"),
        ("$", "$"),
        ("foo$", "foo$"),
        ("$)(", "$)("),
        ("$()", "$()"),
        ("\n$(VAR_A)\n", "\nA\n"),
    ],
)
def test_references_are_replaced(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


@given(st.text(alphabet="$()VAR_ A\\\n"))
def test_without_variables_only_doubled_dollars_change(text: str) -> None:
    assert expand(text, {}).count("(") == text.count("(")
    if "$$" not in text:
        assert expand(text, {}) == text


@given(st.text())
def test_a_doubled_dollar_protects_any_text(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"A": "never"}) == text


def test_what_becomes_longer_than_the_kernel_takes_is_never_made() -> None:
    assert len(expand("$(A)" * 10, {"A": "x" * 13107}, LONGEST)) == 131070
    for text, variables in (("$(A)" * 32767, {"A": "x" * 131071}), ("é" * 65536, {}), ("x" * 131072, {})):
        with pytest.raises(TooLong):
            expand(text, variables)


def test_begins_without_an_end_cost_no_time() -> None:
    text = "$(" * 60_000
    began = time.monotonic()
    assert expand(text, {"A": "x"}) == text
    assert expand("$(A)" + text + "$$", {"A": "x"}) == "x" + text + "$"
    assert time.monotonic() - began < 5
