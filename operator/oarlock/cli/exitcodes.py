"""What the command's exit codes mean. `docs/cli.md` has the same table."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
OPERATOR_DOWN = 4
TIMED_OUT = 5
INTERRUPTED = 130
BROKEN_PIPE = 141


class ReaderGone(Exception):
    """Whoever read the output has closed it. (A BrokenPipeError would be made exit code 1 by typer.)"""


class Failure(Exception):
    """A command ends with this exit code and one sentence for the person."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
