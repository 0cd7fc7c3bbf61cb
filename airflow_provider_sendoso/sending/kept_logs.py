"""Keeps the log records of a thread that posts until the outcome of its POST is committed.

In a task whose supervisor has died every log call raises. Between the commit of POSTING and the commit of the outcome
such an exception would lose the outcome of a POST, whether this package, urllib3 or a database driver logs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class _Keeper(logging.Filter):
    """A filter of every logger, which keeps the records of the threads that ask for it."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, or let it pass."""
        records: list[logging.LogRecord] | None = getattr(self.thread, "records", None)
        if records is None:
            return True
        records.append(record)
        return False


_keeper = _Keeper()


def prepare() -> None:
    """Add the filter to all loggers that exist now; a logger that is made later does not have it."""
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.addFilter(_keeper)  # does nothing the second time


@contextmanager
def kept() -> Iterator[list[logging.LogRecord]]:
    """
    Keep the records that this thread logs within the block; if it raises, they are logged.

    :return: the records, to be given to :func:`emit` later, by whichever thread.
    """
    records: list[logging.LogRecord] = []
    _keeper.thread.records = records
    try:
        yield records
    except BaseException:
        _keeper.thread.records = None
        emit(records)
        raise
    finally:
        _keeper.thread.records = None


def emit(records: Iterable[logging.LogRecord]) -> None:
    """
    Log records that were kept.

    :param records: in their order.
    """
    for record in records:
        logging.getLogger(record.name).handle(record)
