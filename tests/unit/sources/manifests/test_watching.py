"""Which folders decide where a path leads."""

from __future__ import annotations

from pathlib import Path

from oarlock.sources.manifests.watching import trail


def test_a_plain_path_is_decided_by_its_end_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert list(trail(tmp_path / "file")) == [(tmp_path, "file")]


def test_a_missing_path_is_decided_by_its_first_missing_name(tmp_path: Path) -> None:
    assert list(trail(tmp_path / "a" / "b" / "c")) == [(tmp_path, "a")]


def test_each_link_on_the_way_decides_too(tmp_path: Path) -> None:
    (tmp_path / "releases" / "5" / "manifests").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/5")
    (tmp_path / "link").symlink_to(tmp_path / "current" / ".." / "5" / "manifests")
    assert list(trail(tmp_path / "link")) == [
        (tmp_path, "link"),
        (tmp_path, "current"),
        (tmp_path / "releases" / "5", "manifests"),
    ]


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert set(trail(tmp_path / "a" / "x")) == {(tmp_path, "a"), (tmp_path, "b")}
