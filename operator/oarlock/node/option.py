"""One option of the operator: what its flag, variable, key, help and value are made from.

Loaded by `oarlock ps` too, so it imports no pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from oarlock.errors import ConfigurationError
from oarlock.node import values

Given = str | bool | Sequence[str]
"""An option as it was given: text, a flag's boolean, or the texts of one that may be given several times."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option as its readers need it: `read` turns text into the value or raises ValueError."""

    name: str
    default: Any
    help: str
    group: str
    metavar: str
    read: Callable[[str], Any]
    several: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "OARLOCK_" + self.name.upper()

    @property
    def key(self) -> str:
        """The name in the configuration file, as Kubernetes' own files spell it."""
        first, *rest = self.name.split("_")
        return first + "".join(word.capitalize() for word in rest)

    @property
    def boolean(self) -> bool:
        return self.read is values.boolean

    def value(self, given: Given, where: str) -> Any:
        """The value of what was given as text (or already as a flag's boolean, or a list)."""
        try:
            if isinstance(given, bool):
                return given
            if not self.several:
                return self.read(str(given).strip())
            parts = given.split(",") if isinstance(given, str) else given
            return tuple(self.read(part.strip()) for part in parts if part.strip())
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from None


def declared(
    default: Any, help: str, read: Callable[[str], Any], group: str, metavar: str, several: bool = False
) -> Any:
    """A dataclass's field that is an option; `Option` says what each part is."""
    metadata = {"help": help, "read": read, "group": group, "metavar": metavar, "several": several}
    return field(default=default, metadata=metadata)
