"""What the runtime is told of an exec, and what its words mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oarlock.runtime.execprocess import ExecProcess, ExecUser, in_memory, process_of, refusal

OWN = {
    "terminal": True,
    "consoleSize": {"height": 1, "width": 2},
    "user": {"uid": 0, "gid": 0, "additionalGids": [0], "umask": 18},
    "args": ["sleep", "1000"],
    "env": ["PATH=/bin", "EMPTY=", "TWO=a=b", "HOME=/root"],
    "cwd": "/srv",
    "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
    "noNewPrivileges": True,
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"process": OWN}))
    return tmp_path


def test_what_is_not_chosen_is_the_containers(bundle: Path) -> None:
    made = process_of(bundle, ExecProcess(("true",)))
    assert made == {**{name: OWN[name] for name in OWN if name != "consoleSize"}, "args": ["true"], "terminal": False}


def test_what_is_chosen_replaces_it(bundle: Path) -> None:
    user = ExecUser(1000, 2000, (2000, 3), "/home/app")
    made = process_of(bundle, ExecProcess(("id",), {"TWO": "2", "NEW": ""}, user, "/tmp", True, (24, 80)))
    assert made["env"] == ["PATH=/bin", "EMPTY=", "TWO=2", "HOME=/home/app", "TERM=xterm", "NEW="]
    assert made["user"] == {"uid": 1000, "gid": 2000, "additionalGids": [2000, 3], "umask": 18}
    assert made["capabilities"] == {"bounding": ["CAP_KILL"], "effective": [], "permitted": []}
    assert (made["cwd"], made["terminal"], made["consoleSize"]) == ("/tmp", True, {"height": 24, "width": 80})


def test_the_home_of_a_call_goes_before_the_users(bundle: Path) -> None:
    made = process_of(bundle, ExecProcess(("id",), {"HOME": "/elsewhere"}, ExecUser(1, 1, home="/home/app")))
    assert "HOME=/elsewhere" in made["env"]


def test_a_hundred_calls_change_nothing_of_the_containers_own(bundle: Path) -> None:
    before = (bundle / "config.json").read_bytes()
    made = [process_of(bundle, ExecProcess(("true",), {"A": "1"})) for _ in range(100)]
    assert all(each == made[0] for each in made)
    assert (bundle / "config.json").read_bytes() == before


def test_a_process_is_read_by_its_descriptor_and_lies_nowhere(bundle: Path) -> None:
    with in_memory({"env": ["SECRET=hush"]}) as fd:
        assert json.loads(Path(f"/proc/self/fd/{fd}").read_text()) == {"env": ["SECRET=hush"]}
        assert not Path(f"/proc/self/fd/{fd}").is_symlink() or "memfd" in str(Path(f"/proc/self/fd/{fd}").readlink())


FRAME = 'time="2026-11-25T15:48:03Z" level=error msg="exec failed: unable to start container process: '
REFUSALS = {
    FRAME + r'exec: \"nosuch\": executable file not found in $PATH"': (
        127,
        r'exec: "nosuch": executable file not found',
    ),
    FRAME + r'exec: \"/nosuch\": stat /nosuch: no such file or directory"': (127, "no such file"),
    FRAME + 'exec /script: no such file or directory"': (127, "exec /script"),
    FRAME + r'exec: \"/etc/passwd\": permission denied"': (126, "permission denied"),
    FRAME + 'exec /script: exec format error"': (126, "format"),
    FRAME + r'chdir to cwd (\"/x\") set in config.json failed: no such file or directory"': (126, "chdir to cwd"),
    FRAME + 'open /proc/self/x: no such file or directory"': (None, "open /proc"),
    'level=error msg="exec failed: cannot exec in a stopped container"': (None, "does not run"),
    'level=error msg="container does not exist"': (None, "does not run"),
    'level=error msg="exec failed: cannot exec in a paused container (use --ignore-paused to override)"': (
        None,
        "resume it first",
    ),
    "executable file `nosuch` not found in $PATH: No such file or directory": (127, "nosuch"),
    "open executable: Permission denied": (126, "/usr/bin/true: open executable: Permission denied"),
    "open executable: Operation not permitted": (126, "/usr/bin/true"),  # a directory
    "exec: Exec format error": (126, "format"),
    "chdir `/x`: No such file or directory": (126, "chdir"),
    "the container `x` is not running": (None, "does not run"),
    "the container `x` is paused": (None, "resume it first"),
    "error opening file `/run/x/status`: No such file or directory": (None, "does not run"),
    "": (None, "without a word"),
    "a warning\nsomething else broke\n": (None, "something else broke"),
}


@pytest.mark.parametrize("said", REFUSALS)
def test_the_words_of_runc_and_crun(said: str) -> None:
    error, (code, words) = refusal("web", said, "/usr/bin/true"), REFUSALS[said]
    assert error.exit_code == code
    assert str(error).startswith("web: ")
    assert words in error.problem
