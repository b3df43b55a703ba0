"""What one file claims: each document judged by the API's own model, each problem on its line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oarlock.api.containerspec import problems, validate
from oarlock.api.spec import Spec
from oarlock.errors import InvalidSpec
from oarlock.sources.manifests.documents import Content, Document
from oarlock.sources.manifests.problems import Problem

Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A document that says what the object of its name should be.

    Attributes:
        file: name of the file it stands in.
        index: its position in the file, from 0.
        line: where it begins, and `name_line` where its name stands.
        spec: None when the document cannot be used; `problems` then say why.
    """

    name: Name
    file: str
    index: int
    line: int
    name_line: int
    mapping: Mapping[str, Any] = field(repr=False)
    spec: Spec | None
    problems: tuple[Problem, ...] = ()

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file was found to hold.

    Attributes:
        problems: what is wrong outside of any claim.
        mentions: names of documents of other kinds: they claim nothing, but a slip of the pen in `kind`
            removes nothing either.
        opaque: there is something in the file whose name cannot be told, so that any object last seen
            in this file may still be meant.
    """

    claims: tuple[Claim, ...] = ()
    problems: tuple[Problem, ...] = ()
    mentions: frozenset[Name] = frozenset()
    opaque: bool = False

    @property
    def names(self) -> frozenset[Name]:
        """Every name in it."""
        return self.mentions | {claim.name for claim in self.claims}


UNREAD = Reading(opaque=True)
"""The reading of a file that is there but could not be looked into yet."""


def judge(content: Content, file: str, node_name: str) -> Reading:
    """What `content`, read from `file`, claims on this node."""
    claims: list[Claim] = []
    apart: list[Problem] = [*content.problems]
    mentions: set[Name] = set()
    opaque = bool(content.problems)
    for index, document in enumerate(content.documents):
        name = document.name
        spec, wrong = _checked(document, file, node_name)
        if name is None or document.foreign:
            apart += wrong
            opaque = opaque or name is None
            mentions |= {name} if name is not None else set()
        else:
            name_line = document.line_of("metadata.name")
            claims.append(Claim(name, file, index, document.line, name_line, document.mapping, spec, wrong))
    return Reading(tuple(claims), tuple(apart), frozenset(mentions), opaque)


def _checked(document: Document, file: str, node_name: str) -> tuple[Spec | None, tuple[Problem, ...]]:
    """The document's spec, or all that is wrong with it."""
    if document.problems:
        return None, document.problems
    try:
        return validate(document.mapping, where=file, node_name=node_name), ()
    except InvalidSpec as first:
        found = problems(document.mapping, where=file, node_name=node_name) or [first]
    return None, tuple(Problem(f"{file}:{document.line_of(each.field)}", each.field, each.problem) for each in found)
