"""The two streams of an exec, out of the one that conmon writes (oci.go: parseLog)."""

from __future__ import annotations

from oarlock.runtime.execution import Output

TIME = b"2026-11-25T15:48:03.103187382+00:00"


def collected(*blocks: bytes, limit: int = 1000, log_limit: int = 10_000) -> Output:
    output = Output(limit, log_limit)
    for block in (*blocks, b""):
        output.feed(block)
    return output


def line(stream: bytes, tag: bytes, text: bytes) -> bytes:
    return b" ".join((TIME, stream, tag, text)) + b"\n"


def test_streams_are_apart_and_parts_are_joined() -> None:
    log = (
        line(b"stdout", b"P", b"a" * 10)
        + line(b"stderr", b"F", b"no")
        + line(b"stdout", b"F", b"b")
        + line(b"stdout", b"P", b"end")
    )
    output = collected(log)
    assert (bytes(output.stdout), bytes(output.stderr), output.truncated) == (b"aaaaaaaaaab\nend", b"no\n", False)


def test_any_cut_between_blocks_gives_the_same() -> None:
    log = line(b"stdout", b"F", b"") + line(b"stderr", b"F", b" P x") + line(b"stdout", b"F", b"\xff\r")
    for cut in range(len(log) + 1):
        output = collected(*filter(None, (log[:cut], log[cut:])))
        assert (bytes(output.stdout), bytes(output.stderr)) == (b"\n\xff\r\n", b" P x\n")


def test_both_streams_together_are_cut_off() -> None:
    log = line(b"stdout", b"P", b"a" * 6) + line(b"stderr", b"P", b"b" * 6) + line(b"stdout", b"P", b"c")
    output = collected(log, limit=10)
    assert (bytes(output.stdout), bytes(output.stderr), output.truncated) == (b"a" * 6, b"b" * 4, True)
    assert not collected(log, limit=13).truncated


def test_what_conmon_left_out_is_said() -> None:
    log = line(b"stdout", b"F", b"y") * 10
    assert collected(log, log_limit=len(log)).truncated
    assert not collected(log, log_limit=len(log) + 1).truncated
