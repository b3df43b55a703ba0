"""Steps that may never return (a file system whose server is away), each in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Outcome = TypeVar("Outcome")
_under_way: dict[str, asyncio.Future[tuple[Any, Exception | None]]] = {}
_returned: dict[str, tuple[float, Any]] = {}
_REMEMBERED = 256


async def patiently(name: str, step: Callable[[], Outcome], seconds: float, fresh: float = 0.0) -> Outcome:
    """Do `step`, beside the loop. While one of this name is under way no other is begun: its outcome is all callers'.

    Args:
        fresh: seconds for which the outcome of one of this name, if that was no error, is this one's too. (A thread
            costs a turn of each thread that is busy; when many begin at once that is felt.)

    Raises:
        TimeoutError: it has not returned within `seconds`; the thread may stay where it is.
        Exception: what `step` raised.
    """
    at, known = _returned.get(name, (0.0, None))
    if name in _returned and asyncio.get_running_loop().time() - at < fresh:
        return known  # type: ignore[no-any-return]
    outcome = _under_way.get(name) or _begin(name, step)
    async with asyncio.timeout(seconds):
        made, error = await asyncio.shield(outcome)
    if error is not None:
        raise error
    return made  # type: ignore[no-any-return]


def _begin(name: str, step: Callable[[], object]) -> asyncio.Future[tuple[Any, Exception | None]]:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[tuple[Any, Exception | None]] = loop.create_future()

    def end(made: object, error: Exception | None) -> None:
        del _under_way[name]
        if len(_returned) >= _REMEMBERED:
            _returned.clear()
        if error is None:
            _returned[name] = (loop.time(), made)
        outcome.set_result((made, error))

    def run() -> None:
        made, error = None, None
        try:
            made = step()
        except Exception as raised:  # noqa: BLE001 (the outermost frame of a thread: raised where it is awaited)
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(end, made, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    _under_way[name] = outcome
    return outcome
