"""Handling signals for a while."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def handling(numbers: tuple[signal.Signals, ...], handle: Callable[[int], object] | signal.Handlers) -> Iterator[None]:
    """These signals are handled so, or ignored; afterwards as before."""

    def call(number: int, _frame: FrameType | None) -> None:
        if not isinstance(handle, signal.Handlers):
            handle(number)

    handler = handle if isinstance(handle, signal.Handlers) else call
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
