"""The flags of the commands, made from the operator's one table of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from oarlock.node.configuration import Configuration, option, options
from oarlock.node.option import Given, Option

NODE = ("state_dir", "run_dir")
"""Options of every command that reads the node."""
API = ("kubernetes", "kubeconfig", "in_cluster")
"""Options of the commands that may have to change an object of the API."""
PROGRAMS = ("conmon", "runtime_trusted", "runtime_untrusted", "runtimes")
"""Options of the command that asks the programs alone."""

CONFIG_HELP = "Configuration file (default: /etc/oarlock/config.yaml if there is one)."


def _parameter(each: Option) -> inspect.Parameter:
    """One flag; its text is read by the table, so that flag, variable and file accept the same."""
    text = f"{each.help} [{each.variable}{_default(each)}]"
    if each.boolean:
        flags = each.flag if each.flag.startswith("--no-") else f"{each.flag}/--no-{each.flag[2:]}"
        kind: Any = Annotated[bool | None, typer.Option(flags, help=text, show_default=False)]
    elif each.several:
        info = typer.Option(each.flag, help=text, metavar=each.metavar, show_default=False)
        kind = Annotated[list[str] | None, info]
    else:
        info = typer.Option(each.flag, help=text, metavar=each.metavar, show_default=False)
        kind = Annotated[str | None, info]
    return inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _default(each: Option) -> str:
    if each.default in (None, "", ()):
        return ""
    return f"; default {default_text(each)}"


def default_text(each: Option) -> str:
    """The default as a person would write it: `10s`, `10Mi`, `false`."""
    if each.metavar == "DURATION":
        seconds = float(each.default)
        return f"{seconds / 60:g}m" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g}s"
    if each.metavar == "SIZE":
        return f"{each.default >> 20}Mi"
    if isinstance(each.default, bool):
        return str(each.default).lower()
    return str(each.default)


def configured(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags of these options (none named: of all) and `--config`.

    The command gets a `Configuration` as `configuration` in place of the flags.
    """
    chosen = [option(name) for name in names] if names else list(options())

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(**given: Any) -> Any:
            configuration = load(given.pop("config"), {each.name: given.pop(each.name) for each in chosen})
            return command(configuration=configuration, **given)

        own = inspect.signature(command, eval_str=True).parameters.values()
        kept = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own if each.name != "configuration"]
        config = inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None, typer.Option("--config", help=CONFIG_HELP, metavar="FILE", show_default=False)
            ],
        )
        parameters = [*kept, config, *map(_parameter, chosen)]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
        return wrapper

    return decorate


def load(config: str | None, flags: Mapping[str, Given | None]) -> Configuration:
    """The configuration of a command line. An option given several times and not at all is an empty list."""
    given = {name: value for name, value in flags.items() if value not in (None, [])}
    return Configuration.load(cast(Mapping[str, Given], given), file=Path(config) if config else None)


def complete_names(context: typer.Context, incomplete: str) -> Sequence[str]:
    """Names of containers that begin with what was typed, for the shell."""
    from oarlock.cli.records import read_shelf
    from oarlock.errors import OarlockError
    from oarlock.node.presence import Operator

    given = context.params
    try:
        configuration = load(given.get("config"), {name: given.get(name) for name in NODE})
        shelf = read_shelf(configuration, Operator(running=True))
    except (OarlockError, OSError):
        return []
    return sorted({each.name for each in shelf.select(given.get("namespace")) if each.name.startswith(incomplete)})
