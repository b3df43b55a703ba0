"""The CRI log format that conmon writes: `TIME STREAM TAG TEXT`, where tag P marks a part of a line and F its end.

Everything is bytes: what a container writes need not be text. (oci.go: parseLog, which ignored the tag.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log file: a line of the container's output, or a part of one."""

    time: bytes
    stream: bytes
    partial: bool
    text: bytes

    @property
    def moment(self) -> datetime | None:
        """When it was written; None when the line says no time."""
        try:
            moment = datetime.fromisoformat(self.time.decode("ascii", "replace"))
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def output(self) -> bytes:
        """What the container wrote: a whole line has its newline."""
        return self.text if self.partial else self.text + b"\n"


def parse(line: bytes) -> Entry:
    """One line without its newline. What is no CRI line is shown as it is, as stdout without a time."""
    parts = line.split(b" ", 3)
    if len(parts) == 4 and parts[1] in (b"stdout", b"stderr") and parts[2][:1] in (b"P", b"F"):
        return Entry(parts[0], parts[1], parts[2][:1] == b"P", parts[3])
    if len(parts) == 3 and parts[1] in (b"stdout", b"stderr") and parts[2] in (b"P", b"F"):
        return Entry(parts[0], parts[1], parts[2] == b"P", b"")
    return Entry(b"", b"stdout", False, line)


@dataclass(slots=True)
class Splitter:
    """Cuts what is read into lines and keeps the beginning of one that is not written to its end yet."""

    rest: bytes = b""

    def feed(self, block: bytes) -> Iterator[Entry]:
        """The entries that are complete with this block."""
        *lines, self.rest = (self.rest + block).split(b"\n")
        return map(parse, lines)

    def finish(self) -> Iterator[Entry]:
        """What a writer that was cut off left behind."""
        if self.rest:
            yield parse(self.rest)
            self.rest = b""
