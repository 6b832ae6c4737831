"""Which record of a run goes out next: of an input, of an iterable, or of an earlier run's failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterator
from typing import Any, Protocol

import msgspec

from fanout.dispatcher import Job, PullFeed
from fanout.dispatcher.engine import Engine
from fanout.dispatcher.feeds import DEADLINE_MESSAGE, NOTHING
from fanout.dispatcher.jobs import JobMaker
from fanout.errors import FanoutError, JournalError, ReplyLost, SourceError
from fanout.model import ErrorDetail, Outcome, Record, Verdict
from fanout.inputs import Item, SelectionFailed, Selector
from fanout.model import OnChunk

_LOW_WATER = 256  # records at hand below which the next batch is fetched
MAY_HAVE_RUN = ErrorDetail(
    "MayHaveRun",
    "it may have been sent before the run was cut off, and was not sent again (--may-have-run skip)",
)


class Ledger(Protocol):
    """What a run writes outcomes to, as far as a feed is concerned."""

    @property
    def is_backed_up(self) -> bool:
        """Whether outcomes wait to be written in such a number that no new call should start."""

    def write(self, outcome: Outcome) -> None:
        """Take one outcome."""

    def mark(self, seq: int) -> None:
        """The record with this seq is about to be sent."""


class RunFeed(PullFeed):
    """A feed whose outcomes go to a ledger. Subclasses say what is the next job.

    ``not_sent`` collects the seqs that were pulled and certainly did not run when the run stopped.
    """

    def __init__(
        self, engine: Engine, source: Iterator[Any] | AsyncIterator[Any], jobs: JobMaker, ledger: Ledger
    ) -> None:
        super().__init__(engine, source, jobs.of_payload)
        self.jobs = jobs
        self.ledger = ledger
        self.finished = asyncio.Event()
        self.not_sent: list[int] = []
        self.refused: list[int] = []  # seqs whose outcome is the refusal that stopped the run
        self.is_cut = False
        self.open_output: Callable[[int], OnChunk] | None = None
        self.close_output: Callable[[Outcome], None] | None = None

    def has_room(self) -> bool:
        return not self.ledger.is_backed_up

    def deliver(self, job: Job, outcome: Outcome) -> None:
        if self.is_cut and outcome.error is not None and outcome.error.type == "Cancelled":
            return  # cut off by the user: it stays without a line, as one that may have run
        if self.close_output is not None and job.template.streaming:
            try:
                self.close_output(outcome)
            except JournalError as problem:
                self._stop_for(problem)
        error = outcome.error
        if self.fatal is not None and error is not None and error.type == self.fatal.code:
            self.refused.append(job.seq)
        self.ledger.write(outcome)

    def give_up(self, job: Job) -> None:
        self.not_sent.append(job.seq)

    def expire(self) -> None:
        """The deadline has passed: pull nothing more, and end what waits for another attempt."""
        self.close()
        self.engine.give_up_retries(self, error=ErrorDetail("DeadlineExceeded", DEADLINE_MESSAGE))

    def _is_marked(self, job: Job) -> bool:
        """Tell the ledger that a record may be sent now; if it cannot keep that, nothing is sent."""
        try:
            self.ledger.mark(job.seq)
        except JournalError as error:
            self.not_sent.append(job.seq)
            self._stop_for(error)
            return False
        return True

    def on_finished(self) -> None:
        super().on_finished()
        self.engine.forget(self)
        self.finished.set()

    def on_broken(self, error: BaseException) -> None:
        self.failure = self.failure or FanoutError(f"the dispatcher stopped: {error!r}")
        self.finished.set()

    def chunk_writer(self, job: Job) -> OnChunk | None:
        if self.open_output is None:
            return None
        write = self.open_output(job.seq)

        async def write_or_stop(chunk: bytes) -> None:
            try:
                await write(chunk)
            except JournalError as error:  # the disk is full: what comes after would be lost too
                self._stop_for(error)
                raise ReplyLost(str(error)) from error

        return write_or_stop

    def _stop_for(self, error: JournalError) -> None:
        self.failure = self.failure or error
        self.close()


class InputFeed(RunFeed):
    """Records of a source, in batches, or payloads of an iterable, one by one; those of ``skip`` left out.

    ``suspects`` are seqs that may have run before a crash: with ``skips_suspects`` they become
    ``unknown`` outcomes instead of being sent.
    """

    def __init__(
        self,
        engine: Engine,
        source: Iterator[Any] | AsyncIterator[Any],
        jobs: JobMaker,
        ledger: Ledger,
        *,
        is_batched: bool,
        selector: Selector | None = None,
        take: int | None = None,
        skip: Container[int] = (),
        suspects: Container[int] = (),
        on_record: Callable[[int, bytes], None] | None = None,
    ) -> None:
        super().__init__(engine, source, jobs, ledger)
        self._is_batched = is_batched
        self._selector = None if selector is None or selector.is_identity else selector
        self._take = take
        self._skip = skip
        self._suspects = suspects
        self._skips_any = skip != () or suspects != ()
        self._on_record = on_record

    def stock(self, payload: Any) -> None:
        if self._is_batched:
            self.at_hand.extend(payload)
        else:
            self.at_hand.append(payload)

    def pull(self, now_s: float) -> Job | None:  # noqa: ARG002 - Feed has it
        while not self.is_closed and not self.ledger.is_backed_up:
            seq = self.pulled
            if self._take is not None and seq >= self._take:
                self.at_hand.clear()
                self.close()
                return None
            found = self._next_found()
            if found is NOTHING:
                return None
            if self._on_record is not None and isinstance(found, Item) and not self._is_as_before(seq, found):
                return None
            if self._skips_any and seq in self._skip:
                continue
            job = self._job_of(seq, found)
            if self._skips_any and seq in self._suspects and job.fault is None:
                job.fault, job.fault_verdict = MAY_HAVE_RUN, Verdict.AMBIGUOUS
            return job if self._is_marked(job) else None
        return None

    def _is_as_before(self, seq: int, item: Item) -> bool:
        """Show a record to who compares it with the one that a run began with."""
        assert self._on_record is not None
        try:
            self._on_record(seq, item.payload)
        except SourceError as error:
            self.failure = self.failure or error
            self.close()
            return False
        return True

    def _next_found(self) -> Any:
        """The next item or payload, counted; NOTHING when none is at hand."""
        ahead = self.at_hand
        if not ahead:
            if self._sync is not None and not self.has_ended:
                found = self.next_payload()
                self.pulled += found is not NOTHING
                return found
            self._is_wanted.set()
            if self.has_ended:
                self._check_finished()
            return NOTHING
        if len(ahead) < _LOW_WATER and self._is_batched:
            self._is_wanted.set()
        self.pulled += 1
        return ahead.popleft()

    def _job_of(self, seq: int, found: Any) -> Job:
        if not isinstance(found, Item):
            return self.jobs.of_payload(self, seq, found)
        if found.error is not None or self._selector is None:
            return self.jobs.of_bytes(self, seq, found.payload, line=found.line, fault=found.error)
        try:
            body, key, durable_name = self._selector.apply(found.payload)
        except SelectionFailed as error:
            fault = ErrorDetail("SelectionFailed", str(error))
            return self.jobs.of_bytes(self, seq, found.payload, line=found.line, fault=fault)
        own = None if durable_name is None else Record(None, durable_name=durable_name)
        return self.jobs.of_bytes(self, seq, body, key=key, line=found.line, own=own)


class Again(msgspec.Struct):
    """A record of an earlier generation that is to be sent again."""

    seq: int
    payload: bytes
    key: str | None = None
    line: int | None = None
    own: Record | None = None
    is_no_json: bool = False
    is_suspect: bool = False


class RedriveFeed(RunFeed):
    """Records that did not succeed before, from the journal alone."""

    def pull(self, now_s: float) -> Job | None:  # noqa: ARG002
        if self.is_closed or self.ledger.is_backed_up or self.has_ended:
            return None
        again: Again = self.next_payload()
        if again is NOTHING:
            return None
        self.pulled += 1
        fault = ErrorDetail("InvalidJson", "the record is no JSON") if again.is_no_json else None
        job = self.jobs.of_bytes(
            self, again.seq, again.payload, key=again.key, line=again.line, own=again.own, fault=fault
        )
        if again.is_suspect and job.fault is None:
            job.fault, job.fault_verdict = MAY_HAVE_RUN, Verdict.AMBIGUOUS
        return job if self._is_marked(job) else None
