"""`$(VAR)` in commands, arguments and variables, as Kubernetes has it.

`$(NAME)` becomes the variable's value, `$$` becomes `$`, and what names no known variable stays as it
is (kubernetes: third_party/forked/golang/expansion). The shell's `$NAME` is none of our business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LONGEST = 131071
"""Bytes of an argument, and of a variable as `NAME=value` (execve(2): MAX_ARG_STRLEN, without the NUL)."""
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


class TooLong(ValueError):
    """What becomes of a text is longer than the kernel takes."""


def expand(text: str, variables: Mapping[str, str], longest: int = LONGEST) -> str:
    """`text` with its references to `variables` replaced; what is put in is not looked at again.

    Raises:
        TooLong: that has more than `longest` bytes. A few dozen references to references fill any memory.
    """
    cut = text.rfind(")") + 1  # after it no reference ends, and to look for an end at each begin takes for ever
    text, rest = text[:cut], text[cut:].replace("$$", "$")
    grown = sum(len(_value(found, variables)) - len(found[0]) for found in _REFERENCE.finditer(text))
    if len(text) + len(rest) + grown > longest:
        raise TooLong
    made = _REFERENCE.sub(lambda found: _value(found, variables), text) + rest
    if len(made.encode()) > longest:
        raise TooLong
    return made


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    name = found[1]
    if name is None:
        return "$"
    return variables.get(name, found[0])
