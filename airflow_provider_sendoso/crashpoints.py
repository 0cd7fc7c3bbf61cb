"""Named points at which a test kills the process; no-ops in production.

A promise about kills can only be tested by killing the shipped code where it hurts most. A test sets
``SENDOSO_CRASH_POINT`` to a name in the environment of the process that is to die there.
"""

from __future__ import annotations

import os
import signal

_VARIABLE = "SENDOSO_CRASH_POINT"
_wanted = os.environ.get(_VARIABLE)


def crash_point(name: str) -> None:
    """
    Kill this process with SIGKILL if a test asked for it at this point.

    :param name: of the point.
    """
    if _wanted is not None and name == _wanted:
        os.kill(os.getpid(), signal.SIGKILL)
