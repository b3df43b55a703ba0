"""How the text of an option becomes its value. Each function raises ValueError with one clear sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

Choice = TypeVar("Choice", bound=StrEnum)


class Switch(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


class TrustLevel(StrEnum):
    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


class Manager(StrEnum):
    AUTO = "auto"
    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


class CgroupVersion(StrEnum):
    AUTO = "auto"
    V1 = "v1"
    V2 = "v2"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SLICE = re.compile(r"[A-Za-z0-9_.\\:]+(-[A-Za-z0-9_.\\:]+)*\.slice")
_ADDRESS = re.compile(r"([-.\w]+|\[[0-9a-fA-F:.]+(%\w+)?\])?:(?P<port>\d{1,5})")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def boolean(given: str) -> bool:
    """`true` or `false`, and what else YAML and shells write for them."""
    word = given.lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError(f"{given!r} is neither true nor false")


def duration(given: str) -> float:
    """Seconds of `10s`, `1h30m`, `250ms` or a plain number of seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return float(given)
    if not _DURATION.fullmatch(given):
        raise ValueError(f"{given!r} is no duration; write 10s, 5m, 1h30m or 250ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(given))


def size(given: str) -> int:
    """Bytes of `10Mi`, `512Ki`, `1G` or a plain number."""
    match = _SIZE.fullmatch(given)
    if match is None:
        raise ValueError(f"{given!r} is no size; write 10Mi, 512Ki or 1G")
    return int(match[1]) * _BYTES[match[2] or ""]


def positive(given: str) -> int:
    """A whole number of at least 1."""
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"{given!r} is no whole number of at least 1")
    return int(given)


def absolute(given: str) -> Path:
    """An absolute path; `~` is the home directory."""
    path = Path(given).expanduser()
    if "\0" in given:
        raise ValueError(f"{given!r} has a NUL in it, which is no part of a path")
    if not path.is_absolute():
        raise ValueError(f"{given!r} is relative; give the whole path, as {Path.cwd() / path}")
    return path


def listed(given: str) -> Path:
    """An absolute path, one of several."""
    if "," in given:
        raise ValueError(f"{given!r} has a ',' in it; give the option once for each path")
    return absolute(given)


def state_path(given: str) -> Path:
    """An absolute path that conmon and overlayfs can work with (both take `:` for a separator)."""
    path = absolute(given)
    if ":" in given or "," in given:
        raise ValueError(f"{given!r} has a ':' or ',' in it, which conmon and overlayfs cannot handle")
    return path


def program(given: str) -> Path:
    """A program: a path, or a bare name to be found in PATH."""
    if not given:
        raise ValueError("empty; give the program's path or name")
    if "/" in given:
        return absolute(given)
    return Path(given)


def named_program(given: str) -> tuple[str, Path]:
    """NAME=PROGRAM: a runtime by the name that specs give it (RFC 1123 label, as a RuntimeClass' handler)."""
    name, found, path = given.partition("=")
    if not found:
        raise ValueError(f"{given!r} has no '='; write NAME=PATH, as kata=/usr/bin/kata-runtime")
    if not _LABEL.fullmatch(name):
        raise ValueError(
            f"{name!r} is no handler's name; use up to 63 lower-case letters, digits and '-', as in kata=PATH"
        )
    return name, program(path)


def variable(given: str) -> tuple[str, str]:
    """NAME=VALUE for the environment of conmon and the runtime, but for what would change how they are spoken to."""
    name, found, value = given.partition("=")
    if not found or not _VARIABLE.fullmatch(name) or not value.isprintable():
        raise ValueError(f"{given!r} is no variable; write NAME=VALUE, as TMPDIR=/var/tmp")
    if name == "NOTIFY_SOCKET" or name.startswith(("LISTEN_", "_OCI_")):
        raise ValueError(f"{name} would keep conmon or the runtime from answering; leave it out")
    return name, value


def node_name(given: str) -> str:
    """A node's name as Kubernetes allows it (RFC 1123 subdomain); empty = the host's."""
    if given and (len(given) > 253 or not _SUBDOMAIN.fullmatch(given)):
        raise ValueError(
            f"{given!r} is no node name; use lower-case letters, digits, '-' and '.', as in node-1.example"
        )
    return given


def cgroup(given: str) -> str:
    """A cgroup path below the root of the hierarchy, or a slice of systemd's; empty = the manager's own."""
    if not given or _SLICE.fullmatch(given):
        return given
    if not given.startswith("/") or given == "/" or ".." in given.split("/"):
        raise ValueError(
            f"{given!r} is no cgroup; write a path from the root, as /oarlock, or a slice, as oarlock.slice"
        )
    return given.rstrip("/")


def listening(given: str) -> str:
    """HOST:PORT, :PORT (every address of the host) or unix:PATH; empty = nowhere."""
    if not given:
        return given
    if given.startswith("unix:"):
        path = str(absolute(given.removeprefix("unix:")))
        if len(os.fsencode(path)) > 107:
            raise ValueError(f"{given!r} is longer than the 107 bytes that a socket's path may have")
        return f"unix:{path}"
    match = _ADDRESS.fullmatch(given)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        raise ValueError(
            f"{given!r} is no address to listen on; write 127.0.0.1:10276, [::1]:10276, "
            ":10276 (every address) or unix:/run/oarlock.health"
        )
    return given


def choice(kind: type[Choice]) -> Callable[[str], Choice]:
    """A reader that accepts the values of one enumeration."""

    def read(given: str) -> Choice:
        try:
            return kind(given.lower())
        except ValueError:
            allowed = " or ".join(each.value for each in kind)
            raise ValueError(f"{given!r} is not possible; it is one of: {allowed}") from None

    return read
