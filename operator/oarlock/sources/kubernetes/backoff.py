"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Iterator


class Backoff:
    """Delays in seconds that double from `first` up to `most`, each with jitter of a quarter either way.

    The most is small everywhere: once the API server is back, statuses are to be right within seconds.
    """

    def __init__(self, first: float = 0.1, most: float = 2.0) -> None:
        self.first, self.most = first, most
        self._next = first

    def next(self) -> float:
        delay, self._next = self._next, min(self._next * 2, self.most)
        return jittered(delay)

    def reset(self) -> None:
        self._next = self.first


class EndlessDelays:
    """An iterable without an end or a length: kopf gives up once its list of delays is used up."""

    def __iter__(self) -> Iterator[float]:
        backoff = Backoff()
        while True:
            yield backoff.next()


def jittered(seconds: float, share: float = 0.25) -> float:
    """Within `share` either way of the seconds given, so that nodes do not ask all at once."""
    return seconds * random.uniform(1 - share, 1 + share)
