"""Every error oarlock raises on purpose.

OarlockError
├── ConfigurationError          the operator's own options or binaries; it cannot start
│   └── AlreadyRunning          another operator holds this run directory
├── InvalidSpec                 an object that cannot be accepted (names object, field and way out)
├── RecordError                 what is on disk cannot be used
│   └── ForeignRecord           records of another node, or of a newer format: nothing is touched
├── BundleError                 a bundle could not be made (root filesystem missing, user unknown)
├── NodeFull                    no room on a disk that the step needs
├── RuntimeFailure              conmon or the OCI runtime refused, broke or hung
│   ├── CreateFailed            `create` ended with a message
│   │   └── CommandNotRunnable  the command is missing (127) or not executable (126)
│   ├── StartFailed             `start` ended with a message
│   ├── ExecSyncError           a command could not be run in a container, or not to its end
│   │   └── ExecTimeout         it ran longer than it may and was ended
│   └── RuntimeTimeout          no answer within the deadline
├── SourceUnavailable           where desired state comes from does not answer; kept trying
└── ObjectGone                  the object is no longer in its source
"""

from __future__ import annotations


class OarlockError(Exception):
    """Base of all errors below; `str()` is one sentence for a person."""


class ConfigurationError(OarlockError):
    """The operator cannot start with these options; the message names the option and the way out."""


class AlreadyRunning(ConfigurationError):
    """Another operator holds the run directory; the message names its pid."""


class InvalidSpec(OarlockError):
    """An object that cannot be accepted.

    Attributes:
        where: the object, as `default/web` or `web.yaml:12`.
        field: the field's path, as `spec.env[1].name`.
        problem: what is wrong and what would be right.
    """

    def __init__(self, where: str, field: str, problem: str) -> None:
        super().__init__(f"{where}: {field}: {problem}")
        self.where, self.field, self.problem = where, field, problem


class RecordError(OarlockError):
    """A record on disk cannot be used; the message names the file."""


class ForeignRecord(RecordError):
    """A record of another node or of a newer format. Nothing of it is touched."""


class BundleError(OarlockError):
    """The bundle of a container could not be made; the message names the field at fault."""


class NodeFull(OarlockError):
    """A disk that this step needs has no room left; tried again later."""


class RuntimeFailure(OarlockError):
    """conmon or the OCI runtime refused, broke or hung."""


class CreateFailed(RuntimeFailure):
    """The runtime refused to create the container; nothing of it is left behind."""


class CommandNotRunnable(CreateFailed):
    """The container's command cannot be executed.

    Attributes:
        exit_code: 127 when it does not exist, 126 when it cannot be executed.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartFailed(RuntimeFailure):
    """The runtime refused to start a created container."""


class ExecSyncError(RuntimeFailure):
    """A command could not be run in a container, or not to its end (`oci.go: ExecSyncError`).

    Attributes:
        container: where, as it is called to whoever asked.
        problem: what is wrong and the way out.
        exit_code: 127 when there is no such command, 126 when it cannot be executed; None when nothing ran or when its
            end is not known.
        stdout, stderr: what it had written; `truncated`: and more than is kept.
    """

    def __init__(
        self,
        container: str,
        problem: str,
        *,
        exit_code: int | None = None,
        stdout: bytes = b"",
        stderr: bytes = b"",
        truncated: bool = False,
    ) -> None:
        super().__init__(f"{container}: {problem}")
        self.container, self.problem, self.exit_code = container, problem, exit_code
        self.stdout, self.stderr, self.truncated = stdout, stderr, truncated


class ExecTimeout(ExecSyncError):
    """The command ran longer than it may; it and its children were ended. It has no exit code."""


class RuntimeTimeout(RuntimeFailure):
    """conmon or the OCI runtime gave no answer within its deadline and was killed."""


class SourceUnavailable(OarlockError):
    """The source of desired state does not answer. Containers go on; it is tried again."""


class ObjectGone(OarlockError):
    """The object named is no longer in its source."""
