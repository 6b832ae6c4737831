"""Retry policy: whether and when a call is sent again, for every kind of failure."""

from __future__ import annotations

import random
from collections.abc import Collection

from fanout.model import Classification, Verdict

BASE_S = 0.2
CAP_S = 20.0
THROTTLE_BASE_S = 0.05
THROTTLE_CAP_S = 2.0
BUDGET_SHARE = 0.2
BUDGET_RESERVE = 500.0
BUDGET_MOST = 500.0


class RetryBudget:
    """A token bucket that lets fruitless retries be at most a fifth of fresh calls, plus a reserve.

    Why not attempts alone: when everything fails, three retries each mean four times the load on what
    is failing. Every fresh call puts in 0.2 tokens, every retry takes one, as in Finagle and tower; a
    record that succeeds in the end gives its tokens back, so that a function which only stumbles loses
    no record to the budget. The reserve keeps short runs from noticing it at all.
    """

    __slots__ = ("_most", "_share", "_tokens")

    def __init__(
        self, share: float = BUDGET_SHARE, reserve: float = BUDGET_RESERVE, most: float = BUDGET_MOST
    ) -> None:
        self._share = share
        self._most = max(most, reserve)
        self._tokens = reserve

    def on_fresh_calls(self, count: int) -> None:
        """First attempts of so many records are being made."""
        if self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + count * self._share)

    def on_recovery(self, retries: int) -> None:
        """A record succeeded after so many retries: they were worth it."""
        self._tokens = min(self._most, self._tokens + retries)

    def try_take(self) -> bool:
        """Take a token for a retry, if there is one."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class ThrottlePatience:
    """Patience with a function that answers nothing but throttles. Never reads a clock."""

    __slots__ = ("_patience_s", "_since_s")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since_s: float | None = None  # the beginning of the present stretch of nothing but throttles

    def note_progress(self) -> None:
        """A call was answered with something else than a throttle."""
        self._since_s = None

    def note_throttle(self, now_s: float) -> None:
        """A call was throttled."""
        if self._since_s is None:
            self._since_s = now_s

    def left_s(self, now_s: float) -> float:
        """The time for which nothing but throttles may still come: no wait is longer."""
        return self._patience_s if self._since_s is None else self._since_s + self._patience_s - now_s

    def bounded(self, wait_s: float | None, deadline_s: float | None, now_s: float) -> float | None:
        """A wait, cut to what is left of patience and deadline, whatever a Retry-After says."""
        if wait_s is None:
            return None
        wait_s = min(wait_s, max(0.0, self.left_s(now_s)))
        return wait_s if deadline_s is None else min(wait_s, max(0.0, deadline_s - now_s))

    def is_exhausted(self, now_s: float) -> bool:
        """True if nothing but throttles came for the whole patience."""
        return self._since_s is not None and now_s - self._since_s >= self._patience_s


class RetryPolicy:
    """Full jitter with a cap (AWS Architecture Blog, "Exponential Backoff and Jitter").

    ``retries``: extra attempts after TRANSIENT, and after AMBIGUOUS if ``idempotent``.
    ``retry_on``: error types whose function errors are sent again, up to ``retry_function_errors``
    times; empty means any. Throttles cost no attempt. A Retry-After is a lower bound of the delay.
    """

    def __init__(
        self,
        retries: int = 3,
        retry_function_errors: int = 0,
        retry_on: Collection[str] = (),
        idempotent: bool = False,
        budget: RetryBudget | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._retries = retries
        self._retry_function_errors = retry_function_errors
        self._retry_on = frozenset(retry_on)
        self.is_idempotent = idempotent
        self.budget = budget if budget is not None else RetryBudget()
        self._rng = rng if rng is not None else random.Random()  # noqa: S311 - jitter, no secret

    def set_retries(self, retries: int) -> None:
        """Another number of extra attempts, from the next decision on."""
        self._retries = retries

    def decide(
        self,
        classification: Classification,
        *,
        attempts: int,
        function_error_retries: int = 0,
        throttles: int = 0,
        starts_once: bool = False,
    ) -> float | None:
        """Seconds to wait before the next attempt, or None when this end is final.

        ``attempts``: made so far without the throttled ones, this one included. ``throttles``: of this
        record so far, this one included; ``ThrottlePatience`` says when they are too many.
        ``starts_once``: the call has a name by which a durable function starts it once, however often it
        is sent. A delay has taken its token from the retry budget: ask once for each end.
        """
        verdict = classification.verdict
        if verdict is Verdict.THROTTLED:
            delay_s = self._jitter(THROTTLE_BASE_S, THROTTLE_CAP_S, max(throttles, 1))
        elif verdict is Verdict.TRANSIENT or (
            verdict is Verdict.AMBIGUOUS and (self.is_idempotent or starts_once)
        ):
            if attempts > self._retries or not self.budget.try_take():
                return None
            delay_s = self._jitter(BASE_S, CAP_S, attempts)
        elif verdict is Verdict.FUNCTION_ERROR and self._is_wanted(classification):
            if function_error_retries >= self._retry_function_errors or not self.budget.try_take():
                return None
            delay_s = self._jitter(BASE_S, CAP_S, function_error_retries + 1)
        else:
            return None
        return max(delay_s, classification.retry_after_s or 0.0)

    def _is_wanted(self, classification: Classification) -> bool:
        if not self._retry_on:
            return self._retry_function_errors > 0
        return classification.error is not None and classification.error.type in self._retry_on

    def _jitter(self, base_s: float, cap_s: float, attempt: int) -> float:
        """``attempt`` counts from 1."""
        return self._rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt - 1, 30)))
