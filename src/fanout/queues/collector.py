"""The collection of results: messages of destinations and dead-letter queues become outcomes of a run.

A message is deleted only after the sync that covers its outcome's line; so whatever ends a collection,
the next one comes to the same outcomes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import anyio
import msgspec

from fanout.errors import FanoutError, SourceError
from fanout.journal import LineFault, StoredOutcome, decode_line
from fanout.model import ErrorDetail, Outcome
from fanout.queues.accepted import RESULT_MISSING, AcceptedCalls, OpenCall
from fanout.queues.client import SqsClient
from fanout.queues.hold import VISIBILITY_S, Hold
from fanout.queues.message import Message
from fanout.queues.results import CallResult, read_result

_LOOK_EVERY_S = 0.2
_POLL_S = 1  # short: one that is given up may still take messages, and hide them for a minute
_LAST_RECEIVES_S = 1.5
_RECEIVERS = 4  # for each queue that brings messages; one where nothing comes
_STRANGER_FIRST_S = 60
_STRANGER_MOST_S = 3600
_FINISH_WITHIN_S = 20.0
_stored = msgspec.json.Decoder(StoredOutcome)

Complete = Callable[[list[Outcome], CallResult], list[Outcome]]


class Sink(Protocol):
    """The destination of outcomes: the run's journal, which calls ``Collector.on_synced`` later."""

    @property
    def is_backed_up(self) -> bool: ...

    def write(self, outcomes: list[Outcome]) -> None: ...

    async def flush(self) -> None:
        """Write and sync what was taken."""


class Counts(msgspec.Struct):
    """The counts of a collection. ``open`` is how many records have no outcome in the journal yet.

    ``awaited`` is how many had none at its beginning.
    """

    awaited: int = 0
    open: int = 0
    collected: int = 0
    duplicates: int = 0
    strangers: int = 0

    @property
    def out(self) -> int:
        """The records whose result has not come."""
        return max(0, self.awaited - self.collected)


