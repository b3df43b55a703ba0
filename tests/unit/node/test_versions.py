"""Versions of conmon and the runtimes, whatever they print (row 4 of `oci.go`: Version)."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from oarlock import __version__
from oarlock.node import versions
from oarlock.node.configuration import Configuration
from oarlock.node.versions import Program, version_of


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\n", "1.1.5+ds1"),
        ("conmon version 2.1.6\ncommit: unknown\n", "2.1.6"),
        (
            "crun version 1.8.1\ncommit: f8a096be060b22ccd3d5f3ebe44108517fbf6c30\nspec: 1.0.0\n+SYSTEMD +SELINUX",
            "1.8.1",
        ),
        ("crun version 1.8.1", "1.8.1"),
        ("kata-runtime  : 3.2.0-rc0\n   commit   : 1", "3.2.0-rc0"),
        ("runsc version release-20231009.0\nspec: 1.1.0-rc.1\n", "20231009.0"),
        ("\n\n  v1.2\n", "1.2"),
        ("unknown", None),
        ("version 7", None),
        ("", None),
        ("\n", None),
    ],
)
def test_the_version_is_found_in_what_a_program_prints(said: str, expected: str | None) -> None:
    assert version_of(said) == expected


@pytest.fixture
def node(tmp_path: Path) -> Configuration:
    return Configuration(
        conmon=program(tmp_path, "conmon", "echo conmon version 2.1.6"),
        runtime_trusted=program(tmp_path, "runc", "printf 'runc version 1.1.5'"),
    )


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def asked(node: Configuration, tmp_path: Path, script: str) -> Program:
    named = (("kata", program(tmp_path, "kata-runtime", script)),)
    return versions.programs(dataclasses.replace(node, runtimes=named))[-1]


def test_each_program_by_its_name(node: Configuration, tmp_path: Path) -> None:
    untrusted = program(tmp_path / "other", "runc", "echo 1.2.3")
    node = dataclasses.replace(
        node,
        runtime_untrusted=untrusted,
        runtimes=(("kata", program(tmp_path, "kata-runtime", "echo 3.2.0 >&2")), ("gone", tmp_path / "gone")),
    )
    assert versions.versions(node) == {
        "oarlock": __version__,
        "conmon": "2.1.6",
        "runc": "1.1.5",
        "runc (untrusted)": "1.2.3",
        "kata": "3.2.0",
        "gone": None,
    }


def test_a_missing_program_names_its_path_and_what_helps(node: Configuration, tmp_path: Path) -> None:
    found = versions.programs(dataclasses.replace(node, runtimes=(("gone", tmp_path / "gone"),)))[-1]
    assert found.problem == f"--runtimes gone: {tmp_path}/gone does not exist"
    assert found.way_out == "install it or name it with --runtimes"
    assert not found.usable


def test_a_program_that_fails_or_says_nothing_useful(node: Configuration, tmp_path: Path) -> None:
    failed = asked(node, tmp_path, "echo no such option; exit 3")
    assert (failed.problem, failed.usable) == (
        f"{tmp_path}/kata-runtime --version ended with 3: no such option",
        False,
    )
    silent = asked(node, tmp_path, "true")
    assert (silent.problem, silent.usable) == (f"{tmp_path}/kata-runtime: no version in 'nothing'", True)
    garbled = asked(node, tmp_path, r"printf '\377\376 1.2.3'")
    assert garbled.version == "1.2.3"


def test_what_is_no_program_for_this_machine(node: Configuration, tmp_path: Path) -> None:
    path = tmp_path / "alien"
    path.write_bytes(b"\x7fELFalien")
    path.chmod(0o755)
    found = versions.programs(dataclasses.replace(node, runtimes=(("alien", path),)))[-1]
    assert (found.problem, found.usable) == (f"{path} cannot be executed: Exec format error", False)


def test_all_are_asked_at_once_and_a_hanging_one_is_cut_off(
    node: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "ANSWER", 2.0)
    hanging = tuple((f"h{n}", program(tmp_path, f"h{n}", "sleep 1000; echo 1.2.3")) for n in range(4))
    begin = time.monotonic()
    found = versions.versions(dataclasses.replace(node, runtimes=hanging))
    assert time.monotonic() - begin < 6
    assert found["runc"] == "1.1.5"
    assert [found[f"h{n}"] for n in range(4)] == [None] * 4


def test_a_program_is_asked_in_the_environment_that_it_will_have(node: Configuration, tmp_path: Path) -> None:
    script = '[ -n "$NEEDED" ] || exit 9; echo 1.2.3'
    assert asked(node, tmp_path, script).usable is False
    assert asked(dataclasses.replace(node, conmon_env=(("NEEDED", "x"),)), tmp_path, script).version == "1.2.3"
