"""Steps that may never return (a file system whose server is away), each in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

_under_way: dict[str, asyncio.Future[Exception | None]] = {}
_returned: dict[str, float] = {}
_REMEMBERED = 256


async def patiently(name: str, step: Callable[[], object], seconds: float, fresh: float = 0.0) -> None:
    """Do `step`, beside the loop. While one of this name is under way no other is begun: its outcome counts for all.

    Args:
        fresh: seconds for which one of this name that returned without an error stands for this one. (A thread costs
            a turn of each thread that is busy; when many begin at once that is felt.)

    Raises:
        TimeoutError: it has not returned within `seconds`; the thread may stay where it is.
        Exception: what `step` raised.
    """
    now = asyncio.get_running_loop().time()
    if now - _returned.get(name, -fresh - 1.0) < fresh:
        return
    outcome = _under_way.get(name) or _begin(name, step)
    async with asyncio.timeout(seconds):
        error = await asyncio.shield(outcome)
    if error is not None:
        raise error


def _begin(name: str, step: Callable[[], object]) -> asyncio.Future[Exception | None]:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Exception | None] = loop.create_future()
    _under_way[name] = outcome

    def end(error: Exception | None) -> None:
        del _under_way[name]
        if len(_returned) >= _REMEMBERED:
            _returned.clear()
        if error is None:
            _returned[name] = loop.time()
        outcome.set_result(error)

    def run() -> None:
        error: Exception | None = None
        try:
            step()
        except Exception as raised:  # noqa: BLE001 (the outermost frame of a thread: raised where it is awaited)
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(end, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome
