"""The names of signals, as core/v1 has them in `lifecycle.stopSignal`."""

from __future__ import annotations

import re
import signal

_NAMED = sorted(name for name in signal.Signals.__members__ if not name.startswith("SIGRT"))
PATTERN = f"^({'|'.join(_NAMED)}|SIGRTMIN([+]([1-9]|1[0-5]))?|SIGRTMAX(-([1-9]|1[0-4]))?)$"


def name_of(number: int) -> str | None:
    """The name of a signal; None of a number that is none."""
    if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else "SIGRTMIN"
    return signal.Signals(number).name if number in set(signal.Signals) else None


def number_of(name: str) -> int:
    """The number of a signal whose name fits the pattern."""
    base, offset = re.findall(r"[A-Z0-9]+|[+-][0-9]+", name + "+0")[:2]
    return signal.Signals[base] + int(offset)
