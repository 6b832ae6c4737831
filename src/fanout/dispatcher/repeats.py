"""The repeating of calls: whether an end is final, when the next attempt is due, and under which name."""

from __future__ import annotations

import math
from collections.abc import Callable

from fanout.breaker import Breaker
from fanout.dispatcher.call import Attempt, Call
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.retry_queue import RetryQueue
from fanout.errors import FatalRefusal
from fanout.model import Classification, InvokeTemplate, Reply, Verdict
from fanout.retry import RetryPolicy, ThrottlePatience


class Repeats:
    """Sends calls again.

    ``is_durable``: the function is known to start a named execution once. ``renamed`` gives the template
    of a call whose function reported an error: under the old name the failed execution would come back.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        patience: ThrottlePatience,
        *,
        retries: RetryQueue,
        completion: Completion,
        breaker: Breaker | None,
        is_durable: bool,
        renamed: Callable[[Call], InvokeTemplate] | None,
        outage_patience_s: float,
    ) -> None:
        self.policy = policy
        self._patience = patience
        self._retries = retries
        self._completion = completion
        self._breaker = breaker
        self._is_durable = is_durable
        self._renamed = renamed
        self._longest_s = outage_patience_s or math.inf  # without patience nothing is an outage

    def note_durable(self) -> None:
        """A reply carried an execution's ARN: the function is durable."""
        self._is_durable = True

    def starts_once(self, call: Call) -> bool:
        """The call has a name by which its function starts it once, however often it is sent."""
        return self._is_durable and call.template.durable_name is not None

    def may_run_twice(self, call: Call) -> bool:
        """Sending the call again, while it may run, does no harm."""
        return self.policy.is_idempotent or self.starts_once(call)

    def delay_s(self, call: Call, end: Classification, now_s: float) -> float | None:
        """Seconds to wait before the next attempt; None when this end is final.

        Nothing but throttles for longer than the patience stops the feed.
        """
        if not call.feed.may_repeat:
            return None
        if end.verdict is Verdict.THROTTLED and self._patience.is_exhausted(now_s):
            code = "Stopped" if end.error is None else end.error.type
            reason = code if end.error is None else end.error.reason or code
            refusal = FatalRefusal(f"nothing but throttles ({reason})", code=code, http_status=429)
            self._completion.stop(call.feed, refusal)
            return None
        delay_s = self.policy.decide(
            end,
            attempts=call.attempts - call.spared,
            function_error_retries=call.function_error_retries,
            throttles=call.throttles,
            starts_once=self.starts_once(call),
        )
        if delay_s is not None and end.verdict is Verdict.TRANSIENT:
            delay_s = min(delay_s, self._longest_s)
        deadline_s = call.deadline_s
        if delay_s is not None and deadline_s is not None and now_s + delay_s >= deadline_s:
            return None
        return self._patience.bounded(delay_s, deadline_s, now_s)

    def repeat(
        self, attempt: Attempt, reply: Reply | None, end: Classification, delay_s: float, now_s: float
    ) -> None:
        """Let a call wait for another attempt; where it was stopped meanwhile, give it up."""
        call = attempt.call
        self.note_end(call, attempt, reply, end, now_s)
        if attempt.is_probe:
            self.on_probe_repeated(attempt, end.verdict, now_s)
        if self._completion.is_stopped(call):
            self._completion.give_up(call, now_s)
            return
        if end.verdict is Verdict.FUNCTION_ERROR:
            assert reply is not None
            call.ran = reply, end.error
            call.function_error_retries += 1
            if self._renamed is not None:
                call.template = self._renamed(call)
        self._retries.add(call, now_s + delay_s)

    def note_end(
        self, call: Call, attempt: Attempt, reply: Reply | None, end: Classification, now_s: float
    ) -> None:
        """Keep how the last attempt ended, for a call that waits for another."""
        call.note_attempt(self._completion.outcomes.attempt_end(attempt, end, reply, now_s))
        call.last, call.last_end = attempt, end
        call.is_waiting = True

    def on_probe_repeated(self, attempt: Attempt, verdict: Verdict, now_s: float) -> None:
        """The breaker's probe is sent again: a throttle said nothing, anything else is a failure."""
        assert self._breaker is not None
        if verdict is Verdict.THROTTLED:
            self._breaker.on_silent_probe()
        else:
            self._breaker.on_outcome(False, now_s, is_probe=True)
        attempt.is_probe = False
