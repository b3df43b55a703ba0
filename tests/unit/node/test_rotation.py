"""What rotation does when a container ends under it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

from oarlock.node.rotation import LogKeeper, _Watched
from oarlock.reconcile.node import Retention


async def test_a_log_whose_container_has_ended_is_left_alone(tmp_path: Path) -> None:
    """Though it is large enough, and conmon still had time to answer the last order."""
    log, bundle = tmp_path / "1.log", tmp_path / "gone"
    log.write_bytes(b"x" * 100)
    kept = Retention(log=log, bundle=bundle, max_size=10, max_files=3, compress=False)
    loop = asyncio.get_running_loop()
    with LogKeeper(SimpleNamespace()) as keeper:  # type: ignore[arg-type]
        keeper.attach(loop)
        keeper._logs[log] = _Watched(kept, answer_by=loop.time() + 10)
        keeper.watch(kept)
        assert not keeper._logs
