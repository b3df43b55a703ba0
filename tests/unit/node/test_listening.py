"""Addresses that /healthz and /readyz can be served on."""

from __future__ import annotations

import pytest

from oarlock.node.values import listening


@pytest.mark.parametrize(
    "given", ["", "127.0.0.1:10276", "[::1]:10276", ":80", "localhost:1", "node-1.example:65535", "unix:/run/a b"]
)
def test_addresses(given: str) -> None:
    assert listening(given) == given


@pytest.mark.parametrize(
    "given", ["10276", "localhost", "h:0", "h:65536", "::1:80", "h:8o", "http://h:80", "unix:", "unix:health", "[]:1"]
)
def test_what_is_none_is_refused_with_one_that_is(given: str) -> None:
    with pytest.raises(ValueError, match=r"127.0.0.1:10276|give the whole path"):
        listening(given)


def test_a_socket_whose_path_is_too_long_is_refused() -> None:
    assert listening("unix:/" + "x" * 106)
    with pytest.raises(ValueError, match="107 bytes"):
        listening("unix:/" + "x" * 107)
