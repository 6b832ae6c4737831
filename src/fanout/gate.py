"""The gate: permits under a limit, and payload bytes under a bound.

Synchronous, and never waits: the dispatcher asks again after each finished call and at ``next_change_s``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from heapq import heappop, heappush

from fanout.errors import ConfigError
from fanout.limit import Limit
from fanout.model import ThrottleKind


class Release(enum.Enum):
    """The way a permit is released, which says something about the limit."""

    SUCCESS = "success"
    IGNORED = "ignored"
    DROPPED = "dropped"


class Gate:
    """Permits: one for each call in flight, and for each lost call that may still run.

    The gate alone tells the limit what became of calls; nobody calls ``limit.on_successes`` or
    ``limit.on_throttle`` beside it. A limit lowered below the permits in use takes none back: nothing
    is admitted until enough have been released. ``now_s``: seconds of one monotonic clock.
    """

    __slots__ = ("_bytes", "_ceiling", "_expiries", "_limit", "_max_bytes", "_peak", "_used")

    def __init__(self, limit: Limit, *, max_bytes_in_flight: int) -> None:
        if max_bytes_in_flight < 1:
            raise ConfigError(
                f"max_bytes_in_flight is {max_bytes_in_flight!r}: give a whole number of bytes from 1"
            )
        self._limit = limit
        self._max_bytes = max_bytes_in_flight
        self._used = 0
        self._bytes = 0
        self._ceiling = 0  # what the limit said last
        self._peak = 0
        self._expiries: list[float] = []  # a heap: when each lingering permit ends

    @property
    def limit(self) -> Limit:
        """The limit that this gate enforces."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """Calls that have not ended for the client."""
        return self._used - len(self._expiries)

    @property
    def lingering(self) -> int:
        """Permits of lost calls, until one is asked for; ``lingering_at`` knows those that have ended."""
        return len(self._expiries)

    def lingering_at(self, now_s: float) -> tuple[int, float | None]:
        """The permits that still linger, and the moment at which the last of them ends. From any thread."""
        ends_s = [end_s for end_s in list(self._expiries) if end_s > now_s]
        return len(ends_s), max(ends_s, default=None)

    @property
    def bytes_in_flight(self) -> int:
        """Payload bytes of the calls in flight."""
        return self._bytes

    @property
    def peak(self) -> int:
        """The highest number of permits in use at once so far, lingering ones included."""
        return self._peak

    def has_room(self, now_s: float) -> bool:
        """True if one more call may start. Asking while the limit alone forbids it lets the limit grow."""
        if self._expiries and self._expiries[0] <= now_s:
            self._expire(now_s)
        if self._bytes >= self._max_bytes:
            return False
        used = self._used
        limit = self._limit
        self._ceiling = ceiling = limit.ceiling(now_s)
        if used < ceiling:
            return True
        if not limit.on_full(used, now_s):
            return False
        self._ceiling = ceiling = limit.ceiling(now_s)
        return used < ceiling

    def room(self, now_s: float) -> int:
        """Calls that may start now, at the most; 0 where ``has_room`` has to be asked.

        The last of them may take the payload bytes beyond their bound, as one call alone may.
        """
        if self._bytes >= self._max_bytes or (self._expiries and self._expiries[0] <= now_s):
            return 0
        self._ceiling = ceiling = self._limit.ceiling(now_s)
        return max(0, ceiling - self._used)

    @property
    def bytes_left(self) -> int:
        """Payload bytes below their bound; 0 or less when no call may start."""
        return self._max_bytes - self._bytes

    def release_successes(self, sent_at_s: Sequence[float], n_bytes: int, now_s: float) -> None:
        """Give the permits of calls that ran back, and all their bytes."""
        used = self._used
        self._used = used - len(sent_at_s)
        self._bytes -= n_bytes
        self._limit.on_successes(sent_at_s, now_s, used)

    def acquire(self, now_s: float, count: int = 1) -> None:
        """Take permits, after ``has_room`` said yes or ``room`` spoke of so many, for the same ``now_s``."""
        self._used = used = self._used + count
        if used > self._peak:
            self._peak = used
        limit = self._limit
        if used > limit.peak or now_s >= limit.peak_until_s:
            limit.on_peak(used, now_s)

    def add_bytes(self, n: int) -> bool:
        """Count payloads, once their size is known. One payload may exceed the bound by itself.

        Whether there may be more room, by what the limit said when these permits were asked for.
        """
        self._bytes += n
        return self._used < self._ceiling

    def release(
        self,
        how: Release,
        n_bytes: int,
        sent_at_s: float,
        now_s: float,
        kind: ThrottleKind = ThrottleKind.CONCURRENCY,
        retry_after_s: float | None = None,
    ) -> None:
        """Give a permit and its bytes back; the limit learns from it. ``kind`` matters for DROPPED only."""
        self._used = used = self._used - 1
        self._bytes -= n_bytes
        if how is Release.SUCCESS:
            self._limit.on_successes((sent_at_s,), now_s, used + 1)
        elif how is Release.DROPPED:
            self._limit.on_throttle(kind, sent_at_s, now_s, retry_after_s, used)

    def linger(self, until_s: float, n_bytes: int, now_s: float) -> None:
        """Free the bytes of a lost call now and its permit at ``until_s``."""
        self._bytes -= n_bytes
        if until_s <= now_s:
            self._used -= 1
        else:
            heappush(self._expiries, until_s)

    def next_change_s(self, now_s: float) -> float | None:
        """The moment at which ``has_room`` may turn true with no call finishing; None if it is, or never."""
        ceiling = self._limit.ceiling(now_s)
        if self._bytes >= self._max_bytes or self._used < ceiling:
            return None
        # A level stands still while more is in use than it says: only a pause (0) ends by itself then.
        growth_s = self._limit.next_growth_s(now_s) if ceiling in (0, self._used) else None
        if not self._expiries:
            return growth_s
        return self._expiries[0] if growth_s is None else min(growth_s, self._expiries[0])

    def _expire(self, now_s: float) -> None:
        while self._expiries and self._expiries[0] <= now_s:
            heappop(self._expiries)
            self._used -= 1
