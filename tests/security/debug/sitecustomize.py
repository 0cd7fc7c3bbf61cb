"""Lets every logger of the process say all that it can, whatever configures it, into the file ``DEBUG_LOG``."""

import logging
import os

_file = open(os.environ["DEBUG_LOG"], "a", encoding="utf-8")  # noqa: SIM115  (till the process ends)
_call_handlers = logging.Logger.callHandlers


def _note(self: logging.Logger, record: logging.LogRecord) -> None:
    _file.write(f"{record.levelname} {record.name} {record.getMessage()} {record.exc_info or ''}\n")
    _file.flush()
    if record.levelno >= logging.INFO:
        _call_handlers(self, record)


logging.Logger.callHandlers = _note  # type: ignore[method-assign]
logging.Logger.isEnabledFor = lambda self, level: True  # type: ignore[method-assign]
