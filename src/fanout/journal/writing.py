"""When an outcome counts: once its line is written. How lines reach the file, and what if they cannot.

The event loop encodes a line into a buffer and goes on. A flusher hands what has gathered to a thread,
which writes it in one piece; another syncs the disk. A batch itself knows how much of it is written,
so that a cancelled flusher can neither lose a line nor write one twice.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from fanout.errors import JournalError
from fanout.journal.disk import AppendFile, Reserve
from fanout.journal.lines import append_line
from fanout.journal.marks import MarkFile
from fanout.journal.run_dir import OUTCOMES_FILE
from fanout.journal.samples import ENTRY_BYTES, SAMPLES_FILE, is_sampled, sample_entry
from fanout.model import Outcome

Fsync = Literal["second", "always", "never"]

BACKED_UP_BYTES = 4 * 1024 * 1024
GATHER_S = 0.02
SYNC_EVERY_S = 1.0
RETRY_EVERY_S = 1.0
MARK_CHUNK = 64
SYNCED_MARK_CHUNK = 256  # each one waits for the disk, so they are fewer


class _Batch:
    """Lines on their way to the file."""

    __slots__ = ("lines", "outcomes", "samples", "written_bytes")

    def __init__(self, lines: bytearray, outcomes: list[Outcome], samples: bytearray) -> None:
        self.lines = lines
        self.outcomes = outcomes
        self.samples = samples
        self.written_bytes = 0


class Journal:
    """The outcomes of a run, append-only. Made by ``open``; ``run`` writes what ``write`` gathers.

    ``failure`` is set once, when the disk is full or the file is gone; what can still be written is
    written, so that calls in flight keep their outcomes. ``on_commit`` is called in the event loop with
    the outcomes of a batch once the operating system has them (with ``always``: the disk).
    """

    def __init__(
        self,
        directory: Path,
        generation: int,
        fsync: Fsync,
        on_commit: Callable[[list[Outcome]], None] | None,
        on_failure: Callable[[JournalError], None] | None,
    ) -> None:
        """Open the files; ``open`` does so off the event loop."""
        self.failure: JournalError | None = None
        self._path = directory / OUTCOMES_FILE
        self._fsync = fsync
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._lines = bytearray()
        self._outcomes: list[Outcome] = []
        self._samples = bytearray()
        self._batches: deque[_Batch] = deque()  # handed to the thread
        self._batches_bytes = 0
        self._written: deque[_Batch] = deque()  # handed back by it
        self._io_lock = threading.Lock()
        self._fault: OSError | None = None  # what the threads met last
        self._is_dirty = False
        self._is_closed = False
        self._wake = anyio.Event()
        self._limiter = anyio.CapacityLimiter(2)  # one thread writes, one syncs
        with contextlib.ExitStack() as opened:
            self._mark_file = MarkFile(directory, generation)
            opened.callback(self._mark_file.close)
            try:
                self._file = AppendFile(self._path)
                opened.callback(self._file.close)
                self._samples_file = AppendFile(directory / SAMPLES_FILE, entry_bytes=ENTRY_BYTES)
            except OSError as error:
                raise self._error(error) from error
            self._reserve = Reserve(directory)
            opened.pop_all()
        self._mark_chunk = SYNCED_MARK_CHUNK if fsync == "always" else MARK_CHUNK
        self._next = self._mark_file.mark  # one more than the highest seq sent

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        generation: int = 0,
        fsync: Fsync = "second",
        on_commit: Callable[[list[Outcome]], None] | None = None,
        on_failure: Callable[[JournalError], None] | None = None,
    ) -> Journal:
        """Open a run's journal to go on writing; a last line cut short by a crash is cut off.

        The caller holds the directory's lock. Raises JournalError when it cannot be written.
        """
        return await anyio.to_thread.run_sync(cls, directory, generation, fsync, on_commit, on_failure)

    def write(self, outcome: Outcome) -> None:
        """Take an outcome. It is written within 50 ms while ``run`` runs, and at ``flush``."""
        is_first = not self._lines
        append_line(self._lines, outcome)
        if self._on_commit is not None:
            self._outcomes.append(outcome)
        if is_first:
            self._wake.set()

    def mark(self, seq: int) -> None:
        """Say that record ``seq`` is about to be sent. Raises JournalError when that cannot be kept.

        Costs a write once in 64 records, and must come before the call: a record above the mark is
        taken for one that never ran.
        """
        if seq >= self._next:
            self._next = seq + 1
            if seq >= self._mark_file.mark:
                self._write_mark(seq + self._mark_chunk)

    def sample(self, seq: int, payload: bytes) -> None:
        """Keep the hash of a record of the input, if it is one of the sample."""
        if is_sampled(seq):
            self._samples += sample_entry(seq, payload)

    @property
    def is_backed_up(self) -> bool:
        """Whether so much waits for the disk that no new record should be pulled."""
        return len(self._lines) + self._batches_bytes > BACKED_UP_BYTES

    @property
    def unwritten(self) -> int:
        """How many outcomes are not wholly in the file."""
        return self._lines.count(b"\n") + sum(
            batch.lines.count(b"\n", batch.written_bytes) for batch in self._batches
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
        """Write everything, and sync it unless told never to. What fails is told by ``failure``."""
        with anyio.CancelScope(shield=True):
            await self._write_out()
            await anyio.to_thread.run_sync(self._sync, limiter=self._limiter)
            self._tell()

    async def aclose(self) -> None:
        """Flush, make the mark exact, and close. Harmless the second time."""
        if self._is_closed:
            return
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(JournalError):
                self._write_mark(self._next)
            await self.flush()
            await anyio.to_thread.run_sync(self._close_files, limiter=self._limiter)

    def _write_mark(self, mark: int) -> None:
        try:
            self._mark_file.write(mark)
            if self._fsync == "always":
                self._mark_file.sync()
        except OSError as error:
            self._fail(self._error(error))
            raise self._error(error) from error
        except JournalError as error:
            self._fail(error)
            raise
        self._is_dirty = True

    async def _write_out(self) -> None:
        if self._lines or self._samples:
            self._batches.append(_Batch(self._lines, self._outcomes, self._samples))
            self._batches_bytes += len(self._lines)
            self._lines, self._outcomes, self._samples = bytearray(), [], bytearray()
        try:
            await anyio.to_thread.run_sync(self._write_batches, limiter=self._limiter)
        finally:
            self._take_back()
            self._tell()

    def _take_back(self) -> None:
        while self._written:
            batch = self._written.popleft()
            self._batches_bytes -= len(batch.lines)
            if self._on_commit is not None and batch.outcomes:
                self._on_commit(batch.outcomes)

    def _tell(self) -> None:
        if self._fault is not None:
            self._fail(self._error(self._fault))

    async def _sync_regularly(self) -> None:
        while True:
            await anyio.sleep(SYNC_EVERY_S)
            await anyio.to_thread.run_sync(self._sync, limiter=self._limiter)
            self._tell()

    def _write_batches(self) -> None:
        """In a thread: append every batch, and give it back."""
        with self._io_lock:
            try:
                while self._batches:
                    batch = self._batches[0]
                    self._append(batch)
                    if self._fsync == "always":
                        self._file.sync()
                    self._is_dirty = True
                    self._written.append(self._batches.popleft())
            except OSError as error:
                self._fault = error

    def _append(self, batch: _Batch) -> None:
        try:
            while batch.written_bytes < len(batch.lines):
                batch.written_bytes += self._file.append(memoryview(batch.lines)[batch.written_bytes :])
            self._samples_file.append(memoryview(batch.samples))  # one cut short is left out by its reader
            batch.samples = bytearray()
        except OSError as error:
            if not self._reserve.release_for(error):
                raise
            self._fault = error  # no new records, but these lines and those in flight have room
            self._append(batch)

    def _sync(self) -> None:
        """In a thread: put what is written on the disk itself, or find that the file is gone."""
        is_dirty, self._is_dirty = self._is_dirty, False
        try:
            self._file.check()
            if is_dirty and self._fsync != "never":
                self._file.sync()
                self._mark_file.sync()
        except OSError as error:
            self._fault = error

    def _fail(self, error: JournalError) -> None:
        if self.failure is None:
            self.failure = error
            if self._on_failure is not None:
                self._on_failure(error)

    def _error(self, error: OSError) -> JournalError:
        return JournalError(f"{self._path}: cannot be written: {error.strerror or error}")

    def _close_files(self) -> None:
        self._reserve.release()
        self._file.close()
        self._samples_file.close()
        self._mark_file.close()
