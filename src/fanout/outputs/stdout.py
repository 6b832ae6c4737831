"""Outcomes on standard output as JSON Lines, where no run directory keeps them."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence

import anyio

from fanout.model import Outcome
from fanout.payload import append_line

BACKED_UP_BYTES = 1024 * 1024
BACKED_UP_HELD = 10_000  # outcomes waiting for one before them
GATHER_S = 0.01


class StdoutSink:
    """Outcomes as lines on a file descriptor, in order of finishing or, with ``keep_order``, of the input.

    A slow reader makes ``is_backed_up`` true and holds up nothing else. A reader that goes away, as
    ``head`` does, sets ``closed``: what comes after that is dropped. ``on_commit`` is called in the
    event loop with the outcomes of each piece written, ``on_failure`` once with what ended the writing.
    """

    def __init__(
        self,
        *,
        descriptor: int = 1,
        keep_order: bool = False,
        on_commit: Callable[[list[Outcome]], None] | None = None,
        on_failure: Callable[[OSError], None] | None = None,
    ) -> None:
        self.failure: OSError | None = None
        self._descriptor = descriptor
        self._keep_order = keep_order
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._held: dict[int, Outcome] = {}
        self._next_seq = 0
        self._lines = bytearray()
        self._outcomes: list[Outcome] = []
        self._sent: asyncio.Future[OSError | None] | None = None  # the piece that the thread has
        self._sent_bytes = 0
        self._pieces: queue.SimpleQueue[tuple[asyncio.Future[OSError | None], bytearray] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._wake = anyio.Event()

    @property
    def closed(self) -> bool:
        """True once the reader has gone away."""
        return isinstance(self.failure, BrokenPipeError)

    @property
    def is_backed_up(self) -> bool:
        """True while the reader is so far behind that no new record should be pulled."""
        return len(self._lines) + self._sent_bytes > BACKED_UP_BYTES or len(self._held) > BACKED_UP_HELD

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes. They are written within some 20 ms if the reader reads."""
        if self.failure is not None:
            return
        if not self._keep_order:
            for outcome in outcomes:
                self._append(outcome)
            return
        for outcome in outcomes:
            self._held[outcome.seq] = outcome
        while (due := self._held.pop(self._next_seq, None)) is not None:
            self._append(due)
            self._next_seq += 1

    def allow(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Nothing is remembered, so nothing can be resumed."""

    def mark(self, seq: int) -> None:
        """Nothing is kept, so nothing can be resumed."""

    async def run(self) -> None:
        """Write what was taken, until cancelled. One piece at a time is with the thread."""
        while True:
            await self._wake.wait()
            await anyio.sleep(GATHER_S)
            self._wake = anyio.Event()
            await self._hand_on()

    async def aclose(self) -> None:
        """Write the rest, in order, held or not. It waits for the reader as long as that takes."""
        for seq in sorted(self._held):
            self._append(self._held.pop(seq))
        try:
            await self._hand_on()
        finally:
            self._pieces.put(None)

    def _append(self, outcome: Outcome) -> None:
        is_first = not self._lines
        append_line(self._lines, outcome)
        self._outcomes.append(outcome)
        if is_first:
            self._wake.set()

    async def _hand_on(self) -> None:
        """Give the thread what has gathered, once it is done with what it has."""
        if self._sent is not None:
            await asyncio.wait([self._sent])
        if not self._lines or self.failure is not None:
            return
        if self._thread is None:
            # A thread of its own, and a daemon: one that a full pipe holds must not keep the process.
            self._thread = threading.Thread(target=self._serve, name="fanout-stdout", daemon=True)
            self._thread.start()
        piece, outcomes = self._lines, self._outcomes
        self._lines, self._outcomes = bytearray(), []
        self._sent_bytes = len(piece)
        self._sent = asyncio.get_running_loop().create_future()
        self._sent.add_done_callback(lambda sent: self._done(sent, outcomes))
        self._pieces.put((self._sent, piece))
        await asyncio.wait([self._sent])

    def _done(self, sent: asyncio.Future[OSError | None], outcomes: list[Outcome]) -> None:
        self._sent_bytes = 0
        error = None if sent.cancelled() else sent.result()
        if error is None:
            if self._on_commit is not None:
                self._on_commit(outcomes)
        elif self.failure is None:
            self.failure = error
            self._lines.clear()
            if self._on_failure is not None:
                self._on_failure(error)

    def _serve(self) -> None:
        while (work := self._pieces.get()) is not None:
            future, piece = work
            error: OSError | None = None
            try:
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as fault:
                error = fault
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, error)
            except RuntimeError:  # the loop is gone, and with it whoever waited
                return


def _settle(future: asyncio.Future[OSError | None], error: OSError | None) -> None:
    if not future.done():
        future.set_result(error)
