"""`$(VAR)` in commands, arguments and variables, as Kubernetes has it.

`$(NAME)` becomes the variable's value, `$$` becomes `$`, and what names no known variable stays as it
is (kubernetes: third_party/forked/golang/expansion). The shell's `$NAME` is none of our business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its references to `variables` replaced; what is put in is not looked at again."""
    return _REFERENCE.sub(lambda found: _value(found, variables), text)


def environment(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The variables in order; each may refer to those before it, and a later one replaces an earlier one."""
    variables: dict[str, str] = {}
    for name, value in given:
        variables[name] = expand(value, variables)
    return variables


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    name = found[1]
    if name is None:
        return "$"
    return variables.get(name, found[0])
