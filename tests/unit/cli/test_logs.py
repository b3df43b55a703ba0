"""Reading logs: plain and compressed files, parts of lines, bytes that are no text, files that are damaged."""

from __future__ import annotations

import gzip
import random
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.cli.conftest import Node

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(second: int) -> str:
    return (BEGIN + timedelta(seconds=second)).isoformat()


def entry(second: int, text: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"{at(second)} {stream} {tag} {text}\n".encode()


def numbers(first: int, count: int) -> bytes:
    """A file with the lines `first`, …, each a second after the one before."""
    return b"".join(entry(number, f"line {number}") for number in range(first, first + count))


def shown(first: int, last: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, last + 1))


@pytest.fixture
def web(node: Node) -> str:
    return node.record("web")


def test_compressed_files_are_read_in_their_place(node: Node, web: str) -> None:
    node.log(web, "1.log.9.gz", gzip.compress(numbers(0, 100)))
    node.log(web, "1.log.10.gz", gzip.compress(numbers(100, 100)))
    node.log(web, "1.log.11", numbers(200, 100))
    node.log(web, "1.log", numbers(300, 100))
    assert node.oarlock("logs", "web").stdout == shown(0, 399)
    assert node.oarlock("logs", "web", "--tail", "250").stdout == shown(150, 399)
    assert node.oarlock("logs", "web", "--tail", "1").stdout == "line 399\n"
    for second in (0, 99, 100, 250, 300, 399):
        assert node.oarlock("logs", "web", "--since", at(second)).stdout == shown(second, 399)


def test_a_file_whose_compression_was_cut_off_at_its_end_counts_once(node: Node, web: str) -> None:
    node.log(web, "1.log.1", numbers(0, 10))
    node.log(web, "1.log.1.gz", gzip.compress(numbers(0, 10)))
    node.log(web, "1.log.2.gz.new", gzip.compress(numbers(10, 10))[:50])
    node.log(web, "1.log.2", numbers(10, 10))
    node.log(web, "1.log", numbers(20, 10))
    assert node.oarlock("logs", "web").stdout == shown(0, 29)


def test_a_damaged_file_is_named_and_the_others_are_shown(node: Node, web: str) -> None:
    noise = random.Random(1).randbytes(200_000).hex()
    packed = gzip.compress(numbers(0, 2000) + entry(3000, noise))
    path = node.log(web, "1.log.1.gz", packed[: len(packed) // 2])
    node.log(web, "1.log", numbers(5000, 10))
    done = node.oarlock("logs", "web")
    assert done.stdout.startswith("line 0\nline 1\n")
    assert done.stdout.endswith(shown(5000, 5009))
    assert f"{path} is damaged" in done.stderr


def test_a_log_whose_new_file_is_not_there_yet_is_shown(node: Node, web: str) -> None:
    node.log(web, "1.log.1.gz", gzip.compress(numbers(0, 10)))
    node.log(web, "1.log.2", numbers(10, 10))
    assert node.oarlock("logs", "web").stdout == shown(0, 19)
    assert node.oarlock("logs", "web", "--tail", "15").stdout == shown(5, 19)


@pytest.mark.parametrize(
    ("named", "lines"), [(3, shown(200, 209)), (2, shown(100, 109)), (1, shown(0, 9)), (7, shown(200, 209)), (None, "")]
)
def test_previous_is_the_attempt_that_last_state_names_or_the_last_before_it_that_ran(
    node: Node, named: int | None, lines: str
) -> None:
    last = {"terminated": {"exitCode": 1, "containerID": f"oarlock://default-web-{named}"}} if named else None
    web = node.record("web", attempt=8, status={"phase": "BackOff", "lastState": last})
    for attempt in (1, 2, 3):
        node.log(web, f"{attempt}.log", numbers(100 * (attempt - 1), 10))
    done = node.oarlock("logs", "web", "-p", code=0 if named else 3)
    assert done.stdout == lines
    assert named or "default/web has no log of an earlier attempt" in done.stderr


def test_previous_shows_compressed_files_too(node: Node) -> None:
    last = {"terminated": {"exitCode": 1, "containerID": "oarlock://default-web-1"}}
    web = node.record("web", attempt=2, status={"phase": "Running", "lastState": last})
    node.log(web, "1.log.1.gz", gzip.compress(numbers(0, 10)))
    node.log(web, "1.log", numbers(10, 10))
    node.log(web, "2.log", numbers(100, 10))
    assert node.oarlock("logs", "web").stdout == shown(100, 109)
    assert node.oarlock("logs", "web", "-p").stdout == shown(0, 19)
    assert node.oarlock("logs", "web", "-p", "--tail", "12").stdout == shown(8, 19)


def read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    assert process.stdout is not None
    found = b""
    end = time.monotonic() + 20
    while not found.endswith(text):
        assert time.monotonic() < end, found
        found += process.stdout.read1(1 << 16)
    return found


def test_a_follower_keeps_its_place_while_files_are_rotated_compressed_and_removed(node: Node, web: str) -> None:
    node.log(web, "1.log.6.gz", gzip.compress(numbers(0, 10)))
    log = node.log(web, "1.log", numbers(10, 10))
    with node.operator():
        process = node.start("logs", "-f", "web")
        try:
            assert read_until(process, b"line 19\n").decode() == shown(0, 19)
            with log.open("ab") as file:  # conmon writes until it opens the new one
                log.rename(log.with_name("1.log.7"))
                file.write(entry(20, "line 20"))
            node.log(web, "1.log", numbers(21, 5))
            assert read_until(process, b"line 25\n").decode() == shown(20, 25)
            node.log(web, "1.log.7.gz", gzip.compress(numbers(10, 11)))
            log.with_name("1.log.7").unlink()
            log.with_name("1.log.6.gz").unlink()
            with log.open("ab") as file:
                file.write(entry(26, "line 26"))
            assert read_until(process, b"line 26\n") == b"line 26\n"
            with log.open("ab") as file:
                file.write(entry(27, "no ", tag="P"))
            assert read_until(process, b"no ") == b"no "
            node.record("web", attempt=2)
            node.log(web, "2.log", numbers(28, 3))
            assert read_until(process, b"line 30\n").decode() == "\n" + shown(28, 30)
        finally:
            process.kill()
            process.communicate()


def test_what_is_no_line_of_the_format_is_shown_as_it_is(node: Node, web: str) -> None:
    node.log(web, "1.log", entry(0, "good") + b"torn, or somebody else's\n" + entry(1, "") + entry(2, "last"))
    assert node.oarlock("logs", "web").stdout == "good\ntorn, or somebody else's\n\nlast\n"


def test_the_last_line_may_be_very_long(node: Node, web: str) -> None:
    part = "y" * 8192
    long = b"".join(entry(1, part, tag="P") for _ in range(6400)) + entry(1, "end")
    node.log(web, "1.log", numbers(0, 5) + long)
    done = node.oarlock("logs", "web", "--tail", "1")
    assert done.stdout == part * 6400 + "end\n"
