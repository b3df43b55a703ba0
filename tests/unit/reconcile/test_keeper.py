"""What a keeper does when its object changes while something of it is under way."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from oarlock.reconcile.attempt import Attempt
from oarlock.reconcile.keeper import Keeper
from tests.unit.api.invalid import VALID
from tests.unit.records.test_store import record


@pytest.mark.parametrize("back", [True, False])
async def test_an_object_that_comes_back_while_it_is_removed_stays(monkeypatch: pytest.MonkeyPatch, back: bool) -> None:
    begun, go = threading.Event(), threading.Event()

    def removal(*_: Any) -> None:
        begun.set()
        go.wait(10)

    monkeypatch.setattr(Attempt, "remove_object", removal)
    gone: list[Any] = []
    told = SimpleNamespace(report=lambda *_: None, release=lambda *_: asyncio.sleep(0))
    store = SimpleNamespace(write=lambda *_, **__: None, remove=gone.append)
    keeper = Keeper(
        SimpleNamespace(store=store, reporters={"manifests": told}),  # type: ignore[arg-type]
        record(deleted=True, spec=VALID["spec"]),
        gone.append,
    )
    releasing = asyncio.create_task(keeper._release())
    await asyncio.to_thread(begun.wait, 10)
    keeper.record.deleted = not back
    go.set()
    assert await releasing is not back
    assert gone == ([] if back else [keeper.record.uid, keeper])
