"""What Dask and the libraries under it log: kept from the terminal, and passed to the log of fanout.

Dask's loggers have handlers of their own that write to stderr, tracebacks too; and so does an event loop
with an exception that nobody asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("fanout")
_ROOTS = ("distributed", "tornado", "bokeh")


class _Passed(logging.Handler):
    """Passes a record on, with its traceback, for whoever has the log shown."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.info("%s: %s", record.name, record.getMessage(), exc_info=record.exc_info)


def pass_on_logs() -> Callable[[], None]:
    """Let Dask's loggers write to fanout's instead of stderr. Returns what undoes it.

    Handlers that somebody else has added, such as one for a file, stay.
    """
    before: list[tuple[logging.Logger, list[logging.Handler], bool]] = []
    passed = _Passed()
    for logger in _loggers():
        before.append((logger, list(logger.handlers), logger.propagate))
        kept = [each for each in logger.handlers if type(each) is not logging.StreamHandler]
        logger.handlers = [*kept, passed]
        logger.propagate = False

    def undo() -> None:
        for logger, handlers, propagates in before:
            logger.handlers, logger.propagate = handlers, propagates

    return undo


def pass_on_exceptions(loop: asyncio.AbstractEventLoop) -> None:
    """Let an event loop of Dask's tell fanout's log what nobody awaited."""
    loop.set_exception_handler(_pass_on_exception)


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict
    with_handlers = [
        logger
        for name, logger in known.items()
        if name.partition(".")[0] in _ROOTS and isinstance(logger, logging.Logger) and logger.handlers
    ]
    return list(
        {logger.name: logger for logger in [*map(logging.getLogger, _ROOTS), *with_handlers]}.values()
    )


def _pass_on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    _log.info("%s", context.get("message"), exc_info=context.get("exception"))