class Collector:
    """Collects until every result is there, or ``deadline_s`` of the monotonic clock has passed.

    ``carries_successes`` says whether successes reach these queues: without them a missing result says
    nothing. The results of a batch's records are told apart by ``complete``. Where ``should_stop``, it ends
    soon: what is there is kept, what is missing stays open.
    """

    def __init__(
        self,
        queues: list[SqsClient],
        calls: AcceptedCalls,
        *,
        complete: Complete,
        carries_successes: bool = False,
        allow_strangers: bool = False,
        deadline_s: float,
        should_stop: Callable[[], bool],
        on_progress: Callable[[Counts], None] | None = None,
    ) -> None:
        self._queues = queues
        self._calls = calls
        self._complete = complete
        self._allow_strangers = allow_strangers
        self._on_progress = on_progress
        self._holds = [Hold(queue, time.monotonic) for queue in queues]
        self._brings = [True] * len(queues)  # whether the last receive brought anything
        self._is_ending = False
        self._receivers = 0
        self._next = 0
        self._completing: dict[int, list[tuple[int, int]]] = {}  # seq: messages to delete at its sync
        self._failure: FanoutError | None = None
        self._deadline_s = deadline_s
        self._should_stop = should_stop
        self.carries_successes = carries_successes
        self.counts = Counts()

    async def run(self, sink: Sink) -> None:
        """Collect to the end, into ``sink``; ``finish`` must follow.

        Raises SourceError, JournalError or FatalRefusal.
        """
        self._sink = sink
        await anyio.to_thread.run_sync(self._calls.update)
        self.counts.awaited = self.counts.open = self._calls.open_count
        async with anyio.create_task_group() as tasks:
            for hold in self._holds:
                tasks.start_soon(hold.run)
            for at in range(len(self._queues)):
                for which in range(_RECEIVERS):
                    self._receivers += 1
                    tasks.start_soon(self._receive, at, which)
            is_late = await self._watch()
            failure = self._failure
            self._is_ending = True  # what the last receives bring is no reason to stop any more
            with anyio.move_on_after(_LAST_RECEIVES_S):
                while self._receivers:  # noqa: ASYNC110 - whichever of several ends last
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if is_late:
            self._give_up_missing()

    async def finish(self) -> FanoutError | None:
        """Delete what was synced last, after the journal was closed. Returns what SQS refused."""
        for hold in self._holds:
            await hold.finish(_FINISH_WITHIN_S)
        return next((hold.failure for hold in self._holds if hold.failure is not None), None)

    def on_synced(self, outcomes: list[Outcome]) -> None:
        """The lines of these outcomes are on the disk: their messages are not needed any more."""
        for outcome in outcomes:
            for queue, number in self._completing.get(outcome.seq, ()):
                if not self._is_awaited(queue, number, outcome.seq):
                    self._holds[queue].delete(number)
            self._completing.pop(outcome.seq, None)

    def _is_awaited(self, queue: int, number: int, but: int) -> bool:
        """True if a message has outcomes that are not synced yet, as one of a batch may have."""
        return any((queue, number) in waiting for seq, waiting in self._completing.items() if seq != but)

    def before_sync(self) -> None:
        """Nothing else must be on the disk before the outcomes."""

    async def _watch(self) -> bool:
        """Until all is done: take up the lines that were written, and say how far it has come.

        Returns whether time ran out.
        """
        while True:
            await anyio.to_thread.run_sync(self._calls.update)
            self.counts.open = self._calls.open_count
            if self._on_progress is not None:
                self._on_progress(self.counts)
            for hold in self._holds:
                self._failure = self._failure or hold.failure
            if self._failure is not None or self._should_stop():
                return False
            if not self.counts.open:
                if not self._completing:
                    return False
                await self._sink.flush()  # nothing else is to come: their messages can go
            if time.monotonic() >= self._deadline_s:
                return True
            await anyio.sleep(_LOOK_EVERY_S)

    async def _receive(self, at: int, which: int) -> None:
        queue, hold = self._queues[at], self._holds[at]
        try:
            while not self._is_ending:
                if self._sink.is_backed_up or (which and not self._brings[at]):
                    await anyio.sleep(0.05)
                    continue
                asked_s = time.monotonic()
                messages = await queue.receive(
                    10,
                    visibility_s=VISIBILITY_S,
                    wait_s=_POLL_S,
                    with_attributes=True,
                )
                self._brings[at] = bool(messages)
                for message in messages:
                    self._next += 1
                    hold.take(self._next, message.receipt_handle, asked_s=asked_s)
                    self._take(at, self._next, message)
        except FanoutError as error:
            self._failure = self._failure or error
        finally:
            self._receivers -= 1

    def _take(self, at: int, number: int, message: Message) -> None:
        result = read_result(message)
        if result is None or not self._settle(at, number, result):
            self._put_back(at, number, message)

    def _settle(self, at: int, number: int, result: CallResult) -> bool:
        """Make outcomes of a result, or count it as a duplicate; False if the call is not this run's."""
        open_calls, is_known = self._calls.find(result.request_id)
        if not is_known:
            return False
        if result.kind == "destination" and result.status == "succeeded":
            self.carries_successes = True
        waiting = [call.seq for call in open_calls if call.seq in self._completing]
        fresh = [call for call in open_calls if call.seq not in self._completing]
        if fresh:
            self._write(at, number, fresh, result)
        else:
            self.counts.duplicates += 1
            if waiting:  # this copy goes with the first
                self._completing[waiting[0]].append((at, number))
            else:
                self._holds[at].delete(number)
        return True

    def _write(self, at: int, number: int, calls: list[OpenCall], result: CallResult) -> None:
        outcomes = self._complete([self._accepted(call) for call in calls], result)
        for outcome in outcomes:
            self._completing[outcome.seq] = [(at, number)]
        self.counts.collected += len(outcomes)
        self._sink.write(outcomes)

    def _accepted(self, call: OpenCall) -> Outcome:
        try:
            stored = decode_line(self._calls.line_of(call), _stored)
        except LineFault as fault:
            raise SourceError(f"the journal's line of record {call.seq} is damaged: {fault}") from fault
        # As every other line is written, member by member.
        return Outcome(**{name: getattr(stored, name) for name in Outcome.__struct_fields__})

    def _put_back(self, at: int, number: int, message: Message) -> None:
        """A stranger's message: it comes again later, for its own reader."""
        queue, hold = self._queues[at], self._holds[at]
        self.counts.strangers += 1
        delay_s = min(_STRANGER_FIRST_S << min(message.receive_count - 1, 10), _STRANGER_MOST_S)
        if queue.redrives and not self._allow_strangers:
            hold.keep(number)  # until nobody here receives it again
            self._failure = self._failure or SourceError(
                f"{queue} holds messages of others, and its redrive policy counts each receive: give the "
                "run a queue of its own, or --allow-strangers"
            )
            return
        hold.forget(number)
        hold.give_back(message.receipt_handle, after_s=delay_s)

    def _give_up_missing(self) -> None:
        """End as unknown what a success queue should have brought in time."""
        if not self.carries_successes:
            return
        for call in self._calls.open_calls():
            if call.seq in self._completing:
                continue
            accepted = self._accepted(call)
            if accepted.status == "accepted":
                error = ErrorDetail(RESULT_MISSING, "no result came in the time that it could take")
                self._sink.write([msgspec.structs.replace(accepted, status="unknown", error=error)])
