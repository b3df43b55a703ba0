"""What the runtime layer takes from the configuration."""

from __future__ import annotations

from oarlock.node.configuration import Configuration
from oarlock.runtime.command import ENVIRONMENT
from oarlock.runtime.monitor import MonitorSettings


def monitor_settings(configuration: Configuration) -> MonitorSettings:
    """What every conmon of this node is started with, for containers and for execs."""
    return MonitorSettings(
        conmon=configuration.conmon,
        runtime_root=configuration.runtime_root,
        exits=configuration.exits_dir,
        sockets=configuration.sockets_dir,
        no_pivot=configuration.no_pivot,
        journald=configuration.journald,
        runtime_timeout=configuration.runtime_timeout,
        environment=ENVIRONMENT | dict(configuration.conmon_env),
    )
