"""From the bytes of a file to its documents: YAML with any number of them, or one JSON value.

Pure. Whatever the bytes are, the answer is documents and problems, never an exception. A file that
does not parse as a whole gives no documents at all: half of a file is nobody's wish.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from oarlock.sources.manifests.nodes import Refused, Walk, line_of
from oarlock.sources.manifests.problems import Problem

LIMIT = 1 << 20
"""Bytes a manifest file may have."""
KIND = "ContainerSpec"
LISTS = ("List", "ContainerSpecList")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAB = re.compile(r" *\t")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LAST_STEP = re.compile(r"(?:\.[^.\[\]]*|\[[^\[\]]*\]|^[^.\[\]]+)$")
logger = logging.getLogger(__name__)
_ITEM = re.compile(r"items\[(\d{1,9})\]\.?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """One object as it stands in a file.

    Attributes:
        line: where it begins, from 1.
        mapping: its content, of JSON's types.
        lines: the line of each field path, for `line_of`.
        problems: what is wrong with its form; such a document is never used.
        foreign: it is of another kind than ContainerSpec.
    """

    line: int
    mapping: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)
    problems: tuple[Problem, ...] = ()
    foreign: bool = False

    def line_of(self, path: str) -> int:
        """The line of the field `path`, as `spec.env[1].name`; of its nearest parent when it is not there."""
        while path:
            if path in self.lines:
                return self.lines[path]
            shorter = _LAST_STEP.sub("", path)
            path = shorter if shorter != path else ""
        return self.line

    @property
    def name(self) -> tuple[str, str] | None:
        """(namespace, name), or None when it has no usable name."""
        metadata = self.mapping.get("metadata")
        if not isinstance(metadata, Mapping):
            return None
        name, namespace = metadata.get("name"), metadata.get("namespace")
        if not isinstance(name, str) or not name or not isinstance(namespace, str | None):
            return None
        return namespace or "default", name


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: its documents, and what is wrong with the file as a whole."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()


def parse(data: bytes, name: str, limit: int = LIMIT) -> Content:
    """The documents in `data`, the content of the file called `name` (JSON if it ends in `.json`)."""
    if len(data) > limit:
        return _broken(name, f"larger than {limit >> 20} MiB; split it")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        return _broken(f"{name}:{line}", "a NUL byte: this is not a text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return _broken(f"{name}:{line}", f"byte 0x{data[error.start]:02x} is not UTF-8")
    try:
        found = list(_json(text, name) if name.endswith(".json") else _yaml(text, name))
    except _Unreadable as unreadable:
        return Content(problems=(unreadable.problem,))
    except RecursionError:
        return _broken(name, "nested too deeply")
    except Exception as error:
        # The outermost guard: a defect met by one file must not end the operator for all others.
        logger.exception("%s: a defect in oarlock; please report it", name)
        return _broken(name, f"a defect in oarlock ({type(error).__name__}); please report it, with this file")
    return Content(documents=tuple(found))


class _Unreadable(Exception):
    """The file does not parse."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(problem)
        self.problem = Problem(where, "", problem)


def _broken(where: str, problem: str) -> Content:
    return Content(problems=(Problem(where, "", problem),))


def _yaml(text: str, name: str) -> Iterator[Document]:
    """Raises _Unreadable."""
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            if node.tag == "tag:yaml.org,2002:null":
                continue
            walk = Walk()
            try:
                value = walk.value(node)
            except Refused as refused:
                walk.faults.append(refused.fault)
                yield _unread(node, walk, name)
            else:
                yield from _documents(value, line_of(node), walk, name)
    except yaml.MarkedYAMLError as error:
        raise _Unreadable(*_told(error, text, name)) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _Unreadable(f"{name}:{line}", f"the character #x{_code(error):02x} is not allowed") from None
    except yaml.YAMLError as error:
        raise _Unreadable(name, f"not YAML: {error}") from None


