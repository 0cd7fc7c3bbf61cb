"""Named points at which a test kills the process; no-ops in production.

A promise about kills can only be tested by killing the shipped code where it hurts most. A test sets
``SENDOSO_CRASH_POINT`` to a name in the environment of the process that is to die there, or to ``name:3`` for the
third time it comes there.
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

    :param name: of the point.
    """
    if name == _wanted and next(_passes) == int(_times or 1):
        os.kill(os.getpid(), signal.SIGKILL)
