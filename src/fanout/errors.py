"""The exceptions that fanout raises: one root, and nothing foreign passes the edge.

A record's failure is never an exception: it is an outcome. These are for what stops a whole run or
a whole call. Every message is one line: the thing, what is wrong with it, what to do.
"""

from __future__ import annotations

import errno


class FanoutError(Exception):
    """Root of everything fanout raises on purpose."""


class ConfigError(FanoutError, ValueError):
    """A setting is invalid. The message names the field, its value and what is allowed."""


class SourceError(FanoutError):
    """The input cannot be read, or failed halfway; records read before that keep their outcomes."""


class EndsEarly(SourceError):
    """What is stored is itself cut short: reading it again comes no further.

    ``may_grow``: it is a file, which may still be on its way there.
    """

    def __init__(self, message: str, *, may_grow: bool = False) -> None:
        super().__init__(message)
        self.may_grow = may_grow


class JournalError(FanoutError):
    """The run directory cannot be used or written: held by another process, full, or not a run."""


class FatalRefusal(FanoutError):
    """Lambda refuses every record alike: no such function, access denied, bad credentials."""

    def __init__(self, message: str, *, code: str = "", http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status


class RecordsFailed(FanoutError):
    """A run did not end well: ``report.raise_for_failures()``. ``report`` is the run's."""

    def __init__(self, message: str, report: object) -> None:
        super().__init__(message)
        self.report = report


class OutageError(FanoutError):
    """Nothing answered for longer than the patience with it; what was not delivered did not run."""


class WorkersLost(FanoutError):
    """No worker of a run is left."""


class TransportError(FanoutError):
    """A call ended without an HTTP reply. Subclasses say whether the function may have run."""


class ConnectFailed(TransportError):
    """No connection: the request was certainly not sent, so the function did not run.

    ``is_host_unknown``: the endpoint's name has no address, as with a Region that does not exist.
    """

    is_host_unknown = False


class RequestNotSent(TransportError):
    """The request could not be made or signed (credentials, endpoint): the function did not run."""


class ReplyLost(TransportError):
    """The request was sent, wholly or in part, and no whole reply came: the function may have run."""


class EmulatorError(FanoutError):
    """The local emulator could not start: a handler that does not import, a port that is taken."""


def is_short_of_memory(error: BaseException | None) -> bool:
    """True if an error, or its cause, says that the process may have no more memory or threads.

    Python itself says MemoryError; the loader, OpenSSL and the system have words of their own.
    """
    while error is not None:
        if isinstance(error, BaseExceptionGroup) and any(map(is_short_of_memory, error.exceptions)):
            return True
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if any(words in str(error) for words in _SHORTAGES):
            return True
        error = error.__cause__ or error.__context__
    return False


_SHORTAGES = ("can't start new thread", "failed to map segment", "cannot allocate memory", "NO_CIPHERS")