def _unread(node: yaml.Node, walk: Walk, name: str) -> Document:
    """A document that is not read as a whole: what it says of its kind, and why."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    scalars = {key.value: value.value for key, value in pairs if {type(key), type(value)} == {yaml.ScalarNode}}
    said = {each: scalars[each] for each in ("apiVersion", "kind") if each in scalars}
    problems = tuple(_faults(walk, name))
    return Document(line_of(node), said, walk.lines, problems, foreign=bool(said) and _wrong_kind(said) is not None)


def _faults(walk: Walk, name: str) -> list[Problem]:
    return [Problem(f"{name}:{at}", path, text) for at, path, text in walk.faults]


def _told(error: yaml.MarkedYAMLError, text: str, name: str) -> tuple[str, str]:
    """Where a YAML error is and what it says, in one line."""
    mark = error.problem_mark or error.context_mark
    where = name if mark is None else f"{name}:{mark.line + 1}"
    said = f"not YAML: {error.problem or error.context}"
    if error.context and error.problem:
        said += f" ({error.context}"
        said += f", begun on line {error.context_mark.line + 1})" if error.context_mark is not None else ")"
    if mark is not None and any(map(_TAB.match, text.split("\n")[mark.line : mark.line + 1])):
        said += "; a tab cannot indent, use spaces"
    return where, said


def _code(error: yaml.reader.ReaderError) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character[:1] or "\0")


def _json(text: str, name: str) -> Iterator[Document]:
    """Raises _Unreadable. The values are JSON's; the lines are found by reading the same text as YAML."""
    doubled: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        doubled.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return dict(pairs)

    if not text.strip():
        return
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise _Unreadable(f"{name}:{error.lineno}", f"not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:  # NaN, Infinity, thousands of digits
        raise _Unreadable(name, f"not JSON: {error}") from None
    if "\\u" in text and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise _Unreadable(name, "not JSON: half of a surrogate pair (\\ud800 to \\udfff) is no text")
    walk = Walk()
    try:
        # A valid JSON text has tabs between its tokens only, where YAML wants spaces.
        walk.value(_Loader(text.replace("\t", " ")).get_single_node())
    except Refused as refused:
        walk.faults.append(refused.fault)
    except (yaml.YAMLError, ValueError):
        walk = Walk()  # JSON that is not YAML, such as a surrogate pair: it goes without lines
        walk.faults.extend((1, key, "given twice; remove one") for key in doubled)
    yield from _documents(value, text[: len(text) - len(text.lstrip())].count("\n") + 1, walk, name)


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that JSON has")


def _documents(value: Any, line: int, walk: Walk, name: str) -> Iterator[Document]:
    """The one document that `value` is, or the items of the List that it is."""
    problems = _faults(walk, name)
    if not isinstance(value, dict):
        told = f"a document must be a mapping (`kind: {KIND}` …), not {_what(value)}"
        yield Document(line, {}, problems=(*problems, Problem(f"{name}:{line}", "", told)))
    elif value.get("kind") in LISTS:
        yield from _items(value, line, walk, name)
    else:
        document = Document(line, value, walk.lines)
        wrong = None if problems and not value else _wrong_kind(value)
        if wrong is not None:
            problems.append(Problem(f"{name}:{document.line_of('kind')}", "kind", wrong))
        yield Document(line, value, walk.lines, tuple(problems), foreign=wrong is not None)


def _items(value: dict[str, Any], line: int, walk: Walk, name: str) -> Iterator[Document]:
    """The items of a List, each with its own lines and problems, paths counted from the item."""
    items = value.get("items")
    if not isinstance(items, list):
        at = walk.lines.get("items", line)
        yield Document(line, {}, problems=(Problem(f"{name}:{at}", "items", "a List needs a list of items"),))
        return
    lines: dict[int, dict[str, int]] = {number: {} for number in range(len(items))}
    for path, at in walk.lines.items():
        match = _ITEM.fullmatch(path)
        if match is not None and int(match[1]) in lines:  # not of another `items`, which this one took the place of
            lines[int(match[1])][match[2]] = at
    faults: dict[int, list[tuple[int, str, str]]] = {}
    for at, path, text in walk.faults:
        match = _ITEM.fullmatch(path)
        number, inner = (int(match[1]), match[2]) if match is not None else (-1, path)
        faults.setdefault(number, []).append((at, inner, text))
    for at, path, text in faults.get(-1, ()):
        yield Document(line, {}, problems=(Problem(f"{name}:{at}", path, text),))
    for number, item in enumerate(items):
        part = Walk()
        part.lines, part.faults = lines[number], faults.get(number, [])
        start = part.lines.get("", line)
        if isinstance(item, dict) and item.get("kind") in LISTS:
            told = "a List inside a List is not read; put its items one level up"
            yield Document(start, {}, problems=(Problem(f"{name}:{start}", f"items[{number}].kind", told),))
        else:
            yield from _documents(item, start, part, name)


def _wrong_kind(value: Mapping[str, Any]) -> str | None:
    kind = value.get("kind")
    if kind == KIND:
        return None
    if kind is None:
        return f"missing; it must be `{KIND}`"
    if not isinstance(kind, str):
        return f"must be `{KIND}`, not {_what(kind)}"
    return f"`{kind[:80]}` is not a kind that runs here; only `{KIND}` does (and a `List` of them)"


def _what(value: Any) -> str:
    """What a value is, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "a mapping"
