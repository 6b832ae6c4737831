"""The log of a dispatcher: one logger, ``fanout``, and fields by which a service can filter and alert.

Every record has ``fanout_event`` and ``fanout_function``; some have figures of their own, each with the
same prefix, so that no field of another library is overwritten.
"""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger("fanout")


class EventLog:
    """Logs what happens to the calls of one function."""

    def __init__(self, function: str) -> None:
        self._function = function

    def info(self, event: str, message: str, *args: object, **fields: Any) -> None:
        """Log an event that is good to know."""
        self._write(logging.INFO, event, message, args, None, fields)

    def warning(self, event: str, message: str, *args: object, **fields: Any) -> None:
        """Log an event that holds calls up, or cuts them off."""
        self._write(logging.WARNING, event, message, args, None, fields)

    def unexpected(self, message: str, error: BaseException) -> None:
        """An error that should not have been."""
        self._write(logging.ERROR, "unexpected_error", message, (), error, {})

    def _write(
        self,
        level: int,
        event: str,
        message: str,
        args: tuple[object, ...],
        error: BaseException | None,
        fields: dict[str, Any],
    ) -> None:
        if _log.isEnabledFor(level):
            extra = {f"fanout_{name}": value for name, value in fields.items()}
            extra |= {"fanout_event": event, "fanout_function": self._function}
            _log.log(level, message, *args, exc_info=error, extra=extra, stacklevel=3)
