"""Errors are one line, exit codes mean something, and nobody sees a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.unit.cli.conftest import Node


def test_a_wrong_flag_is_exit_code_2_and_one_line(node: Node) -> None:
    done = node.oarlock("ps", "--nonsense", code=2)
    assert done.stderr == "oarlock: No such option: --nonsense (see 'oarlock ps --help')\n"


def test_a_misspelt_command_is_answered_with_the_right_one(node: Node) -> None:
    assert "Did you mean 'inspect'?" in node.oarlock("inspet", code=2).stderr


def test_a_container_that_is_not_there_is_exit_code_3(node: Node) -> None:
    node.record("worker")
    assert "did you mean worker?" in node.oarlock("inspect", "workr", code=3).stderr


def test_a_configuration_error_names_the_option(node: Node) -> None:
    done = node.oarlock("ps", "--state-dir", "relative", code=2)
    assert done.stderr.startswith("oarlock: --state-dir: 'relative' is relative; give the whole path")


def test_a_reader_that_leaves_early_is_no_error(node: Node) -> None:
    for number in range(2000):
        node.record(f"container-with-a-long-name-{number}")
    process = node.start("ps", "-o", "yaml")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    with process.stderr:
        assert b"Traceback" not in process.stderr.read()
    assert process.wait(timeout=20) == 141


def test_ctrl_c_ends_quietly_with_130(node: Node) -> None:
    uid = node.record("web")
    node.log(uid, "1.log", b"2026-01-01T00:00:00.000000000+00:00 stdout F ready\n")
    with node.operator():
        process = node.start("logs", "-f", "web")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")


ANOTHER_USER = """
import os, sys
from oarlock.cli import main
main(["ps"])  # as root, so that all is imported: a clone in /root is nobody else's to read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(["ps"]))
"""


def test_another_user_is_told_to_be_root(node: Node) -> None:
    node.record("web")
    (node.state / "records").chmod(0o700)
    if os.geteuid() != 0:
        return  # only root can become somebody else
    done = subprocess.run([sys.executable, "-c", ANOTHER_USER], env=node.environment, capture_output=True, timeout=20)
    assert done.returncode == 1
    assert b"permission denied; run it as root" in done.stderr


def test_version_is_a_document_too(node: Node) -> None:
    assert node.oarlock("version").stdout.startswith("oarlock 0.")
    assert '"api": "oarlock.dev/v1alpha1"' in node.oarlock("version", "-o", "json").stdout


def test_names_complete_from_the_records(node: Node) -> None:
    node.record("web-1")
    node.record("web-2")
    node.record("other")
    environment = node.environment | {
        "_OARLOCK_COMPLETE": "complete_bash",
        "COMP_WORDS": "oarlock logs we",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(node.command(), env=environment, capture_output=True, timeout=20, text=True)
    assert done.stdout.split() == ["web-1", "web-2"]
