"""Hedges of one engine: the attempts in flight, by age, and the copies of those that are late."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from fanout.dispatcher.call import Attempt, Call
from fanout.hedging import Hedging

_LEAST_S = 0.0001  # beyond the moment at which a call becomes late


class Hedges:
    """Attempts in flight, and which of them gets a copy. ``may_run_twice`` says whether a call may."""

    def __init__(self, may_run_twice: Callable[[Call], bool]) -> None:
        self._policy = Hedging()
        self._may_run_twice = may_run_twice
        self._out: OrderedDict[int, Attempt] = OrderedDict()  # by identity, in the order of sending

    def begin(self, attempt: Attempt, worker: asyncio.Task[None]) -> None:
        """An attempt goes out, sent by ``worker``."""
        attempt.worker = worker
        self._out[id(attempt)] = attempt

    def end(self, attempt: Attempt, *, ran_s: float | None = None) -> None:
        """An attempt came to its end. ``ran_s``: how long it took, where the function ran to its own."""
        self._out.pop(id(attempt), None)
        if ran_s is not None:
            self._policy.on_finished(ran_s)

    def late(self, now_s: float) -> Attempt | None:
        """The oldest attempt that is late, and may have a copy."""
        while (attempt := self._oldest()) is not None and self._policy.is_late(attempt.sent_s, now_s):
            if not attempt.call.feed.has_input_ended:
                break
            if self._may_have_copy(attempt):
                return attempt
            self._out.popitem(last=False)  # nor may it later
        return None

    def late_at_s(self) -> float | None:
        """The moment to look for a late attempt again; None where another event comes first."""
        after_s, oldest = self._policy.late_after_s, self._oldest()
        if after_s is None or oldest is None or not oldest.call.feed.has_input_ended:
            return None
        return oldest.sent_s + after_s + _LEAST_S

    def copy(self, attempt: Attempt) -> Attempt:
        """A second attempt of the same call."""
        call = attempt.call
        copy = Attempt(call, attempt.n_bytes, is_copy=True, twin=attempt)
        attempt.twin = copy
        call.feed.copies += 1
        call.copies = 1
        call.spared += 1  # it is no retry
        return copy

    def _oldest(self) -> Attempt | None:
        return next(iter(self._out.values()), None)

    def _may_have_copy(self, attempt: Attempt) -> bool:
        """Of a late attempt whose input has ended: what is no now stays so."""
        call = attempt.call
        feed = call.feed
        return (
            not call.copies
            and not attempt.is_probe
            and not attempt.is_outage_probe
            and not feed.is_closed
            and not feed.is_abandoned
            and self._may_run_twice(call)
            and self._policy.may_copy(records=feed.records_read, copies=feed.copies)
        )


def part(attempt: Attempt) -> Attempt | None:
    """Separate an attempt from its twin, and return that."""
    twin, attempt.twin = attempt.twin, None
    if twin is not None:
        twin.twin = None
    return twin
