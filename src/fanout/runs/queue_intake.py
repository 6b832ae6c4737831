"""The intake of a run over a queue: messages become records, under numbers that outlive the process.

A message is deleted once its record succeeded and the line that says so is on the disk. One that comes
again has the number that it had: what is finished is not run again, what failed is held until the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import anyio
import anyio.abc

from fanout.dispatcher.record import InputRecord
from fanout.errors import FanoutError
from fanout.inputs import Selector
from fanout.model import Outcome
from fanout.queues.hold import VISIBILITY_S, Hold
from fanout.queues.message import Message
from fanout.queues.spool import MessageSpool
from fanout.runs.queue_receives import Receives, Receiving
from fanout.runs.queue_records import QueueRecords, Settled

EMPTY_AFTER_S = 20.0
_LOOK_EVERY_S = 0.25
_FINISH_WITHIN_S = 30.0


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
        self._hold = hold
        self._spool = spool
        self._clock = clock
        self._take = take
        self._follow = follow
        self._syncs_spool = syncs_spool
        self._settled = known = settled or Settled()
        self._records = QueueRecords(queue, known, selector=selector, as_event=as_event, is_text=is_text)
        self._receives = Receives(
            queue,
            clock=clock,
            take=self._take_or_give_back,
            on_end=self._look,
            on_failure=self._fail,
            empty_after_s=empty_after_s,
            with_attributes=as_event,
        )
        # Read, and without an outcome: they are awaited.
        self._unsettled = {
            seq for seq in range(len(spool)) if seq not in known.ok and seq not in known.failed
        }
        self._waiting: deque[tuple[int, Message]] = deque()
        self._gone: deque[int] = deque()
        self._syncing = 0  # receives whose messages wait for their numbers to be on the disk
        self._is_wanted = False
        self._is_closed = False
        self._has_ended = False
        self._changed = anyio.Event()
        self._ended = anyio.Event()
        self._on_ready: Callable[[], None] = lambda: None
        self._failure: FanoutError | None = None
        now_s = clock()
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
        """The number of records, once the queue counts as empty or ``take`` is reached; None before."""
        return len(self._spool) if self._has_ended or self._is_taken else None

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
            if len(self._waiting) < 5 * self._receives.target:
                self._look()
            if not self._hold.is_mine(seq):
                self._hold.drop(seq)
                self._unsettled.add(seq)
                continue
            self.handed_out += 1
            return self._records.of(seq, message)
        if self._gone:
            self.handed_out += 1
            return self._records.gone(self._gone.popleft())
        if not self._has_ended:
            self._look()
        return None

    async def fill(self, on_ready: Callable[[], None]) -> None:
        """Wait for the end; ``serve`` receives."""
        self._on_ready = on_ready
        self._is_wanted = True
        self._receives.note_new()
        self._look()
        try:
            await self._ended.wait()
        finally:
            self._on_ready = lambda: None

    async def aclose(self) -> None:
        """Receive nothing more."""
        self._is_closed = True
        self._look()

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
                    if self._unsettled or not self._is_taken:
                        self._receives.fill(tasks, self._most, lambda: len(self._waiting))
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
        await self._receives.last()
        self.release(seq for seq, _ in self._waiting)
        self._left = left = self._hold.failed
        await self._hold.finish(_FINISH_WITHIN_S)
        if left and self._receives.are_under_way:  # receives that still wait take what was just given back
            await self._receives.last()
            await self._hold.finish(_FINISH_WITHIN_S)
        return left

    def _look(self) -> None:
        """``serve`` looks again at what there is to do."""
        self._changed.set()

    def _most(self) -> int:
        if self._take is None or self._unsettled:
            return 10
        return max(1, min(10, self._take - len(self._spool)))

    async def _take_or_give_back(self, messages: list[Message], asked_s: float) -> bool:
        if not self._is_closed:
            return await self._take_messages(messages, asked_s)
        for message in messages:
            self._hold.give_back(message.receipt_handle)
        return True  # which says nothing of the queue

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
        self._receives.note_new()
        self._waiting += ready
        if was_empty:  # the engine waited for it
            self._receives.grow()
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
        hidden_until_s = self._hold.lost_s
        if self._unsettled:
            hidden_until_s = max(hidden_until_s, self._hidden_until_s)
        return self._receives.show_empty(now_s, hidden_until_s=hidden_until_s)

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
