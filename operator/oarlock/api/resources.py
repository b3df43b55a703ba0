"""`spec.resources`: what a container may use; core/v1's names where core/v1 has the amount."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import ConfigDict, Field, StrictInt, model_validator

from oarlock.api import quantity
from oarlock.api.fields import WHOLE, AbsolutePath, Contradiction, NumberList, Part, Quantity, Rate, cel, rules

Operations = Annotated[StrictInt, Field(ge=1, le=4294967295), WHOLE]


class ResourceList(Part):
    """Amounts of what the node has."""

    cpu: Quantity | None = Field(
        None,
        description="CPU, in cores (2, '0.5') or thousandths of one (500m). "
        "As a limit it throttles; as a request it is a share when CPUs are scarce.",
    )
    memory: Quantity | None = Field(
        None,
        description="Memory in bytes, usually with a suffix (64Mi, 1Gi). As a limit it is enforced: the kernel's OOM "
        "killer takes a process that needs more, and status.oomKilled says so.",
    )


_NO_MEMORY = "swap is counted on top of memory; give limits.memory too, or drop swap"


class Limits(ResourceList):
    """The most of what the node has."""

    model_config = ConfigDict(
        serialize_by_alias=True,
        json_schema_extra=rules(cel("!has(self.swap) || has(self.memory)", _NO_MEMORY, ".swap")),
    )

    swap: Quantity | None = Field(
        None, description="Swap in bytes, beyond memory, which has to be limited too. None when absent."
    )
    hugepages_2Mi: Quantity | None = Field(
        None,
        alias="hugepages-2Mi",
        description="Huge pages of 2Mi, in bytes, rounded down to whole pages; 0 is none of them.",
    )
    hugepages_1Gi: Quantity | None = Field(
        None,
        alias="hugepages-1Gi",
        description="Huge pages of 1Gi, in bytes, rounded down to whole pages; 0 is none of them.",
    )
    pids: Annotated[StrictInt, Field(ge=1, le=4194304), WHOLE] | None = Field(
        None, description="Processes and threads at one time; 4096 when absent."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Limits:
        if self.swap is not None and self.memory is None:
            raise Contradiction(("swap",), _NO_MEMORY)
        return self


class CPUSet(Part):
    """Where the container's processes run, and where their memory lies."""

    cpus: NumberList | None = Field(
        None, description="The CPUs they may run on, as '0-3,5'; every CPU of the node when absent."
    )
    mems: NumberList | None = Field(
        None, description="The memory nodes (NUMA) that they may use, as '0'; every one when absent."
    )


_NO_RATE = "limits nothing; give readBps, writeBps, readIops or writeIops, or drop the device"
_RATES = ("readBps", "writeBps", "readIops", "writeIops")


class Device(Part):
    """The most that the container may read from and write to one disk."""

    model_config = ConfigDict(
        json_schema_extra=rules(cel(" || ".join(f"has(self.{name})" for name in _RATES), _NO_RATE, ".path"))
    )

    path: AbsolutePath = Field(description="A disk of the node, as /dev/sda or /dev/disk/by-id/x; no partition.")
    readBps: Rate | None = Field(None, description="Bytes read in a second, as 10Mi.")
    writeBps: Rate | None = Field(None, description="Bytes written in a second, as 10Mi.")
    readIops: Operations | None = Field(None, description="Reads in a second.")
    writeIops: Operations | None = Field(None, description="Writes in a second.")

    @model_validator(mode="after")
    def _consistent(self) -> Device:
        if all(getattr(self, name) is None for name in _RATES):
            raise Contradiction(("path",), _NO_RATE)
        return self


class IO(Part):
    """How the container reads from and writes to disks."""

    weight: Annotated[StrictInt, Field(ge=10, le=1000), WHOLE] | None = Field(
        None,
        description="Its share when others want the same disk, the kernel's own being 100. The kernel follows it where "
        "a disk has the scheduler bfq (or, on cgroup v2, io.cost).",
    )
    devices: Annotated[list[Device], Field(max_length=64, json_schema_extra={"x-key": "path"})] = Field(
        [], description="Limits by disk, each disk once."
    )

    @model_validator(mode="after")
    def _consistent(self) -> IO:
        seen: set[str] = set()
        for index, device in enumerate(self.devices):
            if device.path in seen:
                problem = f"is {device.path!r} a second time; keep one of them"
                raise Contradiction(("devices", index, "path"), problem)
            seen.add(device.path)
        return self


def _within(name: str) -> dict[str, str]:
    """The server's rule that the request of `name` is within its limit."""
    given = " && ".join(f"has(self.{kind}) && has(self.{kind}.{name})" for kind in ("requests", "limits"))
    request, limit = (f"quantity(string(self.{kind}.{name}))" for kind in ("requests", "limits"))
    message = f"is more than limits.{name}; lower it or raise the limit"
    return cel(f"!({given}) || {request}.compareTo({limit}) <= 0", message, f".requests.{name}")


class Resources(Part):
    """What the container may use, and what it is weighed by."""

    model_config = ConfigDict(json_schema_extra=rules(_within("cpu"), _within("memory")))

    limits: Limits = Field(
        Limits(), description="The most the container may use. What is absent is not limited, unless it says so."
    )
    requests: ResourceList = Field(
        ResourceList(),
        description="What the container is weighed by when others want the same; the limit when absent. "
        "It must not be more than the limit.",
    )
    cpuset: CPUSet = Field(CPUSet(), description="The CPUs and memory nodes that it is held to.")
    io: IO = Field(IO(), description="How it shares the node's disks.")

    @model_validator(mode="after")
    def _consistent(self) -> Resources:
        for name in ("cpu", "memory"):
            request, limit = getattr(self.requests, name), getattr(self.limits, name)
            if None not in (request, limit) and quantity.value_of(request) > quantity.value_of(limit):
                problem = f"{request} is more than limits.{name} {limit}; lower it or raise the limit"
                raise Contradiction(("requests", name), problem)
        return self


def numbers(ranges: str) -> Iterator[int]:
    """The numbers of a list as `0-3,5`."""
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
