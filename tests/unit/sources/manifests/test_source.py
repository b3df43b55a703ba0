"""The life of a manifest directory: real files, real inotify, a sink that listens."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from pathlib import Path
from statistics import median

import pytest

from oarlock.linux.inotify import Event, Mask
from oarlock.sources.manifests.source import ManifestSource
from tests.unit.sources.manifests.desk import NODE, Desk, manifest

MORE = "  terminationGracePeriodSeconds: 5\n"
BROKEN = "kind: ContainerSpec\n  metadata: [\n"


# What is there, comes, changes and goes.


async def test_what_is_there_at_the_start_is_applied_and_then_listed(desk: Desk) -> None:
    desk.write("b.yml", manifest("b"), manifest("c"))
    desk.write("a.json", json.dumps({"apiVersion": "oarlock.dev/v1alpha1", "kind": "ContainerSpec"} | _body("a")))
    async with desk.running() as told:
        assert told.calls == ["applied a 1", "applied b 1", "applied c 1", "listed 3"]
        assert {key.name for key in told.alive} == {"a", "b", "c"}
        b = told.objects["b"]
        assert (b.key.namespace, b.spec.nodeName, b.finalizer) == ("default", NODE, True)
        assert b.origin == f"{desk.directory}/b.yml:1"
        assert told.objects["c"].origin == f"{desk.directory}/b.yml:10"
        assert b.created.endswith("Z")


async def test_a_file_that_comes_changes_and_goes_does_so_for_its_objects(desk: Desk) -> None:
    async with desk.running() as told:
        desk.write("web.yaml", manifest("web"))
        await desk.said("applied web 1")
        created = told.objects["web"].created
        desk.write("web.yaml", manifest("web", command="sleep, inf"))
        await desk.said("applied web 2")
        assert told.objects["web"].spec.command == ["sleep", "inf"]
        assert told.objects["web"].created == created
        (desk.directory / "web.yaml").unlink()
        await desk.said("gone web")


async def test_a_document_removed_from_a_file_removes_its_object_alone(desk: Desk) -> None:
    desk.write("all.yaml", manifest("a"), manifest("b"))
    async with desk.running():
        await desk.said("listed 2")
        desk.write("all.yaml", manifest("b"))
        await desk.said("gone a")
        await desk.marked([])


async def test_what_did_not_change_is_not_told_again(desk: Desk) -> None:
    desk.write("all.yaml", manifest("a"), manifest("b"))
    async with desk.running():
        await desk.said("listed 2")
        os.utime(desk.directory / "all.yaml")
        desk.write("all.yaml", "# only a comment more\n" + manifest("a"), manifest("b"))
        desk.write("all.yaml", manifest("a"), manifest("b", extra=MORE))
        await desk.marked(["applied b 2"])


async def test_new_labels_are_told_without_a_new_generation(desk: Desk) -> None:
    desk.write("a.yaml", manifest("a"))
    async with desk.running() as told:
        await desk.said("listed 1")
        desk.write("a.yaml", manifest("a").replace("name: a", "name: a, labels: {x: y}"))
        await desk.said("applied a 1")
        assert told.objects["a"].labels == {"x": "y"}


async def test_two_writes_within_a_tick_of_the_file_systems_clock_are_both_seen(desk: Desk) -> None:
    path = desk.directory / "a.yaml"
    async with desk.running() as told:
        for number in range(1, 200):
            path.write_text(manifest("a", command=f"echo, '{number:04}'"))
            if number % 40 == 0:
                await desk.until(
                    lambda n=f"{number:04}": "a" in told.objects and told.objects["a"].spec.command[1] == n
                )  # type: ignore[misc]


async def test_a_file_is_not_read_before_its_writer_closes_it(desk: Desk) -> None:
    half, rest = manifest("a")[:60], manifest("a")[60:]
    with open(desk.directory / "a.yaml", "w") as file:
        file.write(half)
        file.flush()
        async with desk.running() as told:
            with open(desk.directory / "b.yaml", "w") as other:
                other.write(half)
                other.flush()
                await desk.marked([*told.calls])
                other.write(rest.replace("name: a", "name: b"))
            file.write(rest)
            file.close()
            await desk.until(lambda: {"a", "b"} <= told.objects.keys())
            assert json.loads(desk.problems_file.read_text() if desk.problems_file.exists() else "[]") == []


async def test_a_known_object_goes_on_while_its_file_is_being_written_at_the_start(desk: Desk) -> None:
    key = desk.record("a", "a.yaml")
    with open(desk.directory / "a.yaml", "w"):  # truncated, and open
        async with desk.running() as told:
            assert told.calls == ["listed 1"]
            assert set(told.alive) == {key}


async def test_only_yaml_and_json_names_are_read(desk: Desk) -> None:
    async with desk.running():
        for name in (
            *("web", "web.yaml~", "#web.yaml#", ".#web.yaml", ".web.yaml.swp", ".web.yaml", "web.yaml.tmp"),
            *("web.txt", "4913", "~web.yaml", "web.YAML", "yaml", ".yaml"),
        ):
            desk.write(name, manifest("web"))
        (desk.directory / "folder.yaml").mkdir()
        (desk.directory / "folder.yaml" / "web.yaml").write_text(manifest("web"))
        await desk.marked(["listed 0"])
        assert not desk.problems_file.exists() or desk.problems() == []


async def test_a_rename_reaches_the_sink_within_milliseconds(desk: Desk) -> None:
    async with desk.running() as told:
        delays = []
        for number in range(50):
            beside = desk.directory.parent / "beside"
            beside.write_text(manifest(f"web{number}"))
            began = time.perf_counter()
            beside.rename(desk.directory / f"web{number}.yaml")
            await desk.until(lambda name=f"web{number}": name in told.objects)  # type: ignore[misc]
            delays.append(told.times[-1] - began)
        assert median(delays) < 0.005


# Moving and replacing.


async def test_a_renamed_file_neither_stops_nor_starts_anything(desk: Desk) -> None:
    desk.write("a.yaml", manifest("web"))
    async with desk.running() as told:
        await desk.said("listed 1")
        (desk.directory / "a.yaml").rename(desk.directory / "b.yaml")
        await desk.marked(["applied web 1"])
        assert told.objects["web"].origin == f"{desk.directory}/b.yaml:1"


@pytest.mark.parametrize("new", ["a.yaml", "z.yaml"])
async def test_a_document_moved_to_another_file_goes_on(desk: Desk, new: str) -> None:
    desk.write("m.yaml", manifest("web"))
    async with desk.running() as told:
        await desk.said("listed 1")
        desk.write(new, manifest("web"))
        (desk.directory / "m.yaml").unlink()
        await desk.marked(["applied web 1"])
        assert told.objects["web"].origin == f"{desk.directory}/{new}:1"


async def test_an_editor_that_writes_a_new_file_in_place_of_the_old_stops_nothing(desk: Desk) -> None:
    desk.write("web.yaml", manifest("web"))
    path = desk.directory / "web.yaml"
    async with desk.running():
        await desk.said("listed 1")
        path.rename(path.with_name("web.yaml~"))  # what vim does
        path.write_text(manifest("web", extra=MORE))
        path.with_name("web.yaml~").unlink()
        await desk.said("applied web 2")
        path.unlink()  # what git does
        path.write_text(manifest("web"))
        await desk.marked(["applied web 3"])


async def test_the_second_of_two_documents_with_one_name_is_reported_with_both_places(desk: Desk) -> None:
    desk.write("a.yaml", manifest("web"))
    desk.write("b.yaml", manifest("other"), manifest("web", command="ls"))
    async with desk.running() as told:
        assert told.objects["web"].spec.command == ["echo"]
        assert desk.problems() == [
            "b.yaml:13: metadata.name: default/web is already in a.yaml:1, which counts; rename or remove one of them"
        ]
        desk.write("b.yaml", manifest("other"), manifest("web", command="ls", namespace="elsewhere"))
        await desk.until(lambda: told.calls.count("applied web 1") == 2)
        await desk.marked([*told.calls])
        assert desk.problems() == []


# What is broken removes nothing.


@pytest.mark.parametrize(
    "broken",
    [
        BROKEN,
        "\0",
        manifest("web").replace("command", "comand"),
        manifest("web").replace("name: web", "nam: web"),
        manifest("web").replace("kind: ContainerSpec", "kind: Container"),
        manifest("web").replace("kind: ContainerSpec\n", ""),
        "just words",
    ],
)
async def test_the_last_good_version_of_a_broken_file_goes_on(desk: Desk, broken: str) -> None:
    desk.write("web.yaml", manifest("web"))
    async with desk.running() as told:
        await desk.said("listed 1")
        desk.write("web.yaml", broken)
        await desk.said("refused web 1")
        assert told.problems["web"].startswith("web.yaml")
        assert desk.problems() != []
        desk.write("web.yaml", manifest("web"))
        await desk.marked(["applied web 1"])
        assert desk.problems() == []


async def test_a_broken_document_leaves_the_others_of_its_file_alone(desk: Desk) -> None:
    desk.write("all.yaml", manifest("a"), manifest("b"), manifest("c"))
    async with desk.running():
        await desk.said("listed 3")
        bad = manifest("b").replace("command", "comand")
        desk.write("all.yaml", manifest("a", extra=MORE), bad, manifest("c"))
        await desk.marked(["applied a 2", "refused b 1"])


async def test_an_object_that_was_never_valid_is_refused_and_starts_once_it_is(desk: Desk) -> None:
    desk.write("web.yaml", manifest("web").replace("rootfs", "rootsf"))
    async with desk.running():
        await desk.said("refused web 0")
        desk.write("web.yaml", manifest("web"))
        await desk.said("applied web 1")


async def test_after_a_restart_objects_of_broken_files_are_still_alive(desk: Desk) -> None:
    broken, invalid, removed = (
        desk.record("broken", "broken.yaml", 4),
        desk.record("invalid", "invalid.yaml", 5),
        desk.record("removed", "removed.yaml"),
    )
    desk.write("broken.yaml", BROKEN)
    desk.write("invalid.yaml", manifest("invalid").replace("command", "comand"))
    async with desk.running() as told:
        assert told.calls == ["refused broken 4", "refused invalid 5", "gone removed", "listed 2"]
        assert set(told.alive) == {broken, invalid}
        assert removed not in told.alive


async def test_an_object_taken_out_of_a_file_while_that_was_broken_is_gone_when_it_is_mended(desk: Desk) -> None:
    desk.write("all.yaml", manifest("a"), manifest("b"))
    async with desk.running():
        await desk.said("listed 2")
        desk.write("all.yaml", BROKEN)
        await desk.said("refused b 1")
        desk.write("all.yaml", manifest("b"))
        await desk.marked(["gone a", "applied b 1"])


async def test_generations_go_on_across_restarts(desk: Desk) -> None:
    desk.record("same", "all.yaml", 7)
    desk.record("changed", "all.yaml", 7)
    desk.write("all.yaml", manifest("same"), manifest("changed", command="ls"))
    async with desk.running() as told:
        assert told.calls == ["applied changed 8", "applied same 7", "listed 2"]
        assert told.objects["same"].created == "2026-01-01T00:00:00Z"


async def test_an_object_whose_deletion_was_under_way_is_not_held_back(desk: Desk) -> None:
    key = desk.record("web", "web.yaml")
    desk.records[key].deleted = True
    desk.write("web.yaml", BROKEN)
    async with desk.running() as told:
        assert told.calls == ["listed 0"]


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "dangling"])
async def test_nothing_but_files_is_opened(desk: Desk, kind: str) -> None:
    desk.write("web.yaml", manifest("web"))
    path = desk.directory / "web.yaml"
    async with desk.running() as told:
        await desk.said("listed 1")
        beside = desk.directory.parent / "special"
        match kind:
            case "fifo":
                os.mkfifo(beside)
            case "device":
                beside.symlink_to("/dev/zero")
            case "socket":
                os.mknod(beside, 0o140600)
            case "dangling":
                beside.symlink_to("nowhere")
        os.rename(beside, path)
        await desk.said("refused web 1")
        assert len(desk.problems()) == 1
        assert desk.problems()[0].startswith("web.yaml: : ")
        assert told.objects.keys() == {"web"}


async def test_problems_are_logged_once_and_written_only_when_they_change(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.write("bad.yaml", BROKEN)
    async with desk.running():
        first = desk.problems_file.stat()
        assert first.st_mode & 0o777 == 0o600
        desk.write("good.yaml", manifest("good"))
        os.utime(desk.directory / "bad.yaml")
        await desk.said("applied good 1")
        await desk.marked([])
        assert desk.problems_file.stat().st_ino == first.st_ino
        assert len([record for record in caplog.records if "bad.yaml" in record.getMessage()]) == 1
    caplog.clear()
    async with desk.running():
        assert desk.problems_file.stat().st_ino == first.st_ino


# The directory as a whole.


async def test_a_directory_that_does_not_exist_is_waited_for(desk: Desk) -> None:
    desk.directory.rmdir()
    desk.directory = desk.directory / "deep" / "manifests"
    async with desk.running() as told:
        assert told.calls == ["listed 0"]
        desk.directory.mkdir(parents=True)
        desk.write("../web", manifest("web"))
        (desk.directory / "../web").rename(desk.directory / "web.yaml")
        await desk.said("applied web 1")


async def test_a_directory_that_goes_stops_nothing_and_is_reported(desk: Desk) -> None:
    desk.write("a.yaml", manifest("a"))
    desk.write("b.yaml", manifest("b"))
    async with desk.running() as told:
        await desk.said("listed 2")
        shutil.rmtree(desk.directory)
        await asyncio.to_thread(_wait_for_file, desk.problems_file, str(desk.directory))
        desk.directory.mkdir()
        desk.write("b.yaml", manifest("b"))
        await desk.said("gone a")
        assert told.objects.keys() == {"b"}
        assert told.calls == []


async def test_a_directory_that_is_away_at_the_start_stops_nothing(desk: Desk) -> None:
    key, other = desk.record("web", "web.yaml"), desk.record("other", "other.yaml")
    desk.directory.rmdir()
    async with desk.running() as told:
        assert told.calls == ["listed 2"]
        assert set(told.alive) == {key, other}
        assert len(desk.problems()) == 1
        desk.directory.mkdir()
        desk.write("web.yaml", manifest("web"))
        await desk.said("gone other")
        assert told.objects.keys() == {"web"}


async def test_a_directory_moved_away_is_waited_for(desk: Desk) -> None:
    desk.write("a.yaml", manifest("a"))
    away = desk.directory.with_name("away")
    async with desk.running():
        await desk.said("listed 1")
        desk.directory.rename(away)
        (away / "b.yaml").write_text(manifest("b"))
        (away / "a.yaml").unlink()
        desk.directory.mkdir()
        desk.write("a.yaml", manifest("a"))
        desk.write("c.yaml", manifest("c"))
        await desk.marked(["applied c 1"])


async def test_a_directory_that_is_a_link_is_followed_to_its_next_target(desk: Desk) -> None:
    desk.write("a.yaml", manifest("a"))
    releases = desk.directory.parent / "releases"
    desk.directory.rename(releases)
    (desk.directory.parent / "next").mkdir()
    (desk.directory.parent / "next" / "a.yaml").write_text(manifest("a", extra=MORE))
    desk.directory.symlink_to(releases)
    async with desk.running():
        await desk.said("listed 1")
        link = desk.directory.with_name("link")
        link.symlink_to("next")
        link.rename(desk.directory)
        await desk.marked(["applied a 2"])


async def test_a_mounted_configmap_is_followed_through_its_data_link(desk: Desk) -> None:
    folder = desk.directory
    for version, more in (("..v1", ""), ("..v2", MORE)):
        (folder / version).mkdir()
        (folder / version / "web.yaml").write_text(manifest("web", extra=more))
    (folder / "..data").symlink_to("..v1")
    (folder / "web.yaml").symlink_to("..data/web.yaml")
    async with desk.running():
        await desk.said("listed 1")
        (folder / "..data_tmp").symlink_to("..v2")
        (folder / "..data_tmp").rename(folder / "..data")
        shutil.rmtree(folder / "..v1")
        await desk.said("applied web 2")
        (folder / "web.yaml").unlink()
        await desk.said("gone web")


async def test_a_file_behind_a_link_is_followed(desk: Desk) -> None:
    target = desk.directory.parent / "target"
    target.write_text(manifest("web"))
    async with desk.running():
        (desk.directory / "web.yaml").symlink_to(target)
        await desk.said("applied web 1")
        target.write_text(manifest("web", extra=MORE))
        await desk.said("applied web 2")
        target.unlink()
        await desk.said("refused web 2")
        target.write_text(manifest("web"))
        await desk.said("applied web 3")


async def test_after_lost_events_everything_is_looked_at(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("a.yaml", manifest("a"))
    desk.write("b.yaml", manifest("b"))
    source = ManifestSource(desk.directory, NODE, desk.told, desk.problems_file, known=dict)
    heard = source._happened
    put = heard.put_nowait
    monkeypatch.setattr(heard, "put_nowait", lambda batch: put(batch) if isinstance(batch, str) else None)
    task = asyncio.create_task(source.run())
    await desk.said("listed 2")
    desk.write("a.yaml", manifest("a", extra=MORE))
    desk.write("c.yaml", manifest("c"))
    (desk.directory / "b.yaml").unlink()
    put([Event(-1, Mask.Q_OVERFLOW, 0, "")])
    await desk.said("gone b")
    assert desk.told.objects["a"].generation == 2
    assert desk.told.objects.keys() == {"a", "c"}
    task.cancel()


async def test_three_hundred_files_at_once_all_arrive_and_all_go(desk: Desk) -> None:
    async with desk.running() as told:
        for number in range(300):
            desk.write(f"{number}.yaml", manifest(f"web{number}"))
        await desk.until(lambda: len(told.objects) == 300)
        for number in range(300):
            (desk.directory / f"{number}.yaml").unlink()
        await desk.until(lambda: not told.objects)
        assert len(told.calls) == 601


async def test_a_name_that_cannot_be_printed_is_shown_escaped(desk: Desk) -> None:
    name = os.fsdecode(b"\xff\n.yaml")
    desk.write(name, BROKEN)
    async with desk.running():
        assert desk.problems()[0].startswith(r"\udcff\n.yaml:2: ")
        os.unlink(desk.directory / name)
        await desk.marked(["listed 0"])
        assert desk.problems() == []


def _body(name: str) -> dict[str, object]:
    return {
        "metadata": {"name": name},
        "spec": {"rootfs": {"path": "/srv/rootfs"}, "command": ["echo"]},
    }


def _wait_for_file(path: Path, text: str) -> None:
    """Wait up to 5 s until the file is replaced by one with this text."""
    from oarlock.linux.inotify import Inotify

    with Inotify() as inotify:
        inotify.add(path.parent, Mask.MOVED_TO)
        deadline = time.monotonic() + 5
        while not (path.exists() and text in path.read_text()):
            assert time.monotonic() < deadline
            inotify.wait(deadline - time.monotonic())
