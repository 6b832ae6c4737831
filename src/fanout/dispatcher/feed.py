"""Feeds: one call for a future, or the records of an intake for a receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import anyio

from fanout.dispatcher.batcher import Batcher
from fanout.dispatcher.call import Call, Feed, checked_priority
from fanout.dispatcher.call_maker import CallMaker
from fanout.dispatcher.engine import Engine
from fanout.dispatcher.intake import EngineIntake, SeveralIntake
from fanout.dispatcher.record import InputRecord, record_of
from fanout.errors import FanoutError, FatalRefusal, OutageError
from fanout.model import ErrorDetail, InvokeTemplate, OnChunk, Outcome
from fanout.payload import is_plain_json
from fanout.stats import CallTrace

_TIMER_SLACK_S = 0.001  # so that no rounding makes a batch due a moment after its timer
PAST_DEADLINE = ErrorDetail("DeadlineExceeded", "the deadline passed before the record was delivered")


class CallFeed(Feed):
    """One call of ``Dispatcher.invoke``: its outcome goes to a future."""

    is_single = True

    def __init__(
        self,
        engine: Engine,
        calls: CallMaker,
        seq: int,
        payload: Any,
        key: str | None,
        priority: int = 0,
        template: InvokeTemplate | None = None,
    ) -> None:
        # In place of the feed's own: a service makes thousands a second, and options are seldom set.
        self.priority = priority if type(priority) is int else checked_priority(priority)
        self.engine = engine
        self._calls = calls
        self._seq = seq
        self._key = key
        # Until its turn has come. Bytes stay as they are: one object fewer for each caller who waits.
        self._waiting: InputRecord | bytes | None = (
            payload if type(payload) is bytes else record_of(seq, payload, key=key)
        )
        self._template = template
        self.future: asyncio.Future[Outcome] = engine.loop.create_future()

    def pull(self, now_s: float) -> Call | None:
        record, self._waiting = self._waiting, None
        if record is None or self.future.done():  # the caller was cancelled before its turn came
            return None
        if type(record) is not InputRecord:
            body = cast("bytes", record)
            if is_plain_json(body):  # as nearly always
                record = InputRecord(self._seq, body, self._key)
            else:
                record = record_of(self._seq, body, key=self._key)
        return self._calls.of_record(self, record, now_s, self._template)

    @property
    def is_abandoned(self) -> bool:  # type: ignore[override]
        return self.future.cancelled()

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:  # noqa: ARG002 - there is one
        if self.future.done():
            return
        if self.fatal is not None and outcomes[0].status == "rejected":
            self.future.set_exception(self.fatal)  # every call would be refused alike
        else:
            self.future.set_result(outcomes[0])

    def give_up(self, call: Call) -> None:
        if self.fatal is None:
            self.deliver(call, self.engine.undelivered(call, self.stopped))
        elif not self.future.done():
            self.future.set_exception(self.fatal)

    def close(self) -> None:
        super().close()
        call = self.pull(self.engine.clock())
        if call is not None:  # its turn never came
            self.give_up(call)

    def on_broken(self, error: BaseException) -> None:
        if not self.outstanding and not self.future.done():
            self.future.set_exception(FanoutError(f"the dispatcher stopped: {error!r}"))

    def expire(self) -> None:
        """The deadline has passed: a call that is not out, or waits for another attempt, is undelivered."""
        self.stopped = PAST_DEADLINE
        call = self.pull(self.engine.clock())
        if call is not None:
            self.deliver(call, self.engine.undelivered(call, PAST_DEADLINE))
        self.engine.give_up_retries(self, error=PAST_DEADLINE)


class Receiver(Protocol):
    """The receiver of a record feed's outcomes, which may hold its pulling back. Nothing here may block."""

    @property
    def has_room(self) -> bool:
        """True while the consumer keeps up; without room nothing is pulled."""
        ...

    @property
    def is_abandoned(self) -> bool:
        """True once nobody waits for outcomes."""
        ...

    def admit(self, record: InputRecord) -> bool:
        """A record is about to be sent. False: it must not be, and counts as given up."""
        ...

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:
        """Take the outcomes of a call, one for each of its records."""
        ...

    def deliver_block(self, outcomes: Sequence[Outcome]) -> None:
        """Take the successes of calls that ended together, one record each."""
        ...

    def give_up(self, call: Call, undelivered: Callable[[ErrorDetail], list[Outcome]]) -> None:
        """A call certainly did not run, and will not: its records stay pending, or become undelivered."""
        ...

    def end(self) -> None:
        """No record is out, and none will come."""
        ...

    def break_off(self, error: BaseException) -> None:
        """The engine cannot go on."""
        ...

    def chunk_writer(self, call: Call) -> OnChunk | None:
        """The writer of a streamed reply's chunks; None joins them."""
        ...


