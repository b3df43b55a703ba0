"""`python -m tests.guest [SCRIPT]`: run a line of bash in the guest, in the copy of the clone."""

import sys

from tests.guest.machine import Guest

script = " ".join(sys.argv[1:]) or "systemctl --no-pager status"
for line in Guest("command", script).lines(deadline=3600):
    print(line, end="", flush=True)
