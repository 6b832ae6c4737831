"""The pacer: tokens of a rate budget, which slows at rate throttles.

The budget holds over any stretch of time; unused time is not saved up beyond 30 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fanout.errors import ConfigError
from fanout.leaky_bucket import AsyncLimiter

_SLICE_S = 0.005  # tokens are taken by this much time's worth
_SLACK_S = 0.025  # a waiter woken late by up to this much loses nothing
_LONGEST_SLICE_S = 0.1  # of slow rates, so that a new rate holds soon
_KEEP = 0.7
_RECOVERY_S = 5.0  # from a cut back to the budget
_LEAST_CUT_GAP_S = 0.1
_SLOWEST_PER_S = 1.0
_FIRST_PER_S = 10.0  # throttled before a rate was given or measured
_DEEPEST = 0.1  # of the rate: the pace that passed counts from here on
_NEAR = 4.0
_WINDOW_S = 1.0


class Pacer:
    """A token for each call, at no more than the rate.

    aiolimiter's leaky bucket measures time, not calls: it leaks one second a second, a call costs
    ``1 / rate_now`` seconds, and a change of rate changes only what the next call costs. One task,
    ``run``, waits on it, however many calls wait for tokens. ``now_s`` is the event loop's time.
    """

    def __init__(self, rate_per_s: float | None) -> None:
        self._budget: float | None = None
        self._rate: float | None = None
        self.set_rate(rate_per_s)
        self._tokens = 0.0
        self._wanted = asyncio.Event()
        self._bucket = AsyncLimiter(_SLICE_S + _SLACK_S, _SLICE_S + _SLACK_S)
        self._cut_at_s = float("-inf")
        self._tick_at_s = 0.0
        self._paused_until_s = float("-inf")
        self._is_paused = False
        self._window_from_s = 0.0
        self._window_calls = 0
        self._measured_per_s = 0.0

    @property
    def rate_now(self) -> float | None:
        """Calls per second allowed now; None is no bound."""
        return self._rate

    def try_take(self) -> bool:
        """Take a token if one is there; if not, ``run`` gets some and calls ``on_tokens``."""
        if self._rate is None:
            if self._is_paused:
                self._wanted.set()
                return False
            return True
        if self._tokens >= 1.0 and not self._is_paused:
            self._tokens -= 1.0
            return True
        self._wanted.set()
        return False

    def take_several(self, most: int) -> int:
        """Take up to ``most`` tokens; returns how many there were. None are asked for."""
        if self._is_paused:
            return 0
        if self._rate is None:
            return most
        count = min(most, int(self._tokens))
        self._tokens -= count
        return count

    def give_back(self, count: int = 1) -> None:
        """Return tokens that no call was started for."""
        if self._rate is not None:
            self._tokens += count

    def set_rate(self, rate_per_s: float | None) -> None:
        """Set the budget. A rate slowed by throttles recovers towards it."""
        if rate_per_s is not None and not rate_per_s > 0:
            raise ConfigError(f"rate is {rate_per_s!r}: give more than 0 calls per second")
        if rate_per_s is None or self._rate is None or self._rate == self._budget or self._rate > rate_per_s:
            self._rate = rate_per_s
        self._budget = rate_per_s

    def on_throttle(
        self, now_s: float, retry_after_s: float | None = None, sent_at_s: float | None = None
    ) -> None:
        """Slow down, at most once per round trip; with Retry-After, pause until then as well.

        Without ``sent_at_s`` of the throttled call, cuts are at least 100 ms apart.
        """
        if retry_after_s:
            self.pause_until(now_s + retry_after_s)
        if (now_s - _LEAST_CUT_GAP_S if sent_at_s is None else sent_at_s) < self._cut_at_s:
            return
        self._cut_at_s = self._tick_at_s = now_s
        passed = max(self._measured_per_s, self._window_calls)
        if self._rate is None:
            start = max(passed, _FIRST_PER_S)
        else:
            start = min(self._rate, max(passed, self._rate * _DEEPEST))
        self._rate = max(_SLOWEST_PER_S, start * _KEEP)

    def on_success(self, now_s: float, count: int = 1) -> None:
        """Count calls that ran, and recover a little."""
        self._window_calls += count
        elapsed_s = now_s - self._tick_at_s
        if elapsed_s < 0.05:
            return
        if now_s - self._window_from_s >= _WINDOW_S:
            self._measured_per_s = self._window_calls / (now_s - self._window_from_s)
            self._window_from_s, self._window_calls = now_s, 0
        self._tick_at_s = now_s
        if self._rate is None or self._rate == self._budget:
            return
        # By the same number for all clients of a known rate, which makes them meet at equal shares; but
        # by a share of one's own rate where the budget is far off, as an assumed one may be.
        near = self._rate * _NEAR if self._budget is None else min(self._budget, self._rate * _NEAR)
        self._rate += near * (1 - _KEEP) / _RECOVERY_S * min(elapsed_s, 1.0)
        if self._budget is not None:
            self._rate = min(self._budget, self._rate)

    def pause_until(self, until_s: float) -> None:
        """Hand out no token before then."""
        self._paused_until_s = max(self._paused_until_s, until_s)
        self._is_paused = True

    async def run(self, on_tokens: Callable[[], None]) -> None:
        """Fetch tokens whenever somebody wants some, until cancelled. Runs once at a time."""
        loop = asyncio.get_running_loop()
        if self._bucket.has_capacity(_SLACK_S):
            await self._bucket.acquire(_SLACK_S)  # the slack is for waking late: no burst at the start
        while True:
            await self._wanted.wait()
            while self._is_paused:
                wait_s = self._paused_until_s - loop.time()
                if wait_s <= 0:
                    self._is_paused = False
                else:
                    await asyncio.sleep(
                        max(wait_s, 0.001)
                    )  # what rounding leaves over would be slept for ever
            while self._rate is not None and self._tokens < 1.0:
                await self._take_slice(self._rate)
            self._wanted.clear()
            on_tokens()

    async def _take_slice(self, rate_per_s: float) -> None:
        """Add one slice of time's worth of tokens, or sleep for as long."""
        slice_s = min(max(_SLICE_S, 0.25 / rate_per_s), _LONGEST_SLICE_S)
        bucket = self._bucket
        bucket.max_rate = slice_s + _SLACK_S
        if not bucket.has_capacity(slice_s):
            # aiolimiter's own wait asks for the exact moment, which a timer that counts in milliseconds
            # (uvloop) misses by a hair, again and again; the slack makes up for sleeping a little longer.
            await asyncio.sleep(slice_s)
            return
        await bucket.acquire(slice_s)
        self._tokens += slice_s * min(rate_per_s, self._rate or rate_per_s)
