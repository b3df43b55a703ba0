"""A command in a running container: as the operator runs one, and as a whole command line.

oarlock, `conmon -e` by hand and `runc exec` take turns; each runs `true` to its end, in a sleeper of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time

from benchmarks.setting import Setting, command
from benchmarks.table import Figure
from oarlock.runtime.execprocess import ExecProcess
from oarlock.runtime.execution import exec_sync
from tests.entering import container_of, settings_of

_NAME = "entered"
_COMMAND = ("true",)
_DEADLINE = 30.0


def measure(setting: Setting, rounds: int) -> list[Figure]:
    """ExecSync beside both of its floors, and `oarlock exec`; a first round of each is not counted."""
    setting.create_at_once([setting.sleeper(_NAME)])
    made = setting.floor.make(setting.sleeper("floor"))
    engine, whole, by_conmon, by_runtime = [], [], [], []
    asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())  # as the operator has it
    try:
        setting.floor.run(made)
        spec = setting.floor.process(made, *_COMMAND)
        with asyncio.Runner() as runner:
            for _ in range(rounds + 1):
                by_conmon.append(setting.floor.exec_by_conmon(made, spec))
                engine.append(runner.run(_exec(setting)))
                by_runtime.append(setting.floor.exec_by_runtime(made, spec))
                whole.append(_command(setting))
    finally:
        setting.floor.remove(made)
        setting.delete([_NAME])
    told = [[1000 * sample for sample in samples[1:]] for samples in (engine, by_conmon, by_runtime, whole)]
    return [
        Figure("exec in a container, beside conmon -e", told[0], "ms", told[1], 1.5),
        Figure("exec in a container, beside runc exec", told[0], "ms", told[2]),
        Figure("oarlock exec, beside runc exec", told[3], "ms", told[2]),
    ]


async def _exec(setting: Setting) -> float:
    """ExecSync; the seconds that took."""
    dirs = setting.operator.dirs
    container, call = container_of(dirs, setting.operator.records()[_NAME]), ExecProcess(args=_COMMAND)
    began = time.monotonic()
    result = await exec_sync(settings_of(dirs), container, call, _DEADLINE)
    took = time.monotonic() - began
    assert result.exit_code == 0, result
    return took


def _command(setting: Setting) -> float:
    """`oarlock exec`, from its start to its end; the seconds that took."""
    began = time.monotonic()
    subprocess.run(
        [command(), "exec", _NAME, "--", *_COMMAND],
        env={"PATH": os.environ["PATH"], **setting.places()},
        stdin=subprocess.DEVNULL,
        timeout=_DEADLINE,
        check=True,
    )
    return time.monotonic() - began
