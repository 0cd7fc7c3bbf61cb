"""Named points at which a test kills the process; no-ops in production.

To test the promises about kills, a test kills the shipped code at its most critical steps. It sets the environment
variable ``SENDOSO_CRASH_POINT`` of a process to the name of a point, or to ``name:3`` to kill the process the third
time it reaches that point.
"""

from __future__ import annotations

import os
import signal
from itertools import count

_VARIABLE = "SENDOSO_CRASH_POINT"
_wanted, _, _times = os.environ.get(_VARIABLE, "").partition(":")
_passes = count(1)


def crash_point(name: str) -> None:
    """
    Kill this process with SIGKILL if a test asked for it at this point.

    :param name: the point's name.
    """
    if name == _wanted and next(_passes) == int(_times or 1):
        os.kill(os.getpid(), signal.SIGKILL)
