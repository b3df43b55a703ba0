"""The two clocks: one that orders (back-off, grace), one that people read."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def boot_seconds() -> float:
    """Seconds since boot, sleep included; untouched by whoever sets the wall clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> datetime:
    """The wall clock, for display only. The one place that reads it."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """As Kubernetes writes times: whole seconds, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
