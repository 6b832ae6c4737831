"""The making of outcomes, from a call's last attempt: the status, and what of the reply is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import copy

from fanout.batching import RecordResult
from fanout.classify import STATUS_OF_FAILURE, STATUS_OF_SUCCESS
from fanout.dispatcher.call import HISTORY_KEPT, Attempt, Call
from fanout.dispatcher.record import InputRecord
from fanout.log_tail import add_log
from fanout.model import (
    NEVER_RAN,
    AttemptEnd,
    BatchPlace,
    Classification,
    ErrorDetail,
    Outcome,
    Reply,
    Verdict,
)
from fanout.payload import embed

_MILLISECONDS = [f"{number:03d}Z" for number in range(1000)]


class Timestamps:
    """UTC in ISO 8601 with milliseconds; each millisecond is formatted once, while it lasts."""

    def __init__(self) -> None:
        self._millisecond = self._second = -1
        self._prefix = self._text = ""

    def format(self, wall_s: float) -> str:
        """``wall_s`` is Unix time in seconds."""
        millisecond = int(wall_s * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._text = self._prefix + _MILLISECONDS[rest]
        return self._text


class OutcomeMaker:
    """Makes outcomes; holds what is the same for all of them."""

    def __init__(self, *, keeps_tail_of_successes: bool, generation: int = 0) -> None:
        self._keeps_tail_of_successes = keeps_tail_of_successes
        self._generation = generation
        self.timestamps = Timestamps()

    def of_batch(
        self, attempt: Attempt, reply: Reply, results: Sequence[RecordResult], now_s: float
    ) -> list[Outcome]:
        """The outcomes of those records of a batch whose result is no error.

        They share what is the call's: each is a copy of the first, with what is its own.
        """
        batch = attempt.call.batch
        assert batch is not None
        size = len(results)
        outcomes: list[Outcome] = []
        shared: Outcome | None = None
        for index, (record, result) in enumerate(zip(attempt.call.records, results, strict=True)):
            if result.error is not None:
                continue
            if shared is None or not index:
                outcome = self.of_success(attempt, reply, now_s, index, result.output or b"")
                if index or reply.log_result is None:
                    shared = outcome  # a log tail is of the first record alone
            else:
                outcome = copy(shared)
                outcome.seq, outcome.key = record.seq, record.key
                outcome.source = record.source
                outcome.line = None if record.source is None else record.line
                outcome.output_raw, outcome.output_encoding = embed(result.output or b"")
                outcome.batch = BatchPlace(batch.id, index, size)
            outcomes.append(outcome)
        return outcomes

    def of_success(
        self, attempt: Attempt, reply: Reply, now_s: float, index: int = 0, output: bytes | None = None
    ) -> Outcome:
        """The hot path: a reply whose verdict is SUCCESS. ``output``: the record's part of it, in a batch."""
        call = attempt.call
        record = call.records[index]
        raw, encoding = embed(reply.body if output is None else output)
        # What is seldom set is set below: Python makes a dict of more than 15 keywords, which takes 5 µs.
        outcome = Outcome(
            seq=record.seq,
            status=STATUS_OF_SUCCESS[reply.status],
            attempts=call.attempts,
            throttles=call.throttles,
            request_id=reply.request_id,
            http_status=reply.status,
            executed_version=reply.executed_version,
            started_at=attempt.started_at or self.timestamps.format(attempt.sent_wall_s),
            # Three decimals, as in ``_ms``, without the calls.
            queued_ms=int((call.first_sent_s - call.pulled_s) * 1e6 + 0.5) / 1e3,
            duration_ms=int((now_s - attempt.sent_s) * 1e6 + 0.5) / 1e3,
            trace_id=reply.trace_id,
            output_raw=raw,
        )
        if record.key is not None:
            outcome.key = record.key
        if encoding is not None:
            outcome.output_encoding = encoding
        if reply.durable_execution_arn is not None:
            outcome.durable_execution_arn = reply.durable_execution_arn
        if self._generation:
            outcome.generation = self._generation
        if call.copies:
            outcome.copies = call.copies
        if record.source is not None:
            outcome.source, outcome.line = record.source, record.line
        if call.batch is not None:
            outcome.batch = BatchPlace(call.batch.id, index, len(call.records))
        if reply.log_result is not None and not index:
            add_log(outcome, reply.log_result, keeps_tail=self._keeps_tail_of_successes)
        if call.history is not None:
            last = self._attempt_end(outcome, Verdict.SUCCESS, None, reply)
            outcome.history = [*call.history[1 - HISTORY_KEPT :], last]
        return outcome

    def of_failure(
        self,
        call: Call,
        attempt: Attempt | None,
        reply: Reply | None,
        classification: Classification,
        now_s: float,
        only: Sequence[int] | None = None,
    ) -> list[Outcome]:
        """Whatever is no success: the input is kept, so that each record can be sent again.

        ``attempt`` is the one that ended last; None for a call that was never sent. ``only``: the records
        at these places of the call.
        """
        return [
            self._failure_of(index, call, attempt, reply, classification, now_s)
            for index in (range(len(call.records)) if only is None else only)
        ]

    def _failure_of(
        self,
        index: int,
        call: Call,
        attempt: Attempt | None,
        reply: Reply | None,
        classification: Classification,
        now_s: float,
    ) -> Outcome:
        record = call.records[index]
        verdict = classification.verdict
        status = STATUS_OF_FAILURE[verdict]
        error, last_reply = classification.error, reply
        if status in NEVER_RAN:  # neither may be said of what ran, or may have run
            if call.may_have_run or record.may_have_run:
                status = "unknown"
            elif call.ran is not None:
                status = "function_error"
                last_reply, error = call.ran
        elif verdict is Verdict.FUNCTION_ERROR and reply is None and call.ran is not None:
            last_reply = call.ran[0]
        raw_input, input_encoding = embed(record.body)
        outcome = Outcome(
            seq=record.seq,
            key=record.key,
            status=status,
            attempts=call.attempts,
            throttles=call.throttles,
            http_status=call.last_http_status if last_reply is None else last_reply.status,
            error=error or ErrorDetail(verdict.value),
            input_raw=raw_input,
            input_encoding=input_encoding,
            line=record.line,
            source=record.source,
            generation=self._generation,
            copies=call.copies,
            is_fault=record.fault is not None and record.fault_verdict is Verdict.REJECTED,
        )
        if attempt is not None:
            outcome.started_at = self.timestamps.format(attempt.sent_wall_s)
            outcome.queued_ms = _ms(call.first_sent_s - call.pulled_s)
            if call.is_waiting and call.history:
                outcome.duration_ms = call.history[-1].duration_ms  # without the wait
            else:
                outcome.duration_ms = _ms((attempt.ended_s or now_s) - attempt.sent_s)
        if last_reply is not None:
            outcome.request_id = last_reply.request_id
            outcome.executed_version = last_reply.executed_version
            outcome.trace_id = last_reply.trace_id
            outcome.durable_execution_arn = last_reply.durable_execution_arn
            if last_reply.log_result is not None and not index:
                add_log(outcome, last_reply.log_result, keeps_tail=True)
        if record.own is not None:
            self._add_own(outcome, record, call)
        if call.batch is not None:
            outcome.batch = BatchPlace(call.batch.id, index, len(call.records))
        if call.history is not None:
            outcome.history = call.history
            if not call.is_waiting:  # a call given up while it waits has its last end in the history
                last = self._attempt_end(outcome, verdict, classification.error, reply)
                outcome.history = [*call.history[1 - HISTORY_KEPT :], last]
        return outcome

    def attempt_end(
        self, attempt: Attempt, classification: Classification, reply: Reply | None, now_s: float
    ) -> AttemptEnd:
        """One line of a history, for an attempt that another follows."""
        return AttemptEnd(
            verdict=classification.verdict.value,
            at=self.timestamps.format(attempt.sent_wall_s),
            duration_ms=_ms((attempt.ended_s or now_s) - attempt.sent_s),
            error=_in_words(classification.error),
            request_id=None if reply is None else reply.request_id,
        )

    @staticmethod
    def _attempt_end(
        outcome: Outcome, verdict: Verdict, error: ErrorDetail | None, reply: Reply | None
    ) -> AttemptEnd:
        return AttemptEnd(
            verdict=verdict.value,
            at=outcome.started_at or "",
            duration_ms=outcome.duration_ms or 0.0,
            error=_in_words(error),
            request_id=None if reply is None else reply.request_id,
        )

    @staticmethod
    def _add_own(outcome: Outcome, record: InputRecord, call: Call) -> None:
        # What was refused is kept as text too, so that a redrive does not send the record without it.
        own = record.own
        assert own is not None
        outcome.qualifier = _as_text(own.qualifier)
        outcome.tenant_id = _as_text(own.tenant_id)
        outcome.durable_name = _as_text(own.durable_name)
        if own.client_context is not None:
            encoded = None if record.fault is not None else call.template.sdk_params.get("ClientContext")
            outcome.client_context = encoded or _as_text(own.client_context)


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - the value's own code
        return f"<{type(value).__name__}>"


def _ms(seconds: float) -> float:
    """Milliseconds with three decimals; ``round`` would take four times as long."""
    return int(seconds * 1e6 + 0.5) / 1e3


def _in_words(error: ErrorDetail | None) -> str:
    if error is None:
        return ""
    name = error.reason or error.type
    return f"{name}: {error.message[:200]}" if error.message else name
