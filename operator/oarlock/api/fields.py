"""The kinds of values that fields hold, each with its rule for the model and for the API server.

Patterns are in the CustomResourceDefinition too, so they keep to what Go's and Python's regular expressions share.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    model_validator,
)

from oarlock.api import quantity, signals
from oarlock.api.capabilities import CAPABILITIES


class Contradiction(ValueError):
    """Fields that are valid one by one and do not fit together.

    Attributes:
        path: leads from the model that found it to the field to change.
    """

    def __init__(self, path: tuple[int | str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path


class Part(BaseModel):
    """Base of every piece of a spec: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        """As the API server has it."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if value is not None}
        return given


def cel(rule: str, message: str, path: str | None = None) -> dict[str, str]:
    """A rule that the API server checks by itself, in CEL; `path` is the field at fault, below the rule's place."""
    return {"rule": rule, "message": message} | ({"fieldPath": path} if path else {})


def rules(*of_model: dict[str, str]) -> dict[str, Any]:
    """`json_schema_extra` of a model or a field with these rules."""
    return {"x-kubernetes-validations": list(of_model)}


def _fits(pattern: str, sentence: str) -> AfterValidator:
    """Refuse text that does not fit `pattern`, with a sentence for people."""
    compiled = re.compile(pattern.replace("$", r"\Z"))

    def check(value: str) -> str:
        if not compiled.match(value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _text(pattern: str, longest: int) -> Any:
    """What the server checks of such text; the model adds `_fits`."""
    return Field(max_length=longest, json_schema_extra={"pattern": pattern})


_ABSOLUTE, _NO_NUL, _PRINTABLE = r"^/[^\x00]*$", r"^[^\x00]*$", r"^[ -<>-~]+$"
_LABEL, _NODE = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_ENDS = "begin and end it with a letter or a digit"

AbsolutePath = Annotated[
    StrictStr, _text(_ABSOLUTE, 4096), _fits(_ABSOLUTE, "must be an absolute path; begin it with / and leave out NUL")
]
Word = Annotated[
    StrictStr, _text(_NO_NUL, 131071), _fits(_NO_NUL, "has a NUL character, where the kernel would cut it; take it out")
]
EnvName = Annotated[
    StrictStr,
    _text(_PRINTABLE, 1024),
    _fits(_PRINTABLE, "must be printable ASCII without '='; write a name as LOG_LEVEL"),
]
Label = Annotated[StrictStr, _text(_LABEL, 63), _fits(_LABEL, f"must be lower-case letters, digits and '-'; {_ENDS}")]
NodeName = Annotated[
    StrictStr, _text(_NODE, 253), _fits(_NODE, f"must be lower-case letters, digits, '-' and '.'; {_ENDS}")
]


def _whole(value: object) -> object:
    """JSON has one kind of number: the API server takes 30.0 for an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Last in the annotation of an integer."""
UserId = Annotated[StrictInt, Field(ge=0, le=2147483647), WHOLE]


def _amount(value: object) -> str | int:
    value = _whole(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("must be a quantity; write one as 500m, 2, 64Mi or 1G, and quote it if it has a point")
    if quantity.value_of(value) > _MOST:
        raise ValueError(_TOO_MUCH)
    return value


_TOO_MUCH, _TOO_SMALL = "is more than any machine has; write at most 1Ei", "is too small for a log; write at least 4Ki"
_MOST, _SMALLEST_LOG = quantity.value_of("1Ei"), quantity.value_of("4Ki")
_FITS = "quantity(string(self)).compareTo(quantity('1Ei')) <= 0"
_QUANTITY = {
    "x-kubernetes-int-or-string": True,
    "pattern": quantity.PATTERN,
    "minimum": 0,
    "maxLength": quantity.LONGEST,
    **rules(cel(_FITS, _TOO_MUCH)),
}
Quantity = Annotated[StrictStr | StrictInt, BeforeValidator(_amount), Field(json_schema_extra=_QUANTITY)]


def _size(value: object) -> object:
    if quantity.value_of(_amount(value)) < _SMALLEST_LOG:
        raise ValueError(_TOO_SMALL)
    return value


LogSize = Annotated[
    StrictStr | StrictInt,
    BeforeValidator(_size),
    Field(
        json_schema_extra=_QUANTITY
        | rules(
            cel(_FITS, _TOO_MUCH),
            cel("quantity(string(self)).compareTo(quantity('4Ki')) >= 0", _TOO_SMALL),
        )
    ),
]


def _rate(value: object) -> object:
    if quantity.value_of(_amount(value)) < 1:
        raise ValueError(_NO_RATE)
    return value


_NO_RATE = "lets nothing through; write at least 1, or leave it out for no limit"
Rate = Annotated[
    StrictStr | StrictInt,
    BeforeValidator(_rate),
    Field(
        json_schema_extra=_QUANTITY
        | rules(cel(_FITS, _TOO_MUCH), cel("quantity(string(self)).compareTo(quantity('1')) >= 0", _NO_RATE))
    ),
]


def _forward(value: str) -> str:
    for part in value.split(","):
        first, dash, last = part.partition("-")
        if dash and int(first) > int(last):
            raise ValueError(_BACKWARD)
    return value


_BACKWARD = "has a range that runs backwards; write the lower number first, as 0-3"
_NUMBERS = r"^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$"
_EACH_FORWARD = "self.split(',').all(part, !part.contains('-') || int(part.split('-')[0]) <= int(part.split('-')[1]))"
NumberList = Annotated[
    StrictStr,
    Field(max_length=256, json_schema_extra={"pattern": _NUMBERS, **rules(cel(_EACH_FORWARD, _BACKWARD))}),
    _fits(_NUMBERS, "must be numbers and ranges; write them as 0-3,5"),
    AfterValidator(_forward),
]


SignalName = Annotated[
    StrictStr,
    _text(signals.PATTERN, 12),
    _fits(signals.PATTERN, "must be the name of a signal; write one as SIGUSR1 or SIGRTMIN+3"),
]


def _capability(value: str) -> str:
    if value != "ALL" and value.removeprefix("CAP_") not in CAPABILITIES:
        raise ValueError(f"{value!r} is not a Linux capability; write one such as NET_ADMIN, or ALL")
    return value


Capability = Annotated[
    StrictStr,
    Field(max_length=64, json_schema_extra={"pattern": f"^(ALL|(CAP_)?({'|'.join(sorted(CAPABILITIES))}))$"}),
    AfterValidator(_capability),
]
