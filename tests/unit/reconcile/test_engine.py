"""Who has a name when two objects want it."""

from __future__ import annotations

from oarlock.reconcile.engine import _claim
from oarlock.records.model import Current
from tests.unit.records.test_store import record


def test_after_a_restart_the_one_that_had_the_name_keeps_it() -> None:
    current = Current(attempt=1, containerID="z-1", runtime="/r", spec={}, logPath="/l")
    ending = record(uid="z", current=current, status={"reason": "Deleted"})
    waiting = record(uid="a", created="2025-01-01T00:00:00Z", status={"reason": "NameTaken"})
    settled = record(uid="y", status={"reason": "Completed"})
    assert sorted([waiting, settled, ending], key=_claim) == [ending, settled, waiting]
