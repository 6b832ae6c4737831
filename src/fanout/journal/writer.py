"""The writer of a journal: an outcome counts once its line is written.

The event loop encodes lines into a buffer, some at once, and goes on. A flusher hands what has gathered to
a thread, which writes it in one piece; another syncs the disk.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import anyio
import anyio.to_thread

from fanout.errors import JournalError
from fanout.journal.block import OutcomeBlock
from fanout.journal.files import JournalFiles, PendingLines
from fanout.journal.run_dir import OUTCOMES_FILE
from fanout.journal.samples import is_sampled, sample_entry
from fanout.model import Outcome
from fanout.payload import append_lines

Fsync = Literal["second", "always", "never"]

BACKED_UP_BYTES = 1024 * 1024
ENCODED_AT_ONCE = 16  # outcomes of single calls
LONG_BYTES = 4_096
GATHER_S = 0.02
SYNC_EVERY_S = 1.0
RETRY_EVERY_S = 1.0
MARK_CHUNK = 16  # the records of one that were not sent count as may-have-run: few, then
SYNCED_MARK_CHUNK = 256  # each one waits for the disk, so they are fewer


class SyncListener(Protocol):
    """Waits for outcomes that are on the disk itself."""

    def before_sync(self) -> None:
        """Called in a thread before each sync: what must be on the disk no later than the outcomes."""

    def on_synced(self, outcomes: list[Outcome]) -> None:
        """Called in the event loop: these outcomes outlive a loss of power."""


class Journal:
    """The outcomes of a run, append-only. Made by ``open``; ``run`` writes what ``write`` gathers.

    ``failure`` is set once, when the disk is full or the file is gone; what can still be written is
    written, so that calls in flight keep their outcomes. ``on_commit`` is called in the event loop with
    the outcomes of a batch once the operating system has them (with ``always``: the disk); after them
    ``on_batch``, with the length in bytes of the journal that they are in.
    """

    def __init__(
        self,
        directory: Path,
        generation: int,
        fsync: Fsync,
        on_commit: Callable[[Sequence[Outcome]], None] | None,
        on_failure: Callable[[JournalError], None] | None,
        sync_listener: SyncListener | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        """Open the files; ``open`` does so off the event loop."""
        self.failure: JournalError | None = None
        self._path = directory / OUTCOMES_FILE
        self._fsync = fsync
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._sync_listener = sync_listener
        self._unsynced: list[Outcome] = []  # written; kept for the listener alone
        self._fresh: list[Outcome] = []  # that are not among the lines yet
        self._lines = bytearray()
        self._outcomes: list[Outcome] = []
        self._blocks: list[OutcomeBlock] = []
        self._samples = bytearray()
        self._batches: deque[PendingLines] = deque()  # handed to the thread
        self._batches_bytes = 0
        self._written: deque[PendingLines] = deque()  # handed back by it
        self._is_closed = False
        self._wake = anyio.Event()
        self._limiter = anyio.CapacityLimiter(2)  # one thread writes, one syncs
        try:
            self._files = JournalFiles(directory, generation, syncs_always=fsync == "always")
        except OSError as error:
            raise self._error(error) from error
        self._on_batch = on_batch
        self._committed_bytes = self._files.outcome_bytes
        self._mark_chunk = SYNCED_MARK_CHUNK if fsync == "always" else MARK_CHUNK
        self._marked = self._files.mark  # what the mark on disk says
        self._next = self._marked  # one more than the highest seq sent

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        generation: int = 0,
        fsync: Fsync = "second",
        on_commit: Callable[[Sequence[Outcome]], None] | None = None,
        on_failure: Callable[[JournalError], None] | None = None,
        sync_listener: SyncListener | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> Journal:
        """Open a run's journal to go on writing; a last line cut short by a crash is cut off.

        The caller holds the directory's lock. Raises JournalError when it cannot be written.
        """
        return await anyio.to_thread.run_sync(
            cls, directory, generation, fsync, on_commit, on_failure, sync_listener, on_batch
        )

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes. They are written in one piece within 50 ms while ``run`` runs, and at ``flush``."""
        is_first = not self._lines and not self._fresh
        if type(outcomes) is OutcomeBlock:
            self._encode()
            self._lines += outcomes.lines
            self._blocks.append(outcomes)
            if is_first:
                self._wake.set()
            return
        fresh = self._fresh
        fresh += outcomes
        if self._on_commit is not None or self._sync_listener is not None:
            self._outcomes += outcomes
        # One that is long, or failed and so has its input, is counted at once among what waits for the disk.
        is_common = len(outcomes) == 1 and (raw := fresh[-1].output_raw) is not None and len(raw) < LONG_BYTES
        if not is_common or len(fresh) >= ENCODED_AT_ONCE:
            self._encode()
        if is_first:
            self._wake.set()

    def mark(self, seq: int) -> None:
        """Say that record ``seq`` is about to be sent. Raises JournalError when that cannot be kept.

        Costs a write once in 16 records, and must come before the call: a record above the mark is
        taken for one that never ran.
        """
        if seq >= self._next:
            self._next = seq + 1
            if seq >= self._marked:
                self._write_mark(seq + self._mark_chunk)

    def allow(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Say that workers may send records of these ranges. Raises JournalError as ``mark`` does."""
        with self._failing():
            self._files.allow(ranges)

    def sample(self, seq: int, payload: bytes) -> None:
        """Keep the hash of a record of the input, if it is one of the sample."""
        if is_sampled(seq):
            self._samples += sample_entry(seq, payload)

    @property
    def is_backed_up(self) -> bool:
        """True while so much waits for the disk that no new record should be pulled."""
        return len(self._lines) + self._batches_bytes > BACKED_UP_BYTES

    @property
    def unwritten(self) -> int:
        """The number of outcomes that are not wholly in the file."""
        return (
            len(self._fresh)
            + self._lines.count(b"\n")
            + sum(batch.lines.count(b"\n", batch.written_bytes) for batch in self._batches)
        )

    async def run(self) -> None:
        """Write and sync until cancelled. After a failure it goes on trying, once a second."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sync_regularly)
            while True:
                await self._wake.wait()
                await anyio.sleep(GATHER_S)
                self._wake = anyio.Event()
                await self._write_out()
                if self._batches:  # the disk refused
                    await anyio.sleep(RETRY_EVERY_S)
                    self._wake.set()

    async def flush(self) -> None:
        """Write everything, and sync it unless ``fsync`` is never. ``failure`` says what failed."""
        with anyio.CancelScope(shield=True):
            await self._write_out()
            await self._sync()

    async def aclose(self) -> None:
        """Flush, make the mark exact, and close. Harmless the second time."""
        if self._is_closed:
            return
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(JournalError):
                self._write_mark(self._next)
            await self.flush()
            await anyio.to_thread.run_sync(self._files.close, limiter=self._limiter)

    def _write_mark(self, mark: int) -> None:
        with self._failing():
            self._files.write_mark(mark)
            self._marked = mark

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Make a failed write the journal's failure, and a JournalError."""
        try:
            yield
        except OSError as error:
            self._fail(self._error(error))
            raise self._error(error) from error
        except JournalError as error:
            self._fail(error)
            raise

    def _encode(self) -> None:
        lines = bytearray()
        append_lines(lines, self._fresh)
        self._fresh = []  # as in ``_write_out``
        self._lines += lines

    async def _write_out(self) -> None:
        self._encode()
        if self._lines or self._samples:
            pending = PendingLines(self._lines, self._outcomes, self._samples, self._blocks)
            n_bytes, lines, samples = len(pending.lines), bytearray(), bytearray()
            # No call in between: an interrupt comes before or after, or lines would be written twice.
            self._batches += (pending,)
            self._lines, self._outcomes, self._samples, self._blocks = lines, [], samples, []
            self._batches_bytes += n_bytes
        try:
            await anyio.to_thread.run_sync(
                self._files.write, self._batches, self._written, limiter=self._limiter
            )
        finally:
            self._take_back()
            self._tell()

    def _take_back(self) -> None:
        while self._written:
            batch = self._written.popleft()
            self._batches_bytes -= len(batch.lines)
            self._committed_bytes += len(batch.lines)
            if self._sync_listener is not None:
                self._unsynced += batch.outcomes
                for block in batch.blocks:
                    self._unsynced += block
            if self._on_commit is not None and batch.outcomes:
                self._on_commit(batch.outcomes)
            for block in batch.blocks:
                if self._on_commit is not None:
                    self._on_commit(block)
            if self._on_batch is not None:
                self._on_batch(self._committed_bytes)

    def _tell(self) -> None:
        if self._files.fault is not None:
            self._fail(self._error(self._files.fault))

    async def _sync_regularly(self) -> None:
        while True:
            await anyio.sleep(SYNC_EVERY_S)
            await self._sync()

    async def _sync(self) -> None:
        syncs, listener = self._fsync != "never", self._sync_listener
        outcomes, self._unsynced = self._unsynced, []
        try:
            if listener is not None:
                await anyio.to_thread.run_sync(listener.before_sync, limiter=self._limiter)
            await anyio.to_thread.run_sync(self._files.sync, syncs, limiter=self._limiter)
        except JournalError as error:
            self._fail(error)
            return
        except BaseException:  # cancelled: the next sync covers them
            self._unsynced[:0] = outcomes
            raise
        self._tell()
        # After a failure nobody knows what the disk has.
        if listener is not None and outcomes and syncs and self.failure is None:
            listener.on_synced(outcomes)

    def _fail(self, error: JournalError) -> None:
        if self.failure is None:
            self.failure = error
            if self._on_failure is not None:
                self._on_failure(error)

    def _error(self, error: OSError) -> JournalError:
        path = error.filename or self._path  # of a file beside it, where that cannot be opened
        return JournalError(f"{path} cannot be written: {error.strerror or error}")
