"""Users and groups are looked up in the container's own files, and never outside of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from oarlock.api.spec import Spec
from oarlock.bundle import users
from oarlock.bundle.users import User
from oarlock.errors import BundleError

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/home/app:/bin/sh\nhomeless:x:7:8:::\n"
GROUP = "root:x:0:\naudio:x:29:app,root\nvideo:x:44: app \nbad:x:many:app\napp:x:1001:app\n"


def spec(**context: Any) -> Spec:
    given = {"nodeName": "n", "rootfs": {"path": "/x"}, "command": ["id"], "securityContext": context}
    return Spec.model_validate(given)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/passwd").write_text(PASSWD)
    (tree / "etc/group").write_text(GROUP)
    return tree


def test_without_a_security_context_it_is_root(root: Path) -> None:
    assert users.resolve(users.accounts(root), spec()) == User(0, 0, (0, 29), "/root", "root")


def test_group_groups_and_home_come_from_the_files(root: Path) -> None:
    assert users.resolve(users.accounts(root), spec(runAsUser=1000)) == User(
        1000, 1001, (1001, 29, 44), "/home/app", "app"
    )


def test_the_given_group_replaces_the_primary_one(root: Path) -> None:
    assert users.resolve(users.accounts(root), spec(runAsUser=1000, runAsGroup=5)) == User(
        1000, 5, (5, 29, 44, 1001), "/home/app", "app"
    )


def test_an_unknown_user_has_group_0_and_no_home(root: Path) -> None:
    assert users.resolve(users.accounts(root), spec(runAsUser=4242)) == User(4242, 0, (0,), "/", "")
    assert users.resolve(users.accounts(root), spec(runAsUser=7)) == User(7, 8, (8,), "/", "homeless")


def test_a_descriptor_of_the_root_does_as_well_and_stays_open(root: Path) -> None:
    fd = os.open(root, os.O_PATH)
    assert users.resolve(users.accounts(fd), spec(runAsUser=1000)).name == "app"
    os.close(fd)


def test_run_as_non_root_refuses_root(root: Path) -> None:
    with pytest.raises(BundleError, match=r"spec\.securityContext\.runAsNonRoot: .*uid 0"):
        users.resolve(users.accounts(root), spec(runAsNonRoot=True))
    assert users.resolve(users.accounts(root), spec(runAsNonRoot=True, runAsUser=1000)).uid == 1000


def test_links_stay_inside_the_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("outside:x:1000:666::/outside:\n")
    for target in ("../../passwd", str(tmp_path / "passwd")):
        (root / "etc/passwd").unlink()
        (root / "etc/passwd").symlink_to(target)
        assert users.resolve(users.accounts(root), spec(runAsUser=1000)).name == ""
    (root / "usr").mkdir()
    (root / "usr/passwd").write_text(PASSWD)
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/usr/passwd")
    assert users.resolve(users.accounts(root), spec(runAsUser=1000)).name == "app"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("file", ["passwd", "group"])
def test_a_fifo_or_a_directory_is_refused(root: Path, file: str) -> None:
    """A runtime that reads it would wait for ever."""
    path = root / "etc" / file
    for make in (os.mkfifo, os.mkdir):
        path.unlink()
        make(path)
        with pytest.raises(BundleError, match=rf"spec\.rootfs\.path: /etc/{file} is no regular file"):
            users.resolve(users.accounts(root), spec(runAsUser=1000))
        path.rmdir() if path.is_dir() else path.unlink()
        path.touch()


def test_a_loop_or_nothing_is_no_file(root: Path) -> None:
    passwd = root / "etc/passwd"
    passwd.unlink()
    passwd.symlink_to(passwd.name)
    assert users.resolve(users.accounts(root), spec(runAsUser=1000)) == User(1000, 0, (0,), "/", "")
    passwd.unlink()
    assert users.resolve(users.accounts(root), spec()).home == "/"


def test_an_endless_file_is_refused(root: Path) -> None:
    with (root / "etc/passwd").open("a") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match=r"spec\.rootfs\.path: /etc/passwd is longer than"):
        users.resolve(users.accounts(root), spec())


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("0", User(0, 0, (0, 29), "/root", "root")),
        ("app", User(1000, 1001, (1001, 29, 44), "/home/app", "app")),
        ("1000:29", User(1000, 29, (29, 44, 1001), "/home/app", "app")),
        ("app:audio", User(1000, 29, (29, 44, 1001), "/home/app", "app")),
        ("4711", User(4711, 0, (0,), "/", "")),
    ],
)
def test_a_user_by_name_or_number(root: Path, text: str, user: User) -> None:
    assert users.find(root, text) == user


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nosuch", "no user 'nosuch'"),
        ("", "no user ''"),
        ("broken", "no user"),
        ("app:nosuch", "no group"),
        ("0:", "no group"),
    ],
)
def test_a_user_that_the_container_does_not_have(root: Path, text: str, problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        users.find(root, text)
