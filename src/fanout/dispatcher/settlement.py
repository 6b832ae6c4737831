"""The settlement of attempts: what the end of one makes of its permit, its call and its twin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fanout.dispatcher.batch_settlement import BatchSettlement
from fanout.dispatcher.call import Attempt, Call, Feed
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.feedback import Feedback
from fanout.dispatcher.hedges import Hedges, part
from fanout.dispatcher.outages import Outages
from fanout.dispatcher.repeats import Repeats
from fanout.errors import FatalRefusal
from fanout.gate import Gate, Release
from fanout.model import SUPERSEDED, Classification, ErrorDetail, Outcome, Reply, Verdict
from fanout.pacer import Pacer

_SUPERSEDED = Classification(
    Verdict.AMBIGUOUS, error=ErrorDetail(SUPERSEDED, "the other attempt of this call succeeded first")
)


Block = tuple[float, list[Outcome]]  # when the calls of a block ended, and their outcomes


class Settlement:
    """Gives an attempt's permit back, and ends or repeats its call.

    An attempt ends by exactly one of ``settle``, ``abandon`` and ``withdraw``. ``cut_off`` cancels the
    sender of one, which then comes back by one of the latter two.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        pacer: Pacer,
        feedback: Feedback,
        completion: Completion,
        repeats: Repeats,
        outages: Outages,
        hedges: Hedges | None,
        batches: BatchSettlement | None,
        cut_off: Callable[[Attempt], None],
        clock: Callable[[], float],
    ) -> None:
        self._gate = gate
        self._pacer = pacer
        self._feedback = feedback
        self._finish = completion.finish
        self._completion = completion
        self._of_success = completion.outcomes.of_success
        self._repeats = repeats
        self._retry_budget = repeats.policy.budget
        self._outages = outages
        self._hedges = hedges
        self._batches = batches
        self._cut_off = cut_off
        self._clock = clock
        self._has_answered = False  # any reply ever came, whatever it said
        self._has_succeeded = False

    def settle(self, attempt: Attempt, reply: Reply | None, end: Classification) -> None:
        """An attempt ended, with a reply or by an error."""
        now_s = self._clock()
        verdict = end.verdict
        if self._hedges is not None:
            has_run = verdict is Verdict.SUCCESS or verdict is Verdict.FUNCTION_ERROR
            self._hedges.end(attempt, ran_s=now_s - attempt.sent_s if has_run else None)
            if attempt.is_superseded:  # it ended while it was being cut off
                self._feedback.linger(attempt, now_s)
                return
        if verdict is Verdict.SUCCESS:
            assert reply is not None
            if attempt.twin is not None:
                self._supersede(attempt, now_s)
            # In place, as nearly every call comes by here.
            call = attempt.call
            if reply.durable_execution_arn is not None:
                self._repeats.note_durable()
            self._gate.release(Release.SUCCESS, attempt.n_bytes, attempt.sent_s, now_s)
            self._pacer.on_success(now_s)
            if call.attempts > 1:
                self._retry_budget.on_recovery(call.attempts - 1)
            self._has_succeeded = True
            if self._feedback.is_troubled:
                self._feedback.forget_trouble()
                self._outages.on_progress()
            if call.batch is not None:
                assert self._batches is not None
                self._batches.settle(attempt, reply, now_s)
                return
            try:
                outcomes = [self._of_success(attempt, reply, now_s)]
            except Exception as error:  # noqa: BLE001 - the reply cannot be kept, whatever the reason
                self._completion.fail_unreadable(attempt, error, now_s)
                return
            self._finish(call, outcomes, now_s, attempt)
            return
        self._has_answered = self._has_answered or reply is not None
        self._feedback.release(attempt, end, now_s)
        if attempt.is_copy:
            self._on_copy_failed(attempt, reply, end, now_s)
        elif attempt.twin is not None:
            attempt.end, attempt.ended_s = (reply, end), now_s  # its copy may succeed yet
        else:
            self._end_call(attempt, reply, end, now_s)

    def prepare_block(self, ends: Sequence[tuple[Attempt, Reply]]) -> Block | None:
        """What becomes of successes that end together: each of a single record, none hedged or in a batch.

        Nothing is changed. None where some reply cannot be kept: then each is for ``settle``.
        """
        now_s = self._clock()
        of_success = self._of_success
        try:
            return now_s, [of_success(attempt, reply, now_s) for attempt, reply in ends]
        except Exception:  # noqa: BLE001 - ``settle`` finds the same, and tells it
            return None

    def settle_block(self, feed: Feed, ends: Sequence[tuple[Attempt, Reply]], block: Block) -> None:
        """Calls of one feed succeeded together, as ``prepare_block`` has found.

        An interrupt costs none of them its outcome.
        """
        now_s, outcomes = block
        try:
            self._gate.release_successes(
                [attempt.sent_s for attempt, _ in ends], sum([attempt.n_bytes for attempt, _ in ends]), now_s
            )
            for attempt, reply in ends:
                if reply.durable_execution_arn is not None:
                    self._repeats.note_durable()
                if attempt.call.attempts > 1:
                    self._retry_budget.on_recovery(attempt.call.attempts - 1)
            self._pacer.on_success(now_s, len(ends))
            self._has_succeeded = True
            if self._feedback.is_troubled:
                self._feedback.forget_trouble()
                self._outages.on_progress()
        finally:
            self._completion.finish_block(feed, outcomes, ends, now_s)

    def abandon(self, attempt: Attempt, error: BaseException) -> bool:
        """An attempt was cut off: the function may have run. Returns whether its twin's success did that."""
        now_s = self._clock()
        if attempt.is_outage_probe:
            self._outages.on_probe_cut_off(now_s)
        self._feedback.linger(attempt, now_s)
        if self._hedges is not None:
            self._hedges.end(attempt)
        if attempt.is_superseded:
            return isinstance(error, asyncio.CancelledError)  # its call has its outcome
        if attempt.is_copy:
            attempt.call.may_have_run = True
            self._drop(attempt, now_s)
            return False
        if (copy := part(attempt)) is not None:
            copy.is_superseded = True
        kind = "Cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
        detail = ErrorDetail(kind, "the call was cut off: the function may have run")
        lost = Classification(Verdict.AMBIGUOUS, error=detail)
        self._completion.fail(attempt.call, attempt, None, lost, now_s)
        return False

    def withdraw(self, attempt: Attempt) -> None:
        """An attempt was cut off before it was sent: nothing ran."""
        now_s = self._clock()
        self._gate.release(Release.IGNORED, attempt.n_bytes, now_s, now_s)
        call = attempt.call
        if attempt.is_copy:
            if not attempt.is_superseded:
                call.copies, call.spared = 0, call.spared - 1
            self._drop(attempt, now_s)
            return
        if attempt.is_outage_probe:
            self._outages.on_probe_cut_off(now_s)
        call.is_waiting = call.last is not None
        self._completion.give_up(call, now_s)

    def _end_call(self, attempt: Attempt, reply: Reply | None, end: Classification, now_s: float) -> None:
        """End or repeat the call of an attempt that did not succeed; its permit is given back."""
        call, verdict = attempt.call, end.verdict
        has_answered = self._has_answered or self._has_succeeded
        call.last_http_status = None if reply is None else reply.status
        if self._outages.hold(
            attempt, reply, end, now_s, has_answered=has_answered, has_succeeded=self._has_succeeded
        ):
            return
        if call.batch is not None:
            assert self._batches is not None
            if self._batches.split(attempt, reply, end, now_s):
                return
        if verdict is Verdict.FATAL:
            self._on_fatal(call, end)
        delay_s = None if verdict is Verdict.FATAL else self._repeats.delay_s(call, end, now_s)
        if delay_s is not None:
            self._repeats.repeat(attempt, reply, end, delay_s, now_s)
            return
        if verdict is Verdict.TRANSIENT and reply is None and not has_answered:
            self._on_unreachable(call, end)
        self._completion.fail(call, attempt, reply, end, now_s)

    def _on_fatal(self, call: Call, end: Classification) -> None:
        if call.has_own_target:
            return  # asked for by this record alone: its fault, not the run's
        error = end.error or ErrorDetail("Stopped")
        message = f"{error.type}: {error.message}" if error.message else error.type
        refusal = FatalRefusal(message, code=error.type, http_status=call.last_http_status)
        self._completion.stop(call.feed, refusal)

    def _on_unreachable(self, call: Call, end: Classification) -> None:
        """No connection at any attempt, and nothing ever answered: the others would fail alike."""
        error = end.error or ErrorDetail("Stopped")
        self._completion.stop(call.feed, FatalRefusal(error.message or error.type, code=error.type))

    # --- hedged calls ------------------------------------------------------------------------

    def _supersede(self, winner: Attempt, now_s: float) -> None:
        """The first success of two attempts is the call's: the other is waited for no longer."""
        other = part(winner)
        assert other is not None
        call, outcomes = winner.call, self._completion.outcomes
        if other.end is not None:
            reply, end = other.end
            call.note_attempt(outcomes.attempt_end(other, end, reply, other.ended_s or now_s))
            return
        other.is_superseded = True
        if other.worker is None:  # a copy that is not out yet
            call.copies, call.spared = 0, call.spared - 1
        else:
            call.note_attempt(outcomes.attempt_end(other, _SUPERSEDED, None, now_s))
        self._cut_off(other)

    def _on_copy_failed(self, copy: Attempt, reply: Reply | None, end: Classification, now_s: float) -> None:
        """A copy that fails is dropped; what it did to the record is remembered."""
        call = copy.call
        call.note_attempt(self._completion.outcomes.attempt_end(copy, end, reply, now_s))
        if end.verdict is Verdict.THROTTLED:
            call.spared -= 1
        elif end.verdict is Verdict.FUNCTION_ERROR and call.ran is None:
            assert reply is not None
            call.ran = reply, end.error
        self._drop(copy, now_s)

    def _drop(self, copy: Attempt, now_s: float) -> None:
        """Go on without a copy: with the end of the original, if that came first."""
        original = part(copy)
        if original is not None and original.end is not None:
            self._end_call(original, *original.end, now_s)
