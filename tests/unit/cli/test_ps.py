"""`oarlock ps` and `inspect` tell what the records have, honestly."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import yaml

from tests.unit.cli.conftest import Node, start_time


def test_a_container_is_a_row(node: Node) -> None:
    node.record("web")
    node.ended("job", code=3, phase="Failed", namespace="batch")
    with node.operator():
        done = node.oarlock("ps")
    heading, job, web = done.stdout.splitlines()
    assert heading.split() == ["NAMESPACE", "NAME", "STATE", "PHASE", "PID", "EXIT", "OOM", "RESTARTS", "AGE"]
    assert job.split()[:8] == ["batch", "job", "Running", "Failed", "-", "3", "no", "0"]
    assert web.split()[:8] == ["default", "web", "Running", "Running", str(os.getpid()), "-", "-", "0"]
    assert done.stderr == ""


def test_a_namespace_filters_before_and_after_the_command(node: Node) -> None:
    node.record("web")
    node.record("job", namespace="batch")
    with node.operator():
        for arguments in (["-n", "batch", "ps", "-o", "name"], ["ps", "-n", "batch", "-o", "name"]):
            assert node.oarlock(*arguments).stdout == "containerspec.oarlock.dev/job\n"


def test_json_is_a_list_of_full_objects(node: Node) -> None:
    node.record("web", labels={"app": "web"})
    with node.operator():
        found = json.loads(node.oarlock("ps", "-o", "json").stdout)
        assert found == yaml.safe_load(node.oarlock("ps", "-o", "yaml").stdout)
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    (item,) = found["items"]
    assert (item["apiVersion"], item["kind"]) == ("oarlock.dev/v1alpha1", "ContainerSpec")
    assert item["metadata"] == {
        "name": "web",
        "namespace": "default",
        "uid": "default-web",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "web"},
    }
    assert item["spec"]["command"] == ["sleep", "60"]
    assert item["status"]["pid"] == os.getpid()


def test_an_empty_node_is_said_to_be_empty(node: Node) -> None:
    done = node.oarlock("ps")
    assert done.stdout == ""
    assert "no containers in" in done.stderr
    assert "the operator is not running" in done.stderr
    assert json.loads(node.oarlock("ps", "-o", "json").stdout)["items"] == []


def test_with_the_operator_down_the_living_are_shown_as_they_are(node: Node) -> None:
    node.record("web")
    done = node.oarlock("ps")
    assert done.stdout.splitlines()[1].split()[3:5] == ["Running", str(os.getpid())]
    assert "the operator is not running; this is what it recorded" in done.stderr


def test_with_the_operator_down_the_dead_are_unknown_with_what_conmon_wrote(node: Node) -> None:
    process = subprocess.Popen(["sleep", "60"])
    uid = node.record("web", pid=process.pid)
    process.kill()
    process.wait()
    (node.run_dir / "exits").mkdir(parents=True)
    (node.run_dir / "exits" / f"{uid}-1").write_text("137")
    (item,) = json.loads(node.oarlock("ps", "-o", "json").stdout)["items"]
    status = item["status"]
    assert (status["phase"], status["pid"], status["exitCode"]) == ("Unknown", None, None)
    assert status["message"] == "ended with exit code 137 while the operator was away"
    assert [each["status"] for each in status["conditions"]] == ["Unknown"]


def test_a_pid_that_was_given_to_another_process_is_not_taken_for_the_container(node: Node) -> None:
    node.record("web", current={"pidStart": start_time(os.getpid()) + 1})
    assert node.oarlock("ps").stdout.splitlines()[1].split()[3:5] == ["Unknown", "-"]


def test_nothing_survived_a_reboot(node: Node) -> None:
    node.record("web", bootID="another")
    (item,) = json.loads(node.oarlock("ps", "-o", "json").stdout)["items"]
    assert item["status"]["message"] == "ended with the boot before this one, while the operator was away"


def test_with_the_operator_running_its_word_is_taken(node: Node) -> None:
    node.record("web", current={"pidStart": 1})
    with node.operator():
        assert node.oarlock("ps").stdout.splitlines()[1].split()[3] == "Running"


def test_a_broken_record_and_temporary_files_disturb_nobody(node: Node) -> None:
    node.record("web")
    (node.state / "records" / "broken.json").write_text('{"na')
    (node.state / "records" / ".x.json").write_text("")
    with node.operator():
        done = node.oarlock("ps")
    assert len(done.stdout.splitlines()) == 2
    assert "unreadable record" in done.stderr
    assert "broken.json" in done.stderr


def test_problems_of_the_manifests_are_told_below(node: Node) -> None:
    node.record("web")
    problem = {"where": "web.yaml:12", "field": "spec.command", "problem": "must be a list"}
    (node.state / "problems.json").write_text(json.dumps([problem]))
    with node.operator():
        done = node.oarlock("ps", "--manifests", "/srv/m")
    assert done.stderr == "oarlock: problems in /srv/m:\n  web.yaml:12: spec.command: must be a list\n"


def test_a_control_character_in_a_command_reaches_no_terminal(node: Node) -> None:
    node.record("web", spec={"command": ["echo", "\x1b[2J\n"]})
    with node.operator():
        done = node.oarlock("ps", "-o", "wide")
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 2


def test_watch_prints_a_line_for_each_change(node: Node) -> None:
    uid = node.record("web")
    with node.operator():
        process = node.start("ps", "-w")
        assert process.stdout is not None
        assert b"NAMESPACE" in process.stdout.readline()
        assert b" Running " in process.stdout.readline()
        node.record("web")  # written anew without a change
        node.ended("web", code=4, phase="Failed")
        assert process.stdout.readline().split()[3:6] == [b"Failed", b"-", b"4"]
        node.record("job")
        assert process.stdout.readline().split()[1] == b"job"
        node.remove(uid)
        assert process.stdout.readline() == b"default/web is gone\n"
        process.terminate()
        process.communicate(timeout=20)


def test_watch_waits_for_a_state_directory(node: Node) -> None:
    node.run_dir.mkdir()
    process = node.start("ps", "-w", "-o", "name")
    assert process.stderr is not None
    assert process.stdout is not None
    assert b"does not exist yet" in process.stderr.readline()
    node.record("web")
    assert process.stdout.readline() == b"containerspec.oarlock.dev/web\n"
    process.terminate()
    process.communicate(timeout=20)


def test_inspect_shows_a_person_the_attempts_that_ended(node: Node) -> None:
    ended = {"attempt": 1, "exitCode": 3, "reason": "Error", "finishedAt": "2026-01-01T00:00:05Z"}
    node.record("web", exits=[ended], attempt=2)
    with node.operator():
        shown = node.oarlock("inspect", "web").stdout
    assert "Source:        manifests (/etc/oarlock/manifests/web.yaml:3)" in shown
    assert "Attempts that ended:" in shown
    assert ["1", "3", "-", "-", "Error"] in [line.split()[:5] for line in shown.splitlines()]


def test_inspect_as_a_document_has_object_and_record(node: Node) -> None:
    uid = node.record("web")
    with node.operator():
        found = json.loads(node.oarlock("inspect", "default/web", "-o", "json").stdout)
    assert found["status"]["phase"] == "Running"
    assert found["record"]["source"] == "manifests"
    assert found["record"]["logs"] == str(node.state / "containers" / uid / "logs")
    assert Path(found["record"]["bundle"]).name == f"{uid}-1"


def test_a_name_in_several_namespaces_is_asked_back(node: Node) -> None:
    node.record("web")
    node.record("web", namespace="other")
    done = node.oarlock("inspect", "web", code=2)
    assert "choose one of default/web, other/web" in done.stderr
    assert "Namespace:     other" in node.oarlock("inspect", "other/web").stdout
    assert "Namespace:     other" in node.oarlock("inspect", "web", "-n", "other").stdout


def test_the_object_that_holds_a_name_is_meant_by_it(node: Node) -> None:
    node.record("web", uid="a-old", deleted=True)
    node.record("web", uid="b-new")
    assert "UID:           b-new" in node.oarlock("inspect", "web").stdout
