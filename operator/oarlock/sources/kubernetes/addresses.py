"""Paths of ContainerSpecs in the API."""

from __future__ import annotations

from urllib.parse import quote

from oarlock.api.containerspec import GROUP, PLURAL, VERSION
from oarlock.api.identity import Key

COLLECTION = f"/apis/{GROUP}/{VERSION}/{PLURAL}"
"""All of them, in every namespace."""


def path(namespace: str, name: str) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{quote(namespace, safe='')}/{PLURAL}/{quote(name, safe='')}"


def path_of(key: Key) -> str:
    return path(key.namespace, key.name)


def of_node(node_name: str) -> str:
    """The field selector of one node's objects."""
    return f"spec.nodeName={node_name}"
