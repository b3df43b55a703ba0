"""`oarlock version`."""

from __future__ import annotations

import platform
import sys

from oarlock import __version__
from oarlock.cli import output


def version(form: str | None) -> int:
    """Print the version, or the versions of what matters as a document."""
    if form is None:
        print(f"oarlock {__version__}")
    else:
        known = {"version": __version__, "api": "oarlock.dev/v1alpha1", "python": platform.python_version()}
        sys.stdout.write(output.render(known, form))
    return 0
