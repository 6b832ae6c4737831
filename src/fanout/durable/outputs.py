"""Where streamed replies go: one file a record under ``outputs/``, written as the chunks come."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import anyio.to_thread

from fanout.model import Outcome
from fanout.transports import OnChunk

FOLDER = "outputs"


class OutputFiles:
    """The files of a run directory's streamed replies. A retry of a record begins its file again."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._open: dict[int, IO[bytes]] = {}

    def open(self, seq: int) -> OnChunk:
        """Where the chunks of one attempt go. Each is written in a thread before the next is read."""
        self._shut(seq)

        async def write(chunk: bytes) -> None:
            await anyio.to_thread.run_sync(self._write, seq, chunk)

        return write

    def close(self, outcome: Outcome) -> None:
        """The record is finished: its outcome names the file."""
        self._shut(outcome.seq)
        if (self._folder / str(outcome.seq)).exists():
            outcome.output_file = f"{FOLDER}/{outcome.seq}"

    def _write(self, seq: int, chunk: bytes) -> None:
        file = self._open.get(seq)
        if file is None:
            file = self._open[seq] = (self._folder / str(seq)).open("wb")
        file.write(chunk)

    def _shut(self, seq: int) -> None:
        file = self._open.pop(seq, None)
        if file is not None:
            file.close()
