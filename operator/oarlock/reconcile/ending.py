"""How an attempt ended: what kernel and conmon tell of it, and the words for that."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from oarlock.api.signals import name_of


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of an attempt's end.

    Attributes:
        wait_status: of wait(2), where the kernel tells it.
        exit_code: of conmon's exit file, where the wait status is not known.
        oom_killed: whether the kernel's OOM killer took a process of it.
        ago: seconds since then.
        monitor_hung: whether conmon did not end by itself after it.
    """

    wait_status: int | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    ago: float = 0.0
    monitor_hung: bool = False

    @property
    def is_known(self) -> bool:
        """Whether anybody tells how it ended."""
        return self.wait_status is not None or self.exit_code is not None

    def facts(self) -> tuple[int, int | None]:
        """Exit code and signal; the signal only from a wait status, since conmon writes one 137 for two things."""
        if self.wait_status is None:
            return (self.exit_code if self.exit_code is not None else -1), None
        number = self.wait_status & 0x7F
        return (128 + number, number) if number else (self.wait_status >> 8, None)

    def sentence(self, cause: str | None, *, other_kills: bool = False) -> tuple[str, str]:
        """Reason and message.

        Args:
            cause: why oarlock ended it, if it did.
            other_kills: whether somebody else may have sent KILL, or the OOM killer took a child before.
        """
        code, number = self.facts()
        name = None if number is None else name_of(number)
        how = f"ended by signal {name}" if name else f"ended with exit code {code}"
        why = f", because it was {cause.lower()}" if cause else ""
        if not self.oom_killed:
            return ("Completed" if code == 0 else "Error"), how + why
        told = f"{how}{why}; the kernel's OOM killer took {self._victim(other_kills)} of it"
        return ("Completed" if code == 0 else "OOMKilled"), told

    def _victim(self, other_kills: bool) -> str:
        """Whom the OOM killer took: init ends by KILL then. conmon's 137 may also be an `exit 137`."""
        code, number = self.facts()
        if code != 128 + signal.SIGKILL or (self.wait_status is not None and number != signal.SIGKILL):
            return "a child process"
        return "a process" if other_kills or number is None else "init"
