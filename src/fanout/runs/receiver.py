"""The receiver of a run's outcomes: marks, the ledger, files of streamed replies, and what stays pending."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

from fanout.dispatcher import Call, InputRecord
from fanout.errors import FanoutError, JournalError, ReplyLost
from fanout.model import ErrorDetail, OnChunk, Outcome
from fanout.outputs.files import OutputFiles
from fanout.runs.ledger import Ledger


class RunReceiver:
    """Writes outcomes to a ledger.

    ``not_sent`` collects the seqs that were pulled and certainly did not run when the run stopped;
    ``refused`` those whose outcome is the refusal that stopped it. ``stop`` is called when the feed must
    pull nothing more; ``calls_left`` says how many more calls may be out, where there is a spending cap,
    and ``successes_left`` how many more successes are wanted, where so many are enough.
    ``on_delivered`` hears of outcomes when their calls end, however long the ledger holds them.
    """

    def __init__(
        self,
        ledger: Ledger,
        outputs: OutputFiles | None,
        stop: Callable[[], None],
        calls_left: Callable[[], int] | None = None,
        successes_left: Callable[[], int] | None = None,
        on_delivered: Callable[[Sequence[Outcome]], None] | None = None,
    ) -> None:
        self.calls_left = calls_left
        self.successes_left = successes_left
        self._on_delivered = on_delivered
        self.ledger = ledger
        self.finished = asyncio.Event()
        self.not_sent: list[int] = []
        self.refused: list[int] = []
        self.delivered = 0
        self.failure: BaseException | None = None
        self.is_abandoned = False
        self._outputs = outputs
        self._stop = stop

    def cap_calls(self, calls_left: Callable[[], int] | None) -> None:
        """Another spending cap, or none."""
        self.calls_left = calls_left

    @property
    def has_room(self) -> bool:
        return self.room > 0

    def admit(self, record: InputRecord) -> bool:
        """Tell the ledger that a record may be sent now; if it cannot keep that, nothing is sent."""
        return self.admit_several((record,))

    @property
    def room(self) -> int:
        """Records that may be pulled at once now."""
        if self.ledger.is_backed_up:
            return 0
        return sys.maxsize if self.calls_left is None else self.calls_left()

    def admit_several(self, records: Sequence[InputRecord]) -> bool:
        """``admit`` for several, in order: one mark is for all."""
        try:
            self.ledger.mark(records[-1].seq)
        except JournalError as error:
            self.not_sent.extend(record.seq for record in records)
            self._fail(error)
            return False
        return True

    def admit_window(self, ranges: Sequence[tuple[int, int]]) -> bool:
        """Tell the ledger that a worker may send these records; if it cannot keep that, none may be sent."""
        try:
            self.ledger.allow(ranges)
        except JournalError as error:
            self._fail(error)
            return False
        return True

    def deliver_block(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes that a worker brought, or successes of calls that ended together."""
        self.delivered += len(outcomes)
        self.ledger.write(outcomes)
        if self._on_delivered is not None:
            self._on_delivered(outcomes)

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:
        error = outcomes[0].error
        if error is not None:
            if error.type == "Cancelled" and outcomes[0].status == "unknown":
                return  # cut off, whatever ended the run: it stays without a line, as one that may have run
            fatal = call.feed.fatal
            if fatal is not None and error.type == fatal.code:
                self.refused.extend(outcome.seq for outcome in outcomes)
        if self._outputs is not None and call.template.streaming:
            for outcome in outcomes:
                try:
                    self._outputs.close(outcome)
                except JournalError as problem:
                    self._fail(problem)
        self.delivered += len(outcomes)
        self.ledger.write(outcomes)
        if self._on_delivered is not None:
            self._on_delivered(outcomes)

    def give_up(self, call: Call, undelivered: Callable[[ErrorDetail], list[Outcome]]) -> None:  # noqa: ARG002
        self.not_sent.extend(record.seq for record in call.records)

    def end(self) -> None:
        self.finished.set()

    def break_off(self, error: BaseException) -> None:
        self.failure = self.failure or FanoutError(f"the dispatcher stopped: {error!r}")
        self.finished.set()

    def chunk_writer(self, call: Call) -> OnChunk | None:
        if self._outputs is None:
            return None
        write = self._outputs.open(call.records[0].seq)

        async def write_or_stop(chunk: bytes) -> None:
            try:
                await write(chunk)
            except JournalError as error:  # the disk is full: what comes after would be lost too
                self._fail(error)
                raise ReplyLost(str(error)) from error

        return write_or_stop

    def _fail(self, error: JournalError) -> None:
        self.failure = self.failure or error
        self._stop()