@runtime_checkable
class SeveralReceiver(Protocol):
    """A receiver that admits several records at once."""

    @property
    def room(self) -> int:
        """The most that may be pulled now."""
        ...

    def admit_several(self, records: Sequence[InputRecord]) -> bool:
        """Records, in order, are about to be sent. False: as for ``admit``, all of them."""
        ...


class RunFeed(Protocol):
    """The feed as a run sees it, whether the calls are made here or by workers."""

    fatal: FatalRefusal | None
    outstanding: int
    is_queued: bool
    outage: OutageError | None

    @property
    def deadline_s(self) -> float | None:
        """Of the engine's clock."""
        ...

    def set_deadline(self, deadline_s: float) -> None: ...

    @property
    def failure(self) -> BaseException | None: ...

    @property
    def forming(self) -> int:
        """Records that were read and wait for their batch to fill: no call carries them yet."""
        ...

    def close(self) -> None: ...

    def expire(self) -> None: ...

    def give_up_retries(self) -> None: ...

    def wake(self) -> None: ...


class RecordFeed(Feed):
    """The records of an intake, for a receiver.

    It pulls until the intake has ended, which is the end of the input, or until it is closed, which is
    the stopping of whoever asked; what waits for another attempt is repeated after the one, not after
    the other.
    """

    def __init__(
        self,
        engine: Engine,
        calls: CallMaker,
        intake: EngineIntake,
        receiver: Receiver,
        *,
        waits_out_outages: bool = True,
        batcher: Batcher | None = None,
        priority: int = 0,
        trace: CallTrace | None = None,
        deadline_s: float | None = None,
    ) -> None:
        super().__init__(
            priority=priority, waits_out_outages=waits_out_outages, trace=trace, deadline_s=deadline_s
        )
        self.engine = engine
        self.intake = intake
        self.receiver = receiver
        self.batcher = batcher
        self._batch_timer: asyncio.TimerHandle | None = None
        self._of_record = calls.of_record
        self._of_records = calls.of_records
        self.deliver = receiver.deliver  # type: ignore[method-assign]
        self.deliver_block = receiver.deliver_block  # type: ignore[method-assign]
        self._several: tuple[SeveralIntake, SeveralReceiver] | None = None
        if batcher is None and isinstance(intake, SeveralIntake) and isinstance(receiver, SeveralReceiver):
            self._several = intake, receiver
        self.has_several = self._several is not None
        self._filling: anyio.CancelScope | None = None
        self._is_finished = False

    @property
    def is_abandoned(self) -> bool:  # type: ignore[override]
        return self.receiver.is_abandoned

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the input before its end, if any did."""
        return self.intake.failure

    @property
    def forming(self) -> int:
        """Records in batches that are not full yet."""
        return 0 if self.batcher is None else self.batcher.count

    @property
    def has_input_ended(self) -> bool:  # type: ignore[override]
        return self.intake.has_ended

    @property
    def records_read(self) -> int:  # type: ignore[override]
        return self.intake.records_read

    @property
    def is_finished(self) -> bool:
        """No record of this feed is out, and none will come."""
        return (
            self.outstanding == 0
            and (self.is_closed or self.intake.has_ended)
            and (self.batcher is None or self.batcher.is_empty)
        )

    def pull(self, now_s: float) -> Call | None:
        if self.is_closed or not self.receiver.has_room:
            return None
        if self.batcher is not None:
            return self._pull_batch(self.batcher, now_s)
        record = self.intake.next(now_s)
        if record is None:
            if self.intake.has_ended:
                self._check_finished()
            return None
        call = self._of_record(self, record, now_s)
        return call if self.receiver.admit(record) else None

    def pull_several(self, most: int, most_bytes: int, now_s: float) -> list[Call]:
        if self.is_closed or self._several is None:
            return []
        intake, receiver = self._several
        most = min(most, receiver.room)
        if most <= 0:
            return []
        records = intake.next_several(most, most_bytes)
        if not records:
            return []
        calls = self._of_records(self, records, now_s)
        return calls if receiver.admit_several(records) else []

    def _pull_batch(self, batcher: Batcher, now_s: float) -> Call | None:
        """A batch that is full, or has waited long enough, or is the last."""
        while (record := self.intake.next(now_s)) is not None:
            call = batcher.add(self, record, now_s)
            if call is not None:
                return self._admitted(call)
        call = batcher.due(self, now_s, is_last=self.intake.has_ended)
        if call is not None:
            return self._admitted(call)
        due_s = batcher.due_s
        if due_s is not None and self._batch_timer is None:
            self._batch_timer = self.engine.loop.call_at(due_s + _TIMER_SLACK_S, self._on_batch_due)
        elif self.intake.has_ended:
            self._check_finished()
        return None

    def _on_batch_due(self) -> None:
        self._batch_timer = None
        self.engine.queue(self)

    def _admitted(self, call: Call) -> Call | None:
        for count, record in enumerate(call.records):
            if not self.receiver.admit(record):  # it counts as given up; so do the others
                call.records = call.records[:count] + call.records[count + 1 :]
                self.give_up(call)
                return None
        return call

    def give_up(self, call: Call) -> None:
        self.receiver.give_up(call, lambda error: self.engine.undelivered(call, error))

    def withdraw(self, record: InputRecord) -> bool:
        """Take a record out of a batch that is not complete. False: it is in none."""
        return self.batcher is not None and self.batcher.remove(record.seq) is not None

    def undelivered(self, record: InputRecord, error: ErrorDetail) -> Outcome:
        """The outcome of a record that is not sent at all."""
        call = self._of_record(self, record, self.engine.clock())
        return self.engine.undelivered(call, error)[0]

    async def fill(self) -> None:
        """Run the intake beside the engine, until it has ended or the feed is closed."""
        with anyio.CancelScope() as self._filling:
            if self.is_closed:
                self._filling.cancel()
            await self.intake.fill(self._on_ready)
        with anyio.CancelScope(shield=True):
            await self.intake.aclose()

    def wake(self) -> None:
        """Queue again, where the receiver held the feed back and does so no more."""
        if not self.is_queued and not self.is_closed and self.receiver.has_room:
            self.engine.queue(self)

    def expire(self) -> None:
        """The deadline has passed: pull nothing more, and end what waits for another attempt."""
        self.stopped = PAST_DEADLINE
        self.close()
        self.engine.give_up_retries(self, error=PAST_DEADLINE)

    def give_up_retries(self) -> None:
        """End what waits for another attempt."""
        self.engine.give_up_retries(self)

    def close(self) -> None:
        self.is_closed = True
        if self._filling is not None:
            self._filling.cancel()
        if self._batch_timer is not None:
            self._batch_timer.cancel()
        if self.batcher is not None:
            now_s = self.engine.clock()
            while (call := self.batcher.due(self, now_s, is_last=True)) is not None:
                self.give_up(call)
        self._check_finished()

    def settled(self) -> None:
        self._check_finished()

    def on_broken(self, error: BaseException) -> None:
        self.receiver.break_off(error)

    def chunk_writer(self, call: Call) -> OnChunk | None:
        return self.receiver.chunk_writer(call)

    def _on_ready(self) -> None:
        self.engine.queue(self)
        self._check_finished()

    def _check_finished(self) -> None:
        if self.is_finished and not self._is_finished:
            self._is_finished = True
            self.disarm()
            self.engine.forget(self)
            self.receiver.end()
