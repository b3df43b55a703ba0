"""From a YAML node tree to plain values, with the line of every field and all that JSON cannot say refused.

What Kubernetes' own YAML reader does is what is done here: a date is a string, `1:30` is a string,
keys are strings, and merge keys (`<<`) work. Aliases are expanded, within a budget.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

VALUES = 50_000
"""How many values a document may have once its aliases are expanded."""
DEPTH = 64
"""How deep its values may lie; an alias that contains itself is deeper than any number."""

_TAG = "tag:yaml.org,2002:"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FIRST_STEP = re.compile(r"[^.\[]+|\[[^\]]*\]")
_numbers = yaml.constructor.SafeConstructor()


class Refused(Exception):
    """The document cannot be read at all.

    Attributes:
        fault: line (from 1), field path and text.
    """

    def __init__(self, line: int, field: str, problem: str) -> None:
        super().__init__(problem)
        self.fault = (line, field, problem)


class Walk:
    """One document on its way from nodes to values.

    Attributes:
        lines: line (from 1) by field path; `spec.env[1].name`.
        faults: (line, field path, text) of what is wrong but did not keep it from being read.
    """

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.faults: list[tuple[int, str, str]] = []
        self._left = VALUES

    def value(self, node: yaml.Node, path: str = "", depth: int = 0) -> Any:
        """The value of `node`, which lies at `path`.

        Raises:
            Refused: too many values, or too deep.
        """
        self._left -= 1
        if self._left < 0:
            raise self._refused(node, path, f"more than {VALUES:,} values, aliases counted each time")
        if depth > DEPTH:
            told = f"deeper than {DEPTH} levels, or an alias that contains itself"
            raise self._refused(node, path, told)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return self._sequence(node, path, depth)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged = self._merge(value_node, path, depth) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                self._key_fault(key_node, path)
                continue
            key: str = key_node.value
            field = _join(path, key)
            if key in own:
                first = self.lines.get(field, 0)
                self._fault(key_node, field, f"given twice, first on line {first}; remove one")
            self.lines[field] = self.lines[_dotted(path, key)] = line_of(key_node)
            own[key] = self.value(value_node, field, depth + 1)
        return merged | own

    def _merge(self, node: yaml.Node, path: str, depth: int) -> dict[str, Any]:
        """The value of a merge key: a mapping, or mappings of which the first one wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for each in nodes:
            value = self.value(each, path, depth + 1)
            if not isinstance(value, dict):
                self._fault(each, path, "`<<` takes a mapping or a list of mappings")
                continue
            merged = value | merged
        return merged

    def _sequence(self, node: yaml.SequenceNode, path: str, depth: int) -> list[Any]:
        values = []
        for number, item in enumerate(node.value):
            field = f"{path}[{number}]"
            self.lines[field] = line_of(item)
            values.append(self.value(item, field, depth + 1))
        return values

    def _scalar(self, node: yaml.Node, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self._tagged(node, path)
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str" | "timestamp" | "value":
                return text
            case "null":
                return None
            case "bool" if text.lower() in _numbers.bool_values:
                return _numbers.bool_values[text.lower()]
            case "int" | "float" if ":" in text:  # YAML 1.1's base 60: nobody means it
                return text
            case "int" | "float" as kind:
                return self._number(node, path, kind)
        return self._tagged(node, path)

    def _tagged(self, node: yaml.Node, path: str) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._fault(node, path, f"the tag `{tag}` has no meaning in a manifest; give a plain value")

    def _number(self, node: yaml.ScalarNode, path: str, kind: str) -> int | float | None:
        read: Any = _numbers.construct_yaml_int if kind == "int" else _numbers.construct_yaml_float
        try:
            number: int | float = read(node)
        except (ValueError, IndexError):  # an explicit tag on something else, or thousands of digits
            self._fault(node, path, "not a number that can be read")
            return None
        if not math.isfinite(number):
            self._fault(node, path, f"`{node.value}` is not a number that JSON has; quote it if text is meant")
            return None
        return number

    def _key_fault(self, node: yaml.Node, path: str) -> None:
        if isinstance(node, yaml.ScalarNode):
            self._fault(node, path, f'the key `{node.value[:80]}` is not a string; quote it: "{node.value[:80]}"')
        else:
            self._fault(node, path, "a key must be a string, not a list or a mapping")

    def _refused(self, node: yaml.Node, path: str, problem: str) -> Refused:
        """Told of the top-level field: where the limit was met deep inside helps nobody."""
        top = _FIRST_STEP.match(path)
        field = top[0] if top is not None else ""
        return Refused(self.lines.get(field, line_of(node)), field, problem)

    def _fault(self, node: yaml.Node, field: str, problem: str) -> None:
        self.faults.append((line_of(node), field, problem))


def line_of(node: yaml.Node) -> int:
    """The line a node begins on, from 1."""
    return int(node.start_mark.line) + 1


def _join(path: str, key: str) -> str:
    """The path of `key` below `path`; a key that is no plain name stands in brackets, as in jsonpath."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{key}]"
    return _dotted(path, key)


def _dotted(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
