"""What the runtimes log and say, read."""

from __future__ import annotations

from pathlib import Path

from oarlock.runtime.command import logged_error

WARNING = '{"level":"warning","msg":"skipping device /dev/char/10:200 for systemd","time":"2026-01-01T00:00:00Z"}\n'
ERROR = '{"level":"error","msg":"exec: \\"no\\\\u0000such\\": not found in $PATH","time":"2026-01-01T00:00:00Z"}\n'


def test_the_last_error_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "runtime.log"
    assert logged_error(log) is None
    for text, told in (
        ("", None),
        (WARNING, None),
        (WARNING + ERROR + WARNING, 'exec: "no\\u0000such": not found in $PATH'),
        (ERROR + '{"level":"fatal","msg":"the last"}\n', "the last"),
        (ERROR + '{"level":"error","msg":" "}\n{"level":"err', 'exec: "no\\u0000such": not found in $PATH'),
        ('plain text\n[]\n7\n{"level":[]}\n{"msg":"x"}\n\xff\n', None),
    ):
        log.write_text(text)
        assert logged_error(log) == told, text
