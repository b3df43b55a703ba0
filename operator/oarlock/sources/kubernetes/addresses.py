"""Paths in the API: ContainerSpecs, the events on them, and the Node."""

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


def events_of(namespace: str, name: str = "") -> str:
    """A namespace's events, or one of them."""
    collection = f"/api/v1/namespaces/{quote(namespace, safe='')}/events"
    return f"{collection}/{quote(name, safe='')}" if name else collection


def node_status(name: str) -> str:
    """The status of the Node object of that name."""
    return f"/api/v1/nodes/{quote(name, safe='')}/status"


def of_node(node_name: str) -> str:
    """The field selector of one node's objects."""
    return f"spec.nodeName={node_name}"
