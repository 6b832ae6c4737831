"""Retry-After: the wait that a busy server asks for, within bounds."""

from __future__ import annotations

import math

MAX_WAIT_S = 30.0


def wait_of(retry_after: str | None) -> float | None:
    """Seconds; None where the server asks for none. A date counts as not given: clocks differ."""
    try:
        seconds = float(retry_after) if retry_after else math.nan
    except ValueError:
        return None
    return min(seconds, MAX_WAIT_S) if seconds >= 0 else None


def wait_of_error(error: Exception) -> float:
    """The wait in an answer of S3, as botocore raises it; 0 where there is none."""
    reply = getattr(error, "response", None)
    metadata = reply.get("ResponseMetadata", {}) if isinstance(reply, dict) else {}
    return wait_of(metadata.get("HTTPHeaders", {}).get("retry-after")) or 0.0
