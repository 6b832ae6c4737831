"""The end of an attempt that raised instead of returning a reply."""

from __future__ import annotations

from fanout.classify import classify_failure
from fanout.dispatcher.events import EventLog
from fanout.errors import FatalRefusal, TransportError
from fanout.model import Classification, ErrorDetail, Verdict


def classify_error(error: Exception, log: EventLog) -> Classification:
    """Its class: a failure that the transport names, missing credentials, or an unexpected error."""
    if isinstance(error, TransportError):
        return classify_failure(error)
    if isinstance(error, FatalRefusal):
        detail = ErrorDetail(error.code or "NoCredentials", str(error))
        return Classification(Verdict.FATAL, error=detail)
    log.unexpected("a call ended in an unexpected error", error)
    detail = ErrorDetail(type(error).__name__, f"an unexpected error: {error}"[:1000])
    return Classification(Verdict.AMBIGUOUS, error=detail)
