"""Kubernetes resource quantities (`500m`, `64Mi`), as integers.

Source: apimachinery's `resource.Quantity`; what oarlock needs is CPU in thousandths of a core and memory in bytes.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

PATTERN = r"^[+]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][-+]?[0-9]{1,2}))?$"
"""The quantities that are accepted: a decimal number with one optional suffix; never negative."""

LONGEST = 64
"""Characters of a quantity."""

_QUANTITY = re.compile(PATTERN, re.ASCII)
_NUMBER = re.compile(r"^[+]?([0-9]*\.?[0-9]*)(.*)$")
_SUFFIXES = {"": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)}
_SUFFIXES |= {letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", start=1)}
_SUFFIXES |= {f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", start=1)}


def value_of(quantity: str | int) -> Fraction:
    """The exact value.

    Raises:
        ValueError: not a quantity; the message says what one looks like.
    """
    text = str(quantity)
    if len(text) > LONGEST or not _QUANTITY.fullmatch(text):
        given = text if len(text) <= 60 else f"{text[:57]}..."
        raise ValueError(f"{given!r} is not a quantity; write a number with a suffix, as 500m, 2, 64Mi or 1G")
    number, suffix = _NUMBER.match(text).groups()  # type: ignore[union-attr]  # every text matches
    scale = _SUFFIXES[suffix] if suffix in _SUFFIXES else Fraction(10) ** int(suffix[1:])
    return Fraction(number) * scale


def cpu_millis(quantity: str | int) -> int:
    """CPU in thousandths of a core, rounded up."""
    return math.ceil(value_of(quantity) * 1000)


def bytes_of(quantity: str | int) -> int:
    """Bytes, rounded up."""
    return math.ceil(value_of(quantity))
