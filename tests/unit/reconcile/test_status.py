"""The status as a function of the record: phases, states and conditions."""

from __future__ import annotations

from typing import Any

import pytest

from oarlock.api.status import Status
from oarlock.reconcile.status import status_of
from oarlock.records.model import Current, Exit
from tests.unit.records.test_store import record

NOW = "2026-01-01T00:00:10Z"


def current(**fields: Any) -> Current:
    given: dict[str, Any] = {"attempt": 2, "containerID": "u-1-2", "runtime": "/r", "spec": {}, "logPath": "/l"}
    return Current(**(given | fields))


def ended(code: int, **fields: Any) -> Exit:
    reason = "Completed" if code == 0 else "Error"
    given: dict[str, Any] = {"attempt": 1, "containerID": "u-1-1", "exitCode": code, "reason": reason}
    return Exit(**(given | {"message": "it ended", "finishedAt": "2026-01-01T00:00:09Z"} | fields))


RUNS = current(stage="started", pid=7, monitorPID=6, startedAt="2026-01-01T00:00:08Z")
CONDITIONS = ("Ready", "Reconciling", "Stalled", "ContainerReady")

TABLE: list[tuple[str, dict[str, Any], str, tuple[str, str] | None, str, str]] = [
    ("new", {}, "Running", None, "Pending", "-R--"),
    ("creating", {"current": current()}, "Running", None, "Pending", "-R--"),
    ("runs", {"current": RUNS}, "Running", None, "Running", "Y--C"),
    ("paused as wanted", {"current": RUNS.model_copy(update={"paused": True})}, "Paused", None, "Paused", "Y---"),
    ("runs, to be paused", {"current": RUNS}, "Paused", None, "Running", "-R-C"),
    (
        "stopping",
        {"current": RUNS.model_copy(update={"stopCause": "Stopped", "stopGrace": 30.0})},
        "Stopped",
        None,
        "Stopping",
        "-R--",
    ),
    ("stopped", {"exits": [ended(143, cause="stopped")]}, "Stopped", None, "Stopped", "Y---"),
    ("never ran, stopped", {}, "Stopped", None, "Stopped", "Y---"),
    ("succeeded", {"exits": [ended(0)]}, "Running", None, "Succeeded", "Y---"),
    ("failed", {"exits": [ended(3)]}, "Running", None, "Failed", "--S-"),
    ("in back-off", {"exits": [ended(3)]}, "Running", ("CrashLoopBackOff", "back-off 10 s"), "BackOff", "-R--"),
    ("restarting", {"exits": [ended(3)]}, "Running", ("ContainerCreating", "being created"), "Pending", "-R--"),
    ("name taken", {}, "Running", ("NameTaken", "the name belongs to another"), "Pending", "--S-"),
    ("not allowed", {}, "Running", ("Refused", "privileged"), "Pending", "--S-"),
    ("no root yet", {"problem": ("CreateContainerConfigError", "no such tree")}, "Running", None, "Pending", "-R--"),
    (
        "runs, newest version invalid",
        {"current": RUNS, "refused": (2, "spec.x: no")},
        "Running",
        None,
        "Running",
        "--SC",
    ),
    (
        "lost",
        {"exits": [ended(-1, reason="ContainerStatusUnknown")]},
        "Running",
        None,
        "Unknown",
        "--S-",
    ),
]


