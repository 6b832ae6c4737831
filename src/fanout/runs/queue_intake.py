"""The intake of a run over a queue: messages become records, under numbers that outlive the process.

A message is deleted once its record succeeded and the line that says so is on the disk. One that comes
again has the number that it had: what is finished is not run again, what failed is held until the end.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from math import inf
from typing import Protocol

import anyio
import anyio.abc
import msgspec

from fanout.dispatcher.record import InputRecord
from fanout.errors import FanoutError
from fanout.inputs import Item, Selector
from fanout.journal import SeqSet
from fanout.model import ErrorDetail, Outcome, Verdict
from fanout.payload import json_fault
from fanout.queues.hold import VISIBILITY_S, Hold
from fanout.queues.message import Message, sqs_record
from fanout.queues.spool import MessageSpool
from fanout.runs.intake import MAY_HAVE_RUN, record_of_item

EMPTY_AFTER_S = 20.0
_LOOK_EVERY_S = 0.25
_RECEIVERS_MOST = 64
_LONGEST_POLL_S = 20
_FINISH_WITHIN_S = 30.0
_LAST_RECEIVES_S = 1.5
GONE = ErrorDetail(
    "MessageGone", "its message did not come back: another reader has it, or it is too old for the queue"
)


class Receiving(Protocol):
    """The client's part that an intake needs. ``lost_receive_s`` is of the loop's clock."""

    lost_receive_s: float
    arn: str
    region: str

    async def receive(
        self, most: int, *, visibility_s: int, wait_s: int, with_attributes: bool = False
    ) -> list[Message]: ...


class Settled(msgspec.Struct):
    """The knowledge of earlier sessions about a run's records."""

    ok: SeqSet = msgspec.field(default_factory=SeqSet)
    failed: SeqSet = msgspec.field(default_factory=SeqSet)
    suspects: Container[int] = ()  # may have run, and are not sent again
    may_have_run: Container[int] = ()

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take later outcomes."""
        for outcome in outcomes:
            (self.ok if outcome.ok else self.failed).add(outcome.seq)


class QueueIntake:
    """Messages as records. ``serve`` runs from before the first record until after the last outcome is
    on the disk; then ``finish`` lets go of what is held. ``clock`` is the event loop's.

    ``take``: only so many messages. ``follow``: an empty queue is no end. ``as_event``: each record has the
    element that it would be in the event of the queue's trigger. ``syncs_spool``: numbers are on the
    disk before a record is sent. It hears of synced outcomes as the journal's ``SyncListener``.
    """

    def __init__(
        self,
        queue: Receiving,
        hold: Hold,
        spool: MessageSpool,
        *,
        clock: Callable[[], float],
        selector: Selector | None = None,
        take: int | None = None,
        follow: bool = False,
        empty_after_s: float = EMPTY_AFTER_S,
        as_event: bool = False,
        is_text: bool = False,
        syncs_spool: bool = False,
        settled: Settled | None = None,
    ) -> None:
        self.handed_out = 0
        self._left: int | None = None  # messages given back, once the run has let go of the queue
        self._queue = queue
        self._hold = hold
        self._spool = spool
        self._clock = clock
        self._selector = None if selector is None or selector.is_identity else selector
        self._take = take
        self._follow = follow
        self._empty_after_s = empty_after_s
        self._as_event = as_event
        self._is_text = is_text
        self._syncs_spool = syncs_spool
        self._settled = settled or Settled()
        known = self._settled
        # Read, and without an outcome: they are awaited.
        self._unsettled = {
            seq for seq in range(len(spool)) if seq not in known.ok and seq not in known.failed
        }
        self._waiting: deque[tuple[int, Message]] = deque()
        self._gone: deque[int] = deque()
        self._under_way = 0  # receives
        self._syncing = 0  # of them, those whose messages wait for their numbers to be on the disk
        self._target = 2
        self._is_wanted = False
        self._is_closed = False
        self._has_ended = False
        self._changed = anyio.Event()
        self._ended = anyio.Event()
        self._on_ready: Callable[[], None] = lambda: None
        self._failure: FanoutError | None = None
        now_s = clock()
        self._last_new_s = now_s
        self._last_empty_s = -inf  # when the last receive that brought nothing began
        self._hidden_until_s = now_s + VISIBILITY_S if self._unsettled else now_s

    # --- what the engine asks ------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """The queue is empty, or ``take`` was reached, and every record was handed out."""
        return self._failure is not None or (self._has_ended and not self._waiting and not self._gone)

    @property
    def failure(self) -> BaseException | None:
        """The error by which no more can be received."""
        return self._failure or self._hold.failure

    @property
    def records_read(self) -> int:
        """Messages that have a number, in this session or an earlier one."""
        return len(self._spool)

    @property
    def is_exhausted(self) -> bool:
        """True once the queue counts as empty."""
        return self.has_ended and self.failure is None and not self._is_taken

    @property
    def _is_taken(self) -> bool:
        """True if as many messages have a seq as were asked for."""
        return self._take is not None and len(self._spool) >= self._take

    @property
    def records_total(self) -> int | None:
        """The number of records, once the queue counts as empty; None before."""
        return len(self._spool) if self._has_ended else None

    @property
    def records_expected(self) -> int | None:
        """The most that there can be."""
        return self._take if self.records_total is None else self.records_total

    def finished_share(self, outstanding: int) -> None:
        """A queue does not say how much is still to come."""

    @property
    def not_sent(self) -> list[int]:
        """Records that were read, and certainly not sent by this session."""
        return [seq for seq, _ in self._waiting] + [
            seq for seq in self._unsettled if seq not in self._settled.may_have_run
        ]

    def next(self, now_s: float) -> InputRecord | None:  # noqa: ARG002 - the hold has the same clock
        """The next record. A message that is no longer hidden from others is not sent."""
        while self._waiting:
            seq, message = self._waiting.popleft()
            if len(self._waiting) < 5 * self._target:
                self._changed.set()
            if not self._hold.is_mine(seq):
                self._hold.drop(seq)
                self._unsettled.add(seq)
                continue
            self.handed_out += 1
            return self._record_of(seq, message)
        if self._gone:
            self.handed_out += 1
            return self._gone_record(self._gone.popleft())
        if not self._has_ended:
            self._changed.set()
        return None

    async def fill(self, on_ready: Callable[[], None]) -> None:
        """Wait for the end; ``serve`` receives."""
        self._on_ready = on_ready
        self._is_wanted = True
        self._last_new_s = self._clock()
        self._changed.set()
        try:
            await self._ended.wait()
        finally:
            self._on_ready = lambda: None

    async def aclose(self) -> None:
        """Receive nothing more."""
        self._is_closed = True
        self._changed.set()

    # --- what the journal says -----------------------------------------------------------------

    def before_sync(self) -> None:
        """The numbers are on the disk no later than the outcomes."""
        self._spool.sync()

    def on_synced(self, outcomes: list[Outcome]) -> None:
        """Delete the messages of what succeeded; hold those of what did not."""
        self._settled.add(outcomes)
        for outcome in outcomes:
            if outcome.ok:
                self._hold.delete(outcome.seq)
            else:
                self._hold.keep(outcome.seq)

    # --- receiving -----------------------------------------------------------------------------

    async def serve(self) -> None:
        """Receive, extend and delete, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hold.run)
            while True:
                if self._is_wanted and not self._is_closed and not self._has_ended:
                    self._start_receives(tasks)
                    if self._is_empty(self._clock()):
                        self._end()
                if self._hold.failure is not None and not self._has_ended:
                    self._fail(self._hold.failure)
                with anyio.move_on_after(_LOOK_EVERY_S):
                    await self._changed.wait()
                self._changed = anyio.Event()

    def release(self, seqs: Iterable[int]) -> None:
        """These records were handed out and certainly did not run: their messages are given back."""
        if self._left is None:
            for seq in seqs:
                self._hold.keep(seq)

    async def settle(self, not_sent: Sequence[int]) -> None:
        """Delete and give back before the run is called finished: no later verb would do it."""
        self.release(not_sent)
        await self.finish()

    async def finish(self) -> int:
        """Do the deletes that are due, and give back what failed or was never sent; returns how many.

        The journal is closed by now. What may still be running is left to reappear by itself. A second
        call does nothing.
        """
        if self._left is not None:
            return self._left
        await self.aclose()
        await self._last_receives()
        self.release(seq for seq, _ in self._waiting)
        self._left = left = self._hold.failed
        await self._hold.finish(_FINISH_WITHIN_S)
        if left and self._under_way:  # receives that still wait take what was just given back
            await self._last_receives()
            await self._hold.finish(_FINISH_WITHIN_S)
        return left

    async def _last_receives(self) -> None:
        with anyio.move_on_after(_LAST_RECEIVES_S, shield=True):
            while self._under_way:  # noqa: ASYNC110 - whichever of several ends last
                await anyio.sleep(0.02)

    def _start_receives(self, tasks: anyio.abc.TaskGroup) -> None:
        if self._is_taken and not self._unsettled:
            return
        while self._under_way < self._target and len(self._waiting) < 10 * self._target:
            self._under_way += 1
            tasks.start_soon(self._receive)

    async def _receive(self) -> None:
        asked_s = self._clock()
        try:
            messages = await self._queue.receive(
                self._most(),
                visibility_s=VISIBILITY_S,
                wait_s=max(1, min(_LONGEST_POLL_S, int(self._empty_after_s))),
                with_attributes=self._as_event,
            )
            if self._is_closed:
                for message in messages:
                    self._hold.give_back(message.receipt_handle)
            elif not await self._take_messages(messages, asked_s):
                self._last_empty_s = asked_s
                self._target = max(1, self._target // 2)
        except FanoutError as error:
            self._fail(error)
        finally:
            self._under_way -= 1
            self._changed.set()

    def _most(self) -> int:
        if self._take is None or self._unsettled:
            return 10
        return max(1, min(10, self._take - len(self._spool)))

    async def _take_messages(self, messages: list[Message], asked_s: float) -> bool:
        """Number what is new; returns whether any of it is to be run."""
        if not messages:
            return False
        was_empty = not self._waiting
        known = self._spool.find([message.message_id for message in messages])
        fresh: dict[str, Message] = {}
        for message in messages:
            if message.message_id not in known:
                fresh[message.message_id] = message  # twice in one reply: the later receipt counts
        if self._take is not None:
            room = max(0, self._take - len(self._spool))
            for surplus in list(fresh)[room:]:
                self._hold.give_back(fresh.pop(surplus).receipt_handle)
        ready = []
        if fresh:
            first = self._spool.note(list(fresh))
            for seq, message in enumerate(fresh.values(), first):
                self._hold.take(seq, message.receipt_handle, asked_s=asked_s)
                ready.append((seq, message))
            if self._syncs_spool:
                self._syncing += 1
                try:
                    await anyio.to_thread.run_sync(self._spool.sync)
                finally:
                    self._syncing -= 1
        for message in messages:
            again = known.get(message.message_id)
            if again is not None and self._is_to_run(again, message, asked_s):
                ready.append((again, message))
        if not ready:
            return False
        self._last_new_s = self._clock()
        self._waiting += ready
        if was_empty:  # the engine waited for it
            if self._under_way >= self._target:
                self._target = min(_RECEIVERS_MOST, 2 * self._target)
            self._on_ready()
        return True

    def _is_to_run(self, seq: int, message: Message, asked_s: float) -> bool:
        """A message came again: whether its record is still to be sent."""
        if seq in self._hold:
            self._hold.take(seq, message.receipt_handle, asked_s=asked_s)
            return False
        if seq in self._settled.ok:
            self._hold.delete_receipt(seq, message.receipt_handle)
            return False
        if seq in self._unsettled:
            self._hold.take(seq, message.receipt_handle, asked_s=asked_s)
            self._unsettled.discard(seq)
            return True
        self._hold.keep_again(seq, message.receipt_handle, asked_s=asked_s)  # it failed, and was released
        return False

    # --- the end -------------------------------------------------------------------------------

    def _is_empty(self, now_s: float) -> bool:
        if self._waiting or self._syncing:
            return False
        if self._is_taken and not self._unsettled:
            return True
        if self._follow:
            return False
        hidden_until_s = max(self._hold.lost_s, self._queue.lost_receive_s)
        if self._unsettled:
            hidden_until_s = max(hidden_until_s, self._hidden_until_s)
        return self._last_empty_s >= hidden_until_s and now_s - self._last_new_s >= self._empty_after_s

    def _end(self) -> None:
        self._gone.extend(sorted(self._unsettled))
        self._unsettled.clear()
        self._has_ended = True
        self._on_ready()
        self._ended.set()

    def _fail(self, error: FanoutError) -> None:
        self._failure = self._failure or error
        self._has_ended = True
        self._on_ready()
        self._ended.set()

    # --- records -------------------------------------------------------------------------------

    def _record_of(self, seq: int, message: Message) -> InputRecord:
        body = message.body.encode("utf-8", "surrogatepass")
        if self._is_text:
            body = msgspec.json.encode(message.body)
        fault = None
        if (not self._as_event or self._selector is not None) and (problem := json_fault(body)) is not None:
            fault = ErrorDetail("InvalidJson", problem)
        record = record_of_item(self._selector, seq, Item(body, error=fault))
        if self._as_event and record.fault is None:
            record.identifier = message.message_id
            record.element = self._element(message, record.body if self._selector is not None else None)
        if record.fault is None and seq in self._settled.suspects:
            record.fault, record.fault_verdict = MAY_HAVE_RUN, Verdict.AMBIGUOUS
        return record

    def _element(self, message: Message, selected: bytes | None) -> bytes:
        if selected is not None:
            md5 = hashlib.md5(selected, usedforsecurity=False).hexdigest()
            message = msgspec.structs.replace(message, body=selected.decode(), md5_of_body=md5)
        return sqs_record(message, queue_arn=self._queue.arn, region=self._queue.region)

    def _gone_record(self, seq: int) -> InputRecord:
        may_have_run = seq in self._settled.may_have_run or seq in self._settled.suspects
        verdict = Verdict.AMBIGUOUS if may_have_run else Verdict.TRANSIENT
        return InputRecord(seq, b"", fault=GONE, fault_verdict=verdict)
