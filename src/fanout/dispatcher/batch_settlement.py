"""The settlement of batches: which records of a call have ended, and which are sent again in new batches."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.batching import RecordResult, read_reply
from fanout.dispatcher.batcher import Batcher
from fanout.dispatcher.call import Attempt
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.repeats import Repeats
from fanout.dispatcher.retry_queue import RetryQueue
from fanout.model import Classification, Reply, Verdict


class BatchSettlement:
    """Reads the replies of batches, and takes apart those that failed."""

    def __init__(
        self, batcher: Batcher, *, completion: Completion, repeats: Repeats, retries: RetryQueue
    ) -> None:
        self._batcher = batcher
        self._completion = completion
        self._outcomes = completion.outcomes
        self._repeats = repeats
        self._retries = retries

    def settle(self, attempt: Attempt, reply: Reply, now_s: float) -> None:
        """An outcome for each record of a batch whose call succeeded, but for those that are sent again."""
        call = attempt.call
        assert call.batch is not None
        count = len(call.records)
        results = [RecordResult()] * count
        try:
            if call.template.invocation_type == "RequestResponse":
                results = read_reply(self._batcher.plan.reads, reply.body, call.batch.identifiers, count)
            outcomes = self._outcomes.of_batch(attempt, reply, results, now_s)
        except Exception as error:  # noqa: BLE001 - the reply cannot be kept, whatever the reason
            self._completion.fail_unreadable(attempt, error, now_s)
            return
        failed = [index for index, result in enumerate(results) if result.error is not None]
        if failed:
            end = Classification(Verdict.FUNCTION_ERROR, error=results[failed[0]].error)
            delay_s = self._repeats.delay_s(call, end, now_s)
            if delay_s is None or self._completion.is_stopped(call):
                outcomes += self._outcomes.of_failure(call, attempt, reply, end, now_s, failed)
                outcomes.sort(key=lambda outcome: outcome.batch.index if outcome.batch else 0)
            else:
                self._send_part(attempt, reply, end, failed, now_s + delay_s, now_s)
        self._completion.finish(call, outcomes, now_s, attempt)

    def split(self, attempt: Attempt, reply: Reply | None, end: Classification, now_s: float) -> bool:
        """Halve a batch that was too large, or whose function failed where that is asked for.

        False where it is not to be halved, or cannot be.
        """
        call = attempt.call
        error = end.error
        is_too_large = end.verdict is Verdict.REJECTED and error is not None and "TooLarge" in error.type
        is_bisected = end.verdict is Verdict.FUNCTION_ERROR and self._batcher.plan.bisect
        count = len(call.records)
        if count == 1 or not (is_too_large or is_bisected) or self._completion.is_stopped(call):
            return False
        if is_too_large:  # it did not run
            call.attempts -= 1
            end = Classification(Verdict.TRANSIENT, error=error)
        else:
            call.spared += 1
        half = count // 2
        for indexes in (range(half), range(half, count)):
            self._send_part(attempt, reply, end, indexes, now_s, now_s, is_repeated=False)
        if attempt.is_probe:
            self._repeats.on_probe_repeated(attempt, end.verdict, now_s)
        return True

    def _send_part(
        self,
        attempt: Attempt,
        reply: Reply | None,
        end: Classification,
        indexes: Sequence[int],
        at_s: float,
        now_s: float,
        *,
        is_repeated: bool = True,
    ) -> None:
        """Send some records of a batch again, as a batch of their own."""
        part = self._batcher.part(attempt.call, indexes)
        self._repeats.note_end(part, attempt, reply, end, now_s)
        if end.verdict is Verdict.FUNCTION_ERROR:
            assert reply is not None
            part.ran = reply, end.error
            part.function_error_retries += is_repeated
        self._retries.add(part, at_s)
