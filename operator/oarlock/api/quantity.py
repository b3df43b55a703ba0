"""Kubernetes resource quantities (`500m`, `64Mi`), as integers.

Source: apimachinery's `resource.Quantity`; what oarlock needs is CPU in thousandths of a core and memory in bytes.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

PATTERN = r"^[+]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][-+]?[0-9]{1,2}))?$"
"""The quantities that are accepted: a decimal number with one optional suffix; never negative."""

_NUMBER = re.compile(r"^[+]?([0-9]*\.?[0-9]*)(.*)$")
_SUFFIXES = {"": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
_SUFFIXES |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)}
_SUFFIXES |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}


def value_of(quantity: str | int) -> Decimal:
    """The exact value.

    Raises:
        ValueError: not a quantity; the message says what one looks like.
    """
    text = str(quantity)
    if not re.match(PATTERN, text):
        raise ValueError(f"{text!r} is not a quantity; write a number with a suffix, as 500m, 2, 64Mi or 1G")
    number, suffix = _NUMBER.match(text).groups()  # type: ignore[union-attr]  # every text matches
    if suffix in _SUFFIXES:
        return Decimal(number) * _SUFFIXES[suffix]
    return Decimal(number) * Decimal(10) ** int(suffix[1:])


def cpu_millis(quantity: str | int) -> int:
    """CPU in thousandths of a core, rounded up."""
    return int((value_of(quantity) * 1000).to_integral_value(ROUND_CEILING))


def bytes_of(quantity: str | int) -> int:
    """Bytes, rounded up."""
    return int(value_of(quantity).to_integral_value(ROUND_CEILING))
