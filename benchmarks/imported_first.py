"""oarlock with its imports done before anything else, and the moment of their end told on stderr."""

from __future__ import annotations

import sys
import time

import oarlock.cli.app
import oarlock.node.operator
import oarlock.sources.kubernetes.source  # noqa: F401
from oarlock.cli import main

if __name__ == "__main__":
    print(f"imported at {time.time():.6f}", file=sys.stderr, flush=True)
    sys.exit(main())
