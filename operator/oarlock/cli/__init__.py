"""The `oarlock` command. `main` is its entry point; everything else is imported when it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from oarlock.cli import exitcodes
from oarlock.errors import AlreadyRunning, ConfigurationError, OarlockError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (`oarlock.cli.exitcodes`). Errors are one line on stderr."""
    _open_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return exitcodes.INTERRUPTED
    except (BrokenPipeError, exitcodes.ReaderGone):
        # Whoever read our output has gone (`| head`); nothing is left to be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exitcodes.BROKEN_PIPE
    except exitcodes.Failure as failure:
        return _say(str(failure), failure.code)
    except AlreadyRunning as error:
        return _say(str(error), exitcodes.FAILED)
    except ConfigurationError as error:
        return _say(str(error), exitcodes.USAGE)
    except OarlockError as error:
        return _say(str(error), exitcodes.FAILED)
    except PermissionError as error:
        return _say(f"{error.filename or 'the node'}: permission denied; run it as root", exitcodes.FAILED)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return _say(f"{where}{error.strerror or error}", exitcodes.FAILED)


def _open_streams() -> None:
    """Nothing else may get the number of a stream that the caller has closed."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115 (it stays open)


def _run(arguments: Sequence[str] | None) -> int:
    import typer
    import typer.main

    from oarlock.cli.app import app

    command = typer.main.get_command(app)
    try:
        code = command.main(
            args=None if arguments is None else list(arguments), prog_name="oarlock", standalone_mode=False
        )
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)
            return exitcodes.USAGE
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context is not None else ""
        return _say(f"{' '.join(error.format_message().split())}{hint}", exitcodes.USAGE)
    except typer.Abort:
        return exitcodes.INTERRUPTED
    return code if isinstance(code, int) else exitcodes.OK


def _say(message: str, code: int) -> int:
    from oarlock.cli import output

    output.note(message)
    return code
