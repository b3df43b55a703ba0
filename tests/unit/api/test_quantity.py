"""Quantities: exact values, every spelling, and what is not one."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oarlock.api.quantity import PATTERN, bytes_of, cpu_millis, value_of

DECIMAL = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {f"{letter}i": 10 * power for power, letter in enumerate("KMGTPE", start=1)}
SCALES = {suffix: Fraction(10) ** power for suffix, power in DECIMAL.items()}
SCALES |= {suffix: Fraction(2) ** power for suffix, power in BINARY.items()}

numbers = st.decimals(min_value=0, max_value=10**9, places=6)
suffixes = st.sampled_from(sorted(SCALES))


@settings(deadline=None)
@given(numbers, suffixes)
def test_the_value_is_exact(number: Decimal, suffix: str) -> None:
    assert Fraction(value_of(f"{number:f}{suffix}")) == Fraction(number) * SCALES[suffix]


@settings(deadline=None)
@given(numbers)
def test_it_comes_back_as_it_was_written(number: Decimal) -> None:
    assert value_of(f"{number:f}") == number
    assert value_of(f"+{number:f}") == number


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**62))
def test_a_number_is_the_same_as_its_text(number: int) -> None:
    assert value_of(number) == value_of(str(number)) == number
    assert bytes_of(number) == number


@settings(deadline=None)
@given(st.integers(0, 9999), st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 20))
def test_an_exponent_is_a_power_of_ten(number: int, letter: str, sign: str, power: int) -> None:
    expected = Fraction(number) * Fraction(10) ** (-power if sign == "-" else power)
    assert Fraction(value_of(f"{number}{letter}{sign}{power}")) == expected


@settings(deadline=None)
@given(numbers, suffixes)
def test_parts_are_rounded_up(number: Decimal, suffix: str) -> None:
    exact = Fraction(number) * SCALES[suffix]
    assert bytes_of(f"{number:f}{suffix}") == math.ceil(exact)
    assert cpu_millis(f"{number:f}{suffix}") == math.ceil(exact * 1000)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000), ("1E3", 1000), ("1E", 10**18), ("2.", 2), (".5k", 500), ("64Mi", 67108864), ("+1", 1), ("007", 7)],
)
def test_these_are_quantities(text: str, value: int) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(("text", "millis"), [("1", 1000), ("500m", 500), ("0.1", 100), ("1n", 1), ("1.0001", 1001)])
def test_cpu_is_in_thousandths_rounded_up(text: str, millis: int) -> None:
    assert cpu_millis(text) == millis


BAD = ["", " ", "1 ", " 1", "1\n", "-1", "-0", ".", "m", "1e", "1e+", "1e100", "1KB", "64mi", "1K", "1,5", "0x1", "1_0"]
BAD += ["٣", "NaN", "inf", "1e1e1", "1Mim"]


@pytest.mark.parametrize("text", BAD)
def test_these_are_not(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity; write a number with a suffix"):
        value_of(text)


@settings(deadline=None)
@given(st.integers(max_value=-1))
def test_nothing_is_negative(number: int) -> None:
    for given_as in (number, str(number), f"{number}Mi", f"{number}e2"):
        with pytest.raises(ValueError):
            value_of(given_as)


@settings(deadline=None)
@given(st.text(alphabet="0123456789.+-eEmkKMGi \n", max_size=8))
def test_every_text_is_a_quantity_or_refused(text: str) -> None:
    try:
        value_of(text)
    except ValueError:
        assert not re.fullmatch(PATTERN, text)
    else:
        assert re.fullmatch(PATTERN, text)
