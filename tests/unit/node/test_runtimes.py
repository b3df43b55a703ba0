"""The runtimes in the operator's configuration: named in any number, and proven at the start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from oarlock.errors import ConfigurationError
from oarlock.node.configuration import Configuration


@pytest.fixture
def node(tmp_path: Path) -> Configuration:
    """A configuration that an operator can start with."""
    return Configuration(
        node_name="n",
        manifests=tmp_path / "manifests",
        state_dir=tmp_path / "state",
        run_dir=tmp_path / "run",
        conmon=program(tmp_path / "conmon"),
        runtime_trusted=program(tmp_path / "runc"),
    )


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_they_come_by_flag_variable_and_file(tmp_path: Path) -> None:
    wanted = (("kata", Path("/opt/kata")), ("crun", Path("crun")))
    file = tmp_path / "config.yaml"
    file.write_text("runtimes: [kata=/opt/kata, crun=crun]\n")
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert Configuration.load({"runtimes": ["kata=/opt/kata", "crun=crun"]}, {}, empty).runtimes == wanted
    assert Configuration.load({}, {"OARLOCK_RUNTIMES": "kata=/opt/kata, crun=crun"}, empty).runtimes == wanted
    assert Configuration.load({}, {}, file).runtimes == wanted


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ("kata", "has no '='; write NAME=PATH"),
        ("Kata=/opt/kata", "'Kata' is no handler's name"),
        ("a_b=/opt/kata", "'a_b' is no handler's name"),
        ("=/opt/kata", "'' is no handler's name"),
        (f"{'a' * 64}=/opt/kata", "is no handler's name"),
        ("kata=", "empty; give the program's path or name"),
        ("kata=opt/kata", "'opt/kata' is relative"),
    ],
)
def test_what_cannot_be_read_is_named(given: str, phrase: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--runtimes: .*{phrase}"):
        Configuration.load({"runtimes": [given]}, {})


def test_each_must_be_there(node: Configuration, tmp_path: Path) -> None:
    kata = program(tmp_path / "kata-runtime")
    assert dataclasses.replace(node, runtimes=(("kata", kata),)).checked().handlers == {
        "runc": node.runtime_trusted,
        "kata": kata,
    }
    kata.unlink()
    with pytest.raises(ConfigurationError, match=f"^--runtimes kata: {kata} does not exist; install it or name it"):
        dataclasses.replace(node, runtimes=(("kata", kata),)).checked()
    kata.write_text("")
    with pytest.raises(ConfigurationError, match=f"^--runtimes kata: {kata} is not an executable file"):
        dataclasses.replace(node, runtimes=(("kata", kata),)).checked()
    with pytest.raises(ConfigurationError, match=r"^--runtimes kata: no nonesuch in "):
        dataclasses.replace(node, runtimes=(("kata", Path("nonesuch")),)).checked()


def test_a_name_means_one_runtime(node: Configuration, tmp_path: Path) -> None:
    other = program(tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"^--runtimes kata: given twice"):
        dataclasses.replace(node, runtimes=(("kata", other), ("kata", other))).checked()
    with pytest.raises(ConfigurationError, match="has the name of --runtime-trusted"):
        dataclasses.replace(node, runtimes=(("runc", other),)).checked()
    same = dataclasses.replace(node, runtimes=(("runc", node.runtime_trusted),))
    assert same.checked().handlers == {"runc": node.runtime_trusted}
