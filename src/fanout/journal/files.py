"""The files of a journal, written together by threads, and their behaviour on a full disk.

Whoever waits for such a thread may be cancelled and come back with another: a batch itself knows how much
of it is written, so that no line is lost or written twice.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from fanout.journal.block import OutcomeBlock
from fanout.journal.disk import AppendFile, Reserve
from fanout.journal.marks import MarkFile
from fanout.journal.run_dir import OUTCOMES_FILE
from fanout.journal.samples import ENTRY_BYTES, SAMPLES_FILE
from fanout.journal.windows import WindowFile
from fanout.model import Outcome


class PendingLines:
    """Lines on their way to the file."""

    __slots__ = ("blocks", "lines", "outcomes", "samples", "written_bytes")

    def __init__(
        self,
        lines: bytearray,
        outcomes: list[Outcome],
        samples: bytearray,
        blocks: Sequence[OutcomeBlock] = (),
    ) -> None:
        self.blocks = blocks  # of workers; their lines are among the lines
        self.lines = lines
        self.outcomes = outcomes
        self.samples = samples
        self.written_bytes = 0


class JournalFiles:
    """Outcomes, samples and the mark of a run. ``fault`` is what the disk refused last, if it ever did.

    Opening raises OSError, and JournalError for a mark that cannot be read or written.
    """

    def __init__(self, directory: Path, generation: int, *, syncs_always: bool) -> None:
        self.fault: OSError | None = None
        self._directory, self._generation = directory, generation
        self._windows: WindowFile | None = None  # where there are workers
        self._syncs_always = syncs_always
        self._is_dirty = False
        self._is_closed = False
        self._write_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        with contextlib.ExitStack() as opened:
            self._mark_file = MarkFile(directory, generation)
            opened.callback(self._mark_file.close)
            self._outcomes = AppendFile(directory / OUTCOMES_FILE)
            opened.callback(self._outcomes.close)
            self._samples = AppendFile(directory / SAMPLES_FILE, entry_bytes=ENTRY_BYTES)
            self._reserve = Reserve(directory)
            self.outcome_bytes = self._outcomes.size  # when it was opened
            opened.pop_all()

    @property
    def mark(self) -> int:
        """The mark on disk."""
        return self._mark_file.mark

    def allow(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Keep that records of these ranges may be sent, on the disk itself with ``syncs_always``."""
        if self._windows is None:
            self._windows = WindowFile(self._directory, self._generation)
        self._windows.allow(ranges)
        if self._syncs_always:
            self._windows.sync()

    def write_mark(self, mark: int) -> None:
        """Set the mark, at once. Raises JournalError or OSError."""
        self._mark_file.write(mark)
        if self._syncs_always:
            self._mark_file.sync()
        self._is_dirty = True

    def write(self, batches: deque[PendingLines], written: deque[PendingLines]) -> None:
        """Append every batch and move it to ``written``; what is refused stays, and sets ``fault``."""
        with self._write_lock:
            try:
                while batches:
                    self._append(batches[0])
                    if self._syncs_always:
                        self._outcomes.sync()
                    self._is_dirty = True
                    written.append(batches.popleft())
            except OSError as error:
                self.fault = error

    def sync(self, to_disk: bool) -> None:
        """Put what is written on the disk itself, and see whether the file is still there."""
        with self._sync_lock:
            if self._is_closed:
                return
            is_dirty, self._is_dirty = self._is_dirty, False
            try:
                self._outcomes.check()
                if is_dirty and to_disk:
                    self._outcomes.sync()
                    self._mark_file.sync()
                    if self._windows is not None:
                        self._windows.sync()
            except OSError as error:
                self.fault = error

    def close(self) -> None:
        """Close every file and give up the reserve."""
        with self._write_lock, self._sync_lock:
            self._is_closed = True
            self._reserve.release()
            self._outcomes.close()
            self._samples.close()
            self._mark_file.close()
            if self._windows is not None:
                self._windows.close()

    def _append(self, batch: PendingLines) -> None:
        try:
            while batch.written_bytes < len(batch.lines):
                batch.written_bytes += self._outcomes.append(memoryview(batch.lines)[batch.written_bytes :])
            self._samples.append(memoryview(batch.samples))  # one cut short is left out by its reader
            batch.samples = bytearray()
        except OSError as error:
            if not self._reserve.release_for(error):
                raise
            self.fault = error  # no new records, but these lines and those in flight have room
            self._append(batch)
