"""oarlock on other nodes than this one: cgroup v2 or v1 with systemd, runc or crun, Linux 6.1, and a loss of power."""

from __future__ import annotations

import pytest

from tests.guest.runs import RUNS


@pytest.mark.timeout(0)  # the guest has a deadline of its own
@pytest.mark.parametrize("guest", [name for name in RUNS if name != "reboot"], indirect=True)
def test_the_node_tests_pass_there(guest: None) -> None:
    """See `runs.py` for which."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("guest", ["reboot"], indirect=True)
def test_a_loss_of_power_is_got_over_from_the_records_alone(guest: None) -> None:
    """See `reboot.py`."""
