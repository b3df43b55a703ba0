"""`python -m tests.guest [SCRIPT]`: run a line of bash in the guest, in a copy of the clone."""

import os
import signal
import sys

from tests.guest.machine import Guest

signal.signal(signal.SIGTERM, signal.default_int_handler)
guest = Guest(f"command-{os.getpid()}", " ".join(sys.argv[1:]) or "systemctl --no-pager status")
try:
    for line in guest.lines(deadline=7200):
        print(line, flush=True)
except AssertionError as error:
    sys.exit(str(error))
finally:
    guest.close()
