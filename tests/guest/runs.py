"""What is run in guests: the node's tests with each manager and runtime, and a loss of power."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from tests.guest.machine import Guest

EVERYWHERE = (
    "test_cgroups.py::test_monitor_and_container_have_cgroups_of_their_own_until_they_end",
    "test_life.py::test_an_oom_kill_of_init_and_of_a_child_is_told",
    "test_life.py::test_a_paused_container_is_frozen_thawed_and_deleted",
    "test_life.py::test_the_log_is_what_the_container_wrote_and_nothing_else",
    "test_resources.py::test_limits_reach_the_cgroup",
    "test_exec.py::test_a_call_counts_with_the_containers_own_monitor",
    "test_hardship.py::test_a_monitor_leaves_the_unit_that_the_operator_runs_in[freezer]",
)
"""Where version, manager and runtime make a difference."""
ONCE = (
    "test_cgroups.py::test_an_operator_with_another_manager_takes_up_what_runs",
    "test_cgroups.py::test_a_container_that_ends_by_itself_leaves_no_cgroup",
    "test_cgroups.py::test_the_manager_is_found_by_itself",
    "test_life.py::test_a_running_container_has_a_pid_that_is_its_own",
    "test_life.py::test_a_command_that_cannot_run_is_told[nosuch-127]",
    "test_life.py::test_a_removed_file_leaves_nothing_behind",
    "test_life.py::test_a_signal_from_outside_is_told",
    "test_life.py::test_an_ignored_term_is_killed_after_the_grace_period",
    "test_pause.py::test_a_frozen_container_is_thawed_to_be_replaced_or_stopped",
    "test_watched.py::test_a_killed_monitor_is_noticed_at_once_and_the_exit_is_honest",
    "test_watched.py::test_a_child_taken_by_the_oom_killer_is_told_while_init_lives",
    "test_watched.py::test_paused_means_every_process_or_none",
    "test_watched.py::test_a_container_with_the_nodes_pids_leaves_no_child_behind",
    "test_exec.py::test_streams_are_apart_lines_whole_and_the_code_its_own",
    "test_crash.py::test_containers_keep_their_pid_over_a_restart_of_the_operator",
    "test_hardship.py::test_empty_cgroups_that_are_nobodys_are_removed",
    "test_exec.py::test_a_deadline_ends_the_command_and_all_that_it_began",
    "test_exec.py::test_a_shell_at_a_terminal",
    "test_faults.py::test_each_fault_is_told_and_got_over[delete]",
)
"""Where cgroup v2 or a kernel that does not tell exits does, whatever the rest: with systemd and runc alone."""

OTHERS = (("systemd", "crun"), ("cgroupfs", "runc"), ("cgroupfs", "crun"))
"""Manager and runtime of a second guest, which takes about as long as the first."""

FULL = os.environ.get("OARLOCK_GUEST") == "full"
"""All of the node's tests each time instead of those."""
_CGROUP_1 = "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
_PYTEST = (
    "OARLOCK_TEST_DIR=/var/tmp OARLOCK_TEST_PATIENCE=6 OARLOCK_TEST_CYCLES=320"
    " .venv/bin/python -m pytest --color=no -p no:cacheprovider -o timeout=900"
)


@dataclass(frozen=True)
class Run:
    """A script for one guest; see `Guest`. `deadline`: seconds from its boot."""

    script: str
    options: str = ""
    reboots: bool = False
    deadline: float = 14400.0 if FULL else 2400.0

    def boot(self, name: str) -> Guest:
        """The guest at work."""
        return Guest(name, self.script, options=self.options, reboots=self.reboots)


def _node_tests(*configurations: tuple[str, str, tuple[str, ...]]) -> str:
    """A script that runs tests of the node with each manager and runtime, and fails when one of them does."""
    lines = ["status=0"]
    for manager, runtime, names in configurations:
        chosen = "tests/node" if FULL else shlex.join(f"tests/node/{each}" for each in names)
        lines += [
            f"echo 'with {manager} and {runtime}:'",
            f"export OARLOCK_CGROUP_MANAGER={manager} OARLOCK_RUNTIME_TRUSTED={runtime}",
            f"{_PYTEST} -v --durations=0 {chosen} || status=$?",
        ]
    return "\n".join([*lines, "exit $status"])


RUNS = {
    "cgroup2-systemd": Run(_node_tests(("systemd", "runc", EVERYWHERE + ONCE))),
    "cgroup2": Run(_node_tests(*((*others, EVERYWHERE) for others in OTHERS))),
    "cgroup1-systemd": Run(_node_tests(("systemd", "runc", EVERYWHERE)), _CGROUP_1),
    "reboot": Run(f"{_PYTEST} -s tests/guest/reboot.py", reboots=True),
}
