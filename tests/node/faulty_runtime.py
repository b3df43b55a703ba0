#!/usr/bin/python3 -SE
"""An OCI runtime that fails, hangs or lies where a test says so, and else is the real one.

It lies in a folder of its own with `real` (the path of the real runtime), `calls` (its log: a line a call with verb,
name of the object and fault) and a file `VERB.NAME` for each fault: its kind, and a text where that needs one.

    fail, hang, die     instead of doing it
    …-after             once it is done
    lie                 says that it is done, and prints the text
    pidfile             does it, then writes the text into the pid file
"""

import json
import os
import signal
import subprocess
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
VERBS = ("create", "start", "state", "kill", "pause", "resume", "delete", "exec")


def main() -> int:
    """Do what the real one does, or the fault of this call."""
    arguments = sys.argv[1:]
    verb = next((each for each in arguments if each in VERBS), "")
    name = name_of(arguments)
    kind, _, text = fault(verb, name).partition(" ")
    with open(f"{FOLDER}/calls", "a") as log:
        log.write(f"{verb} {name} {kind or '-'}\n")
    real = [read("real"), *arguments]
    if not kind:
        os.execv(real[0], real)
    what, _, after = kind.partition("-")
    if after or what == "pidfile":
        subprocess.run(real, check=True, close_fds=False)
    return done(what, text, verb, arguments)


def done(what: str, text: str, verb: str, arguments: list[str]) -> int:
    """The fault itself; the exit code."""
    if what == "fail":
        sys.stderr.write(f'time="2026-01-01T00:00:00Z" level=error msg="{verb} is out of order"\n')
        return 1
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        subprocess.run([sys.executable, os.path.abspath(__file__), "hung"])
    if what == "pidfile":
        with open(arguments[arguments.index("--pid-file") + 1], "w") as file:
            file.write(text)
        return 0
    print(text)
    return 0


def fault(verb: str, name: str) -> str:
    """What is wrong with this call; empty when nothing is."""
    return read(f"{verb}.{name}") if verb else ""


def name_of(arguments: list[str]) -> str:
    """The name of the object, which is its host name in the bundle; kept, since the bundle goes first."""
    container = arguments[-1]
    if "--bundle" in arguments:
        with (
            open(f"{arguments[arguments.index('--bundle') + 1]}/config.json") as config,
            open(f"{FOLDER}/{container}", "w") as kept,
        ):
            kept.write(json.load(config)["hostname"])
    return read(container) or "-"


def read(name: str) -> str:
    """The text of a file beside this one; empty when there is none."""
    try:
        with open(f"{FOLDER}/{name}") as file:
            return file.read()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    if sys.argv[1:] == ["hung"]:
        time.sleep(1000)
    sys.exit(main())
