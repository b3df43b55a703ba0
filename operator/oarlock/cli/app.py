"""The commands, their flags and their help; each body imports what it needs when it runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from oarlock.cli.exitcodes import ReaderGone
from oarlock.cli.options import API, NODE, PROGRAMS, complete_names, configured
from oarlock.node.configuration import Configuration


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="oarlock holds containers to one node: it runs them through conmon and an OCI runtime, as manifests "
    "or ContainerSpec objects of Kubernetes ask.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 operator not running, 5 timed out.",
)


class Form(StrEnum):
    JSON = "json"
    YAML = "yaml"


class ListForm(StrEnum):
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Only this namespace (default: all).", metavar="NAMESPACE"),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="NAME or NAMESPACE/NAME.", autocompletion=complete_names)]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="NAME or NAMESPACE/NAME.", autocompletion=complete_names),
]
Output = Annotated[Form | None, typer.Option("--output", "-o", help="Print json or yaml.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is so.")]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="DURATION", help="Wait at most so long (default: the grace period and 30s more)."
    ),
]
ShortTimeout = Annotated[
    str | None, typer.Option("--timeout", metavar="DURATION", help="Wait at most so long (default: 30s).")
]


@app.callback()
def root(context: typer.Context, namespace: Namespace = None) -> None:
    # `-n` may stand before the command, as with kubectl.
    context.ensure_object(dict)["namespace"] = namespace


@app.command()
@configured()
def run(configuration: Configuration) -> int:
    """Run the operator of this node.

    Needs no flag. Each option may come as a flag, as the environment variable in brackets, or
    from the configuration file under the flag's name in camelCase (stateDir: /srv/oarlock);
    the flag wins, then the variable.

    \b
    Examples:
      oarlock run
      oarlock run --manifests /srv/containers --node-name edge-1
      oarlock run --kubeconfig /etc/kubernetes/oarlock.conf
    """
    from oarlock.node.operator import run

    return run(configuration.checked())


@app.command()
@configured(*NODE, "manifests")
def ps(
    context: typer.Context,
    configuration: Configuration,
    namespace: Namespace = None,
    output: Annotated[
        ListForm | None, typer.Option("--output", "-o", help="Print a wide table, json, yaml, or names.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with each change until Ctrl-C.")] = False,
) -> int:
    """List the containers of this node. Works with the operator down, and says so.

    \b
    Examples:
      oarlock ps
      oarlock ps -n monitoring -o wide
      oarlock ps -o json | jq '.items[].status.pid'
      oarlock ps -w
    """
    from oarlock.cli.ps import ps

    return ps(configuration, _namespace(context, namespace), output, watch)


@app.command()
@configured(*NODE)
def inspect(
    context: typer.Context,
    name: Name,
    configuration: Configuration,
    namespace: Namespace = None,
    output: Output = None,
) -> int:
    """Show everything that is known of one container.

    \b
    Examples:
      oarlock inspect web
      oarlock inspect default/web -o yaml
    """
    from oarlock.cli.inspection import inspect

    return inspect(configuration, _namespace(context, namespace), name, output)


@app.command()
@configured(*NODE)
def logs(
    context: typer.Context,
    name: Name,
    configuration: Configuration,
    namespace: Namespace = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written, also by later attempts.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=-1, help="Only the last N lines (-1: all).")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only lines since then: 10m, or 2026-01-31T12:00:00Z."),
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin each line with its time.")] = False,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="The attempt that lastState names.")] = False,
) -> int:
    """Print what a container wrote: its stdout to stdout, its stderr to stderr.

    All files that rotation kept are shown, the oldest first.

    \b
    Examples:
      oarlock logs web
      oarlock logs -f --tail 20 web
      oarlock logs --since 10m --timestamps web
    """
    from oarlock.cli.logs import Choice, logs

    choice = Choice(follow=follow, tail=tail, since=since, timestamps=timestamps, previous=previous)
    return logs(configuration, _namespace(context, namespace), name, choice)


@app.command("exec")
@configured(*NODE, "conmon", "conmon_env", "runtime_timeout")
def execute(
    context: typer.Context,
    name: Name,
    configuration: Configuration,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARG]...", help="What to run, after two dashes.")],
    namespace: Namespace = None,
    interactive: Annotated[bool, typer.Option("--stdin", "-i", help="Pass the standard input on.")] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give the command a terminal.")] = False,
    user: Annotated[
        str | None,
        typer.Option("--user", "-u", metavar="USER[:GROUP]", help="Run as another user: names or numbers."),
    ] = None,
    workdir: Annotated[
        str | None, typer.Option("--workdir", "-w", metavar="DIR", help="Begin in this directory of the container.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable; without a value, the caller's own."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DURATION", help="End the command after so long; print its output then."),
    ] = None,
) -> int:
    """Run a command in a running container, and end as it ends. Works with the operator down.

    \b
    Examples:
      oarlock exec web -- ls /tmp
      oarlock exec -it web -- sh
      oarlock exec --timeout 5s -u app web -- /bin/check
    """
    from oarlock.cli.execution import Call, execute

    seconds = _seconds(timeout)
    if seconds == 0:
        raise typer.BadParameter("--timeout: 0 is no time for a command; give it some, as 5s")
    call = Call(tuple(command), interactive, tty, user, workdir, tuple(env or ()), seconds)
    return execute(configuration, _namespace(context, namespace), name, call)


@app.command()
@configured(*NODE)
def attach(
    context: typer.Context,
    name: Name,
    configuration: Configuration,
    namespace: Namespace = None,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", help="Only show the output, also where the container takes an input.")
    ] = False,
    detach_keys: Annotated[
        str, typer.Option("--detach-keys", metavar="KEYS", help="Keys that end this and leave the container; '': none.")
    ] = "ctrl-p,ctrl-q",
) -> int:
    """Be at the input and output of a running container, until it ends. Works with the operator down.

    \b
    Examples:
      oarlock attach shell
      oarlock attach --no-stdin web
    """
    from oarlock.cli.attachment import attach

    return attach(configuration, _namespace(context, namespace), name, not no_stdin, detach_keys)


@app.command()
@configured(*NODE, *API)
def stop(
    context: typer.Context,
    names: Names,
    configuration: Configuration,
    namespace: Namespace = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Stop containers and keep them stopped.

    An object of the API gets spec.state: Stopped. A manifest's container stays stopped until
    `oarlock start`, or until its document changes.

    \b
    Examples:
      oarlock stop web
      oarlock stop web worker --no-wait
    """
    return _act(context, configuration, namespace, names, "stop", wait, timeout)


