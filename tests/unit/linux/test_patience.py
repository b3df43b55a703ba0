"""Steps that may hang, many waiting for one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from oarlock.linux.patience import patiently


async def test_any_number_waits_for_one_look() -> None:
    begun: list[int] = []
    go = threading.Event()

    def step() -> None:
        begun.append(1)
        go.wait(10)

    waiting = [asyncio.create_task(patiently("it", step, 10)) for _ in range(1000)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*waiting)
    assert len(begun) == 1
    await patiently("it", step, 10)
    assert len(begun) == 2


async def test_an_answer_holds_for_a_while() -> None:
    begun: list[int] = []
    for fresh in (60.0, 60.0, 0.0):
        await patiently("fresh", lambda: begun.append(1), 10, fresh)
    assert len(begun) == 2
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await patiently("broken", lambda: begun.append(1 // 0), 10, 60.0)


async def test_what_hangs_is_given_up_and_not_begun_again_meanwhile() -> None:
    begun: list[int] = []
    go = threading.Event()

    def hangs() -> None:
        begun.append(1)
        go.wait(10)
        raise ValueError("at last")

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await patiently("it", hangs, 0.01)
    await patiently("another", lambda: None, 10)
    last = asyncio.create_task(patiently("it", hangs, 10))
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(ValueError, match="at last"):
        await last
    assert len(begun) == 1
