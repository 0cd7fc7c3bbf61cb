"""
What others may see of sends: metrics, spans, lineage and asset events.

Nothing in here may fail or delay a send: what is ``harmless`` swallows its errors, and says so once in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

_complained: set[str] = set()


def harmless(report: Callable[P, R]) -> Callable[P, R | None]:
    """
    Keep what goes wrong in a report from the sends that it is about.

    :param report: only reports; nothing depends on it.
    """

    @wraps(report)
    def reported(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return report(*args, **kwargs)
        except Exception as error:
            # The words of somebody else's error may quote anything.
            with suppress(Exception):  # in a task whose supervisor has died, any log line raises
                if report.__qualname__ not in _complained:
                    _complained.add(report.__qualname__)
                    log.warning("%s failed (%s); sends are not affected.", report.__qualname__, type(error).__name__)
            return None

    return reported