@app.command()
@configured(*NODE, *API)
def start(
    context: typer.Context,
    names: Names,
    configuration: Configuration,
    namespace: Namespace = None,
    wait: Wait = True,
    timeout: ShortTimeout = None,
) -> int:
    """Start containers that were stopped, or have ended and are not started again by themselves.

    \b
    Examples:
      oarlock start web
      oarlock start web --timeout 10s
    """
    return _act(context, configuration, namespace, names, "start", wait, timeout)


@app.command()
@configured(*NODE, *API)
def restart(
    context: typer.Context,
    names: Names,
    configuration: Configuration,
    namespace: Namespace = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Replace containers by fresh ones of the same spec; the old ones get their grace period.

    \b
    Examples:
      oarlock restart web
    """
    return _act(context, configuration, namespace, names, "restart", wait, timeout)


@app.command()
@configured(*NODE, *API)
def pause(
    context: typer.Context,
    names: Names,
    configuration: Configuration,
    namespace: Namespace = None,
    wait: Wait = True,
    timeout: ShortTimeout = None,
) -> int:
    """Freeze every process of containers; their memory is kept.

    An object of the API gets spec.state: Paused. A manifest's container stays paused until
    `oarlock unpause` or `oarlock start`, or until its document changes.

    \b
    Examples:
      oarlock pause web
    """
    return _act(context, configuration, namespace, names, "pause", wait, timeout)


@app.command()
@configured(*NODE, *API)
def unpause(
    context: typer.Context,
    names: Names,
    configuration: Configuration,
    namespace: Namespace = None,
    wait: Wait = True,
    timeout: ShortTimeout = None,
) -> int:
    """Let paused containers go on.

    \b
    Examples:
      oarlock unpause web
    """
    return _act(context, configuration, namespace, names, "unpause", wait, timeout)


@app.command()
@configured(*NODE, *API)
def delete(
    context: typer.Context,
    names: Names,
    configuration: Configuration,
    namespace: Namespace = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Delete ContainerSpec objects from the API and wait until their containers are gone.

    A manifest's container is deleted by removing its document; the command names the file.

    \b
    Examples:
      oarlock delete web
    """
    return _act(context, configuration, namespace, names, "delete", wait, timeout)


@app.command()
def crd() -> int:
    """Print the CustomResourceDefinition of ContainerSpec.

    \b
    Examples:
      oarlock crd | kubectl apply -f -
    """
    from oarlock.api.crd import render

    typer.echo(render(), nl=False)
    return 0


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Manifests, or directories of them; - is stdin.")
    ],
    node_name: Annotated[
        str | None,
        typer.Option("--node-name", metavar="NAME", help="Also demand that they are for this node."),
    ] = None,
) -> int:
    """Check manifests and name every problem with its file, line and field.

    \b
    Examples:
      oarlock validate web.yaml
      helm template . | oarlock validate -
    """
    from oarlock.cli.validate import validate

    return validate(files, node_name)


@app.command()
@configured()
def doctor(configuration: Configuration, output: Output = None) -> int:
    """Check whether this node can run containers, and say what is missing and what helps.

    Takes the options of `run`, so that it checks what the operator would use.

    \b
    Examples:
      oarlock doctor
      oarlock doctor -o json | jq .conditions
    """
    from oarlock.cli.doctor import doctor

    return doctor(configuration, output)


@app.command()
@configured(*PROGRAMS)
def version(configuration: Configuration, output: Output = None) -> int:
    """Print the versions of oarlock, of conmon and of each configured runtime.

    \b
    Examples:
      oarlock version
      oarlock version -o json
    """
    from oarlock.cli.version import version

    return version(configuration, output)


def _namespace(context: typer.Context, given: str | None) -> str | None:
    return given or (context.obj or {}).get("namespace")


def _act(
    context: typer.Context,
    configuration: Configuration,
    namespace: str | None,
    names: list[str],
    verb: str,
    wait: bool,
    timeout: str | None,
) -> int:
    from oarlock.cli.verbs import Waiting, act

    seconds = _seconds(timeout)
    return act(configuration, _namespace(context, namespace), names, verb, Waiting(wait, seconds))


def _seconds(timeout: str | None) -> float | None:
    from oarlock.node.values import duration

    try:
        return None if timeout is None else duration(timeout)
    except ValueError as error:
        raise typer.BadParameter(f"--timeout: {error}") from None
