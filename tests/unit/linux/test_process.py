"""What is known of a process."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from oarlock.cli.liveness import is_alive
from oarlock.linux.process import hold
from oarlock.linux.procfs import facts, has_ended
from tests.operating import eventually

WITHOUT_ITS_FIRST_THREAD = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_is_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", WITHOUT_ITS_FIRST_THREAD]) as child:
        process = hold(child.pid)
        assert process is not None
        with contextlib.closing(process):
            try:
                eventually(lambda: (facts(child.pid) or [b""])[0] == b"Z", "its first thread has ended")
                assert (has_ended(child.pid), process.has_ended(), process.is_dying()) == (False, False, False)
                assert is_alive(child.pid, process.start)
            finally:
                child.kill()
            eventually(lambda: has_ended(child.pid) and process.has_ended() and process.is_dying(), "it is dead")
            assert not is_alive(child.pid, process.start)
