"""The keys that end an attachment without ending the container, as podman and docker have them."""

from __future__ import annotations

import re

DEFAULT = "ctrl-p,ctrl-q"
_KEY = re.compile(r"ctrl-([a-z@\[\\\]^_])|([a-zA-Z0-9])")


def parse(text: str) -> bytes:
    """The bytes of `ctrl-p,ctrl-q`: keys joined by commas: letters, digits, `ctrl-` and one of a-z @ [ \\ ] ^ _.

    Raises:
        ValueError: it is something else.
    """
    if not text:
        return b""
    keys = bytearray()
    for name in text.split(","):
        match = _KEY.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is no key; write a letter, or ctrl- and a letter, joined by commas: {DEFAULT}")
        keys += bytes([ord(match[1].upper()) ^ 0x40]) if match[1] else match[2].encode()
    return bytes(keys)


class DetachKeys:
    """Looks for a sequence in what is typed. Its beginning is kept back until it is clear what it was."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What of it is for the container, and whether the sequence is complete now."""
        if not self._keys:
            return typed, False
        passed = bytearray()
        for byte in typed:
            while self._seen and byte != self._keys[self._seen]:
                shorter = self._overlap()
                passed += self._keys[: self._seen - shorter]
                self._seen = shorter
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
            else:
                passed.append(byte)
        return bytes(passed), False

    def _overlap(self) -> int:
        """How much of the sequence's beginning is also the end of what was kept back."""
        kept = self._keys[: self._seen]
        return next(length for length in range(self._seen - 1, -1, -1) if kept.endswith(self._keys[:length]))
