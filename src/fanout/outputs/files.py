"""Files of streamed replies: one a record under ``outputs/``, written as the chunks come."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import IO

import anyio.to_thread

from fanout.errors import JournalError
from fanout.model import OnChunk, Outcome
from fanout.private_files import DIRECTORY_MODE, opener, remove_if_possible

FOLDER = "outputs"


class OutputFiles:
    """The files of a run directory's streamed replies. Each attempt of a record begins its file again.

    Writing raises JournalError, in one line, when the disk is full or gone.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / FOLDER
        self._open: dict[int, IO[bytes]] = {}

    def open(self, seq: int) -> OnChunk:
        """A writer for the chunks of one attempt. Each is written in a thread before the next is read."""
        self._remove(seq)

        async def write(chunk: bytes) -> None:
            await anyio.to_thread.run_sync(self._write, seq, chunk)

        return write

    def close(self, outcome: Outcome) -> None:
        """The record is finished: its outcome names the file that its last attempt wrote, if it did."""
        if outcome.attempts == 0:  # rejected unsent: nothing of an earlier generation is its reply
            self._remove(outcome.seq)
            return
        if outcome.ok and outcome.seq not in self._open:
            self._write(outcome.seq, b"")  # an empty reply is a reply
        self._shut(outcome.seq)
        if self._path(outcome.seq).exists():
            outcome.output_file = f"{FOLDER}/{outcome.seq}"

    def _write(self, seq: int, chunk: bytes) -> None:
        try:
            file = self._open.get(seq)
            if file is None:
                self._folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)  # not before: a run may never begin
                file = self._open[seq] = open(  # noqa: SIM115 - Path.open takes no opener; kept open
                    self._path(seq), "wb", opener=opener
                )
            file.write(chunk)
            file.flush()  # a chunk that does not fit is this reply's end, while its call still knows
        except OSError as error:
            raise self._unwritable(seq, error) from error

    def _remove(self, seq: int) -> None:
        with suppress(JournalError):  # what it held is of no use
            self._shut(seq)
        remove_if_possible(self._path(seq))

    def _shut(self, seq: int) -> None:
        file = self._open.pop(seq, None)
        if file is not None:
            try:
                file.close()  # once more what did not fit; it is closed all the same
            except OSError as error:
                raise self._unwritable(seq, error) from error

    def _unwritable(self, seq: int, error: OSError) -> JournalError:
        return JournalError(f"{self._path(seq)} cannot be written: {error.strerror}")

    def _path(self, seq: int) -> Path:
        return self._folder / str(seq)
