"""Patience with a server of files: how often, and for how long, a request that failed is made again."""

from __future__ import annotations

import math

PATIENCE_S = 30.0  # from the first failure on; a try that is under way then is the last
UNREACHED_S = 5.0  # with a server that no request has reached: the address may be wrong
WAITS_S = (0.1, 0.3, 1.0, 3.0, 6.0, 10.0, 10.0)
MAX_ASKED_S = 30.0


class Patience:
    """The waits between the tries of one request, until one succeeds.

    A silence counts from its beginning; a wait that the server asks for does not count. Seconds of any
    one monotonic clock. Never reads it.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._until_s: float | None = None

    def wait_s(
        self, now_s: float, *, silent_s: float = 0.0, asked_s: float = 0.0, patience_s: float | None = None
    ) -> float | None:
        """The wait before the next try, after one has failed; None: give up.

        ``silent_s`` is how long the try that failed had waited for a byte.
        """
        if self._until_s is None:
            self._until_s = now_s - silent_s + PATIENCE_S
        until_s = self._until_s if patience_s is None else self._until_s - PATIENCE_S + patience_s
        if self._failures >= len(WAITS_S) or (now_s >= until_s and not asked_s):
            return None
        wait_s = min(WAITS_S[self._failures], max(0.0, until_s - now_s))
        self._failures += 1
        if asked_s > wait_s:
            self._until_s += asked_s - wait_s
            return asked_s
        return wait_s


def asked_wait_s(retry_after: str | None) -> float | None:
    """Seconds; None where the server asks for none. A date counts as not given: clocks differ."""
    try:
        seconds = float(retry_after) if retry_after else math.nan
    except ValueError:
        return None
    return min(seconds, MAX_ASKED_S) if seconds >= 0 else None
