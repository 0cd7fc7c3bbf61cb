"""
Metrics, spans, lineage and asset events of sends.

Nothing in here may fail or delay a send: a ``harmless`` function suppresses its errors, and logs them once.
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
    Suppress the errors of a function that only reports.

    :param report: the function.
    """

    @wraps(report)
    def reported(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return report(*args, **kwargs)
        except Exception as error:
            # Only the class, because the text of a foreign error may hold a secret.
            with suppress(Exception):  # in a task whose supervisor has died, any log line raises
                if report.__qualname__ not in _complained:
                    _complained.add(report.__qualname__)
                    log.warning("%s failed (%s); sends are not affected.", report.__qualname__, type(error).__name__)
            return None

    return reported
