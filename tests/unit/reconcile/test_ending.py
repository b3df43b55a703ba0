"""How an attempt ended, and the words for it."""

from __future__ import annotations

import re

import pytest

from oarlock.reconcile.ending import Ending


@pytest.mark.parametrize(
    ("wait_status", "file", "facts"),
    [
        (0, None, (0, None)),
        (3 << 8, None, (3, None)),
        (137 << 8, None, (137, None)),
        (255 << 8, 255, (255, None)),
        (9, None, (137, 9)),
        (15 | 0x80, None, (143, 15)),
        (None, 137, (137, None)),
        (None, 0, (0, None)),
        (None, None, (-1, None)),
    ],
)
def test_facts(wait_status: int | None, file: int | None, facts: tuple[int, int | None]) -> None:
    assert Ending(wait_status, file).facts() == facts


@pytest.mark.parametrize(
    ("ending", "cause", "other_kills", "reason", "words"),
    [
        (Ending(0), None, False, "Completed", "ended with exit code 0"),
        (Ending(3 << 8), None, False, "Error", "ended with exit code 3"),
        (Ending(9), None, False, "Error", "ended by signal SIGKILL"),
        (Ending(9, oom_killed=True), None, False, "OOMKilled", "took init of it"),
        (Ending(9, oom_killed=True), "Deleted", True, "OOMKilled", "because it was deleted; .* took a process of it"),
        (Ending(None, 137, oom_killed=True), None, False, "OOMKilled", "took a process of it"),
        (Ending(137 << 8, oom_killed=True), None, False, "OOMKilled", "took a child process of it"),
        (Ending(1 << 8, oom_killed=True), None, False, "OOMKilled", "took a child process of it"),
        (Ending(0, oom_killed=True), None, False, "Completed", "took a child process of it"),
        (Ending(15), "Deleted", False, "Error", "because it was deleted"),
        (Ending(40), None, False, "Error", r"ended by signal SIGRTMIN\+6"),
        (Ending(33), None, False, "Error", "ended with exit code 161"),
    ],
)
def test_sentence(ending: Ending, cause: str | None, other_kills: bool, reason: str, words: str) -> None:
    found, sentence = ending.sentence(cause, other_kills=other_kills)
    assert found == reason
    assert re.search(words, sentence)
