"""Which directories may be a container's root filesystem."""

from __future__ import annotations

from pathlib import Path

import pytest

from oarlock.bundle.rootfs import check_rootfs
from oarlock.errors import BundleError


def test_a_directory_is_returned_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert check_rootfs(tmp_path / "link", forbidden=[], allowed=[]) == tmp_path / "real"


def test_what_is_not_a_directory_is_refused_with_the_field(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "loop", "missing", "file/below", "nul\0byte"):
        with pytest.raises(BundleError, match=r"^spec\.rootfs\.path: "):
            check_rootfs(tmp_path / name, forbidden=[], allowed=[])


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/proc/self/root", "/proc", "/sys/fs", "/dev", "/root", "/home", "/run", "/var/lib", "/var"]
)
def test_the_nodes_own_system_is_refused(path: str) -> None:
    with pytest.raises(BundleError, match="not allowed on this node"):
        check_rootfs(Path(path), forbidden=[], allowed=[])


def test_so_is_what_a_system_directory_is_a_link_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roothome").mkdir()
    (tmp_path / "root").symlink_to("roothome")
    monkeypatch.setattr("oarlock.bundle.rootfs.SYSTEM", (tmp_path / "root",))
    for path in (tmp_path / "roothome", tmp_path):
        with pytest.raises(BundleError, match="not allowed on this node"):
            check_rootfs(path, forbidden=[], allowed=[])


def test_a_link_to_the_nodes_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "innocent").symlink_to("/etc")
    with pytest.raises(BundleError, match="not allowed on this node"):
        check_rootfs(tmp_path / "innocent", forbidden=[], allowed=[])


def test_the_operators_directories_are_refused_from_inside_and_outside(tmp_path: Path) -> None:
    state = tmp_path / "var/oarlock"
    (state / "containers").mkdir(parents=True)
    for path in (state, state / "containers", tmp_path / "var", tmp_path):
        with pytest.raises(BundleError, match="the operator's own directory"):
            check_rootfs(path, forbidden=[state], allowed=[])
        with pytest.raises(BundleError, match="the operator's own directory"):
            check_rootfs(path, forbidden=[state], allowed=[tmp_path, path])
    (tmp_path / "var/oarlock-images").mkdir()
    assert check_rootfs(tmp_path / "var/oarlock-images", forbidden=[state], allowed=[])


def test_a_list_of_allowed_places_is_all_there_is(tmp_path: Path) -> None:
    for name in ("a/tree", "b"):
        (tmp_path / name).mkdir(parents=True)
    assert check_rootfs(tmp_path / "a/tree", forbidden=[], allowed=[tmp_path / "a"])
    assert check_rootfs(tmp_path / "a", forbidden=[], allowed=[tmp_path / "a"])
    with pytest.raises(BundleError, match="outside of what this node allows"):
        check_rootfs(tmp_path / "b", forbidden=[], allowed=[tmp_path / "a"])


def test_a_system_directory_is_allowed_only_when_it_is_listed_itself() -> None:
    assert check_rootfs(Path("/etc"), forbidden=[], allowed=[Path("/etc")]) == Path("/etc")
    assert check_rootfs(Path("/"), forbidden=[], allowed=[Path("/")]) == Path("/")
    with pytest.raises(BundleError, match="not allowed on this node"):
        check_rootfs(Path("/etc"), forbidden=[], allowed=[Path("/")])
