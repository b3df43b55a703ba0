"""Detach keys: which bytes they are, and finding them in what is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oarlock.cli.detaching import DEFAULT, DetachKeys, parse


@pytest.mark.parametrize(
    ("text", "keys"),
    [(DEFAULT, b"\x10\x11"), ("", b""), ("a", b"a"), ("ctrl-a,d", b"\x01d"), ("ctrl-@,ctrl-[,ctrl-_", b"\x00\x1b\x1f")],
)
def test_keys(text: str, keys: bytes) -> None:
    assert parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pp", "ctrl-P", "ab", ",", "ctrl-p,", "é"])
def test_no_keys(text: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        parse(text)


def typed(keys: bytes, *blocks: bytes) -> tuple[bytes, bool]:
    looking, passed = DetachKeys(keys), b""
    for block in blocks:
        more, done = looking.feed(block)
        passed += more
        if done:
            return passed, True
    return passed, False


def test_a_beginning_is_kept_back_until_it_is_clear() -> None:
    assert typed(b"\x10\x11", b"a\x10") == (b"a", False)
    assert typed(b"\x10\x11", b"a\x10", b"b") == (b"a\x10b", False)
    assert typed(b"\x10\x11", b"a\x10", b"\x11rest") == (b"a", True)
    assert typed(b"\x10\x11", b"\x10\x10\x11") == (b"\x10", True)
    assert typed(b"", b"\x10\x11") == (b"\x10\x11", False)


@given(st.binary(min_size=1, max_size=4), st.lists(st.binary(max_size=5), max_size=6))
def test_they_are_found_where_they_first_end_however_they_are_typed(keys: bytes, blocks: list[bytes]) -> None:
    text = b"".join(blocks)
    passed, done = typed(keys, *blocks)
    assert done == (keys in text)
    if done:
        assert passed == text[: text.index(keys)]
    else:
        assert text.startswith(passed)
        assert len(text) - len(passed) < len(keys)