@pytest.mark.parametrize(
    ("fields", "state", "waiting", "phase", "conditions"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_phase_and_conditions(
    fields: dict[str, Any], state: str, waiting: tuple[str, str] | None, phase: str, conditions: str
) -> None:
    found = status_of(record(**fields), state=state, now=NOW, waiting=waiting)
    Status.model_validate(found)
    assert found["phase"] == phase
    assert tuple(each["type"] for each in found["conditions"]) == CONDITIONS
    assert (
        "".join(
            letter if each["status"] == "True" else "-"
            for letter, each in zip("YRSC", found["conditions"], strict=True)
        )
        == conditions
    )
    assert len(found["state"]) == 1
    assert all(each["reason"] and each["message"] for each in found["conditions"])


def test_the_flat_fields_describe_the_last_exit_until_the_next_one_runs() -> None:
    oom = ended(137, signal=9, oomKilled=True, reason="OOMKilled")
    waits = status_of(record(exits=[oom]), state="Running", now=NOW, waiting=("CrashLoopBackOff", "…"))
    assert (waits["exitCode"], waits["signal"], waits["oomKilled"]) == (137, 9, True)
    runs = status_of(record(exits=[oom], current=RUNS), state="Running", now=NOW, waiting=None)
    assert not {"exitCode", "signal", "oomKilled", "finishedAt"} & set(runs)
    assert (runs["pid"], runs["monitorPID"]) == (7, 6)
    assert runs["lastState"]["terminated"]["exitCode"] == 137
    assert "pid" not in waits


REPLACING = ("Replacing", "it is replaced")


@pytest.mark.parametrize(
    ("outdated", "paused", "told"),
    [
        (REPLACING, False, {"Ready": "False", "Reconciling": "True", "Stalled": "False", "ContainerReady": "True"}),
        (REPLACING, True, {"Ready": "False", "Reconciling": "True", "Stalled": "False", "ContainerReady": "False"}),
        (
            ("Refused", "privileged"),
            False,
            {"Ready": "False", "Reconciling": "False", "Stalled": "True", "ContainerReady": "True"},
        ),
    ],
)
def test_what_runs_of_an_older_version_makes_no_newer_one_ready(
    outdated: tuple[str, str], paused: bool, told: dict[str, str]
) -> None:
    """kstatus takes Ready for the word on `observedGeneration`."""
    runs = RUNS.model_copy(update={"paused": paused})
    found = status_of(
        record(generation=2, current=runs), state="Paused" if paused else "Running", now=NOW, outdated=outdated
    )
    assert (found["observedGeneration"], found["phase"]) == (2, "Paused" if paused else "Running")
    assert {each["type"]: each["status"] for each in found["conditions"]} == told
    assert {each["reason"] for each in found["conditions"] if each["type"] != "ContainerReady"} == {outdated[0]}


def test_a_version_that_is_refused_has_been_looked_at() -> None:
    found = status_of(record(current=RUNS, refused=(3, "spec.x: no")), state="Running", now=NOW)
    assert {found["observedGeneration"], *(each["observedGeneration"] for each in found["conditions"])} == {3}


@pytest.mark.parametrize(
    ("code", "state", "waiting", "phase", "conditions"),
    [
        (0, "Running", None, "Succeeded", "Y---"),
        (3, "Running", None, "Failed", "--S-"),
        (143, "Stopped", None, "Stopped", "Y---"),
        (3, "Running", ("CrashLoopBackOff", "back-off 10 s"), "BackOff", "-R--"),
    ],
)
def test_an_end_that_was_told_stands_though_its_remains_do_not_go(
    code: int, state: str, waiting: tuple[str, str] | None, phase: str, conditions: str
) -> None:
    """As long as it is being removed, too: what comes next is not known from `current` then."""
    problem = ("RemoveContainerError", "runc delete: no")
    left = record(current=current(stage="started", pid=7), exits=[ended(code, attempt=2)], problem=problem)
    found = status_of(left, state=state, now=NOW, waiting=waiting)
    assert (found["phase"], found["reason"], found["message"], found["exitCode"]) == (phase, *problem, code)
    told = [
        letter if each["status"] == "True" else "-" for letter, each in zip("YRSC", found["conditions"], strict=True)
    ]
    assert "".join(told) == conditions
    deleted = status_of(left.model_copy(update={"deleted": True}), state=state, now=NOW, waiting=waiting)
    assert (deleted["phase"], deleted["reason"]) == ("Stopping", "RemoveContainerError")


def test_a_transition_time_changes_with_its_status_only() -> None:
    first = status_of(record(current=RUNS), state="Running", now="2026-01-01T00:00:01Z", waiting=None)
    kept = status_of(record(current=RUNS, status=first), state="Running", now=NOW, waiting=None)
    assert kept == first
    ready, *others = status_of(record(exits=[ended(3)], status=first), state="Running", now=NOW, waiting=None)[
        "conditions"
    ]
    assert (ready["status"], ready["lastTransitionTime"]) == ("False", NOW)
    assert others[0]["lastTransitionTime"] == "2026-01-01T00:00:01Z"
