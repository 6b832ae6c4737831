"""The receiver of a worker's engine: lines for the next report, in place of a journal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from fanout.dispatcher import Call, InputRecord
from fanout.journal import BlockMaker, PackedBlock
from fanout.model import ErrorDetail, OnChunk, Outcome

BACKED_UP_BYTES = 4 * 1024 * 1024  # of lines that the coordinator has not acknowledged


class LineReceiver:
    """Gathers outcomes as lines of the journal, in blocks that are kept until they are acknowledged."""

    is_abandoned = False

    def __init__(self) -> None:
        self.failure: str | None = None
        self._not_sent: list[int] = []
        self._refused: list[int] = []
        self.first_block = 0
        self.blocks: list[PackedBlock] = []
        self._maker = BlockMaker()
        self._kept_bytes = 0

    @property
    def has_room(self) -> bool:
        return len(self._maker.lines) + self._kept_bytes < BACKED_UP_BYTES

    @property
    def room(self) -> int:
        """Records that may be pulled at once now."""
        return sys.maxsize if self.has_room else 0

    def acknowledge(self, blocks: int) -> None:
        """So many blocks, from the first of the run on, have arrived."""
        while self.blocks and self.first_block < blocks:
            self._kept_bytes -= len(self.blocks.pop(0).lines)
            self.first_block += 1

    def cut_block(self) -> None:
        """Make what has gathered a block."""
        if self._maker.lines:
            self._kept_bytes += len(self._maker.lines)
            self.blocks.append(self._maker.cut())

    def take_not_sent(self) -> list[int]:
        """For a report: the records given up since the last one, which were never sent."""
        seqs, self._not_sent = self._not_sent, []
        return seqs

    def take_refused(self) -> list[int]:
        """For a report: the records of the refusal that stops all, since the last one."""
        seqs, self._refused = self._refused, []
        return seqs

    # --- as the feed's receiver ----------------------------------------------------------------

    def admit(self, record: InputRecord) -> bool:  # noqa: ARG002 - Receiver's
        """The coordinator has kept already that it may be sent."""
        return True

    def admit_several(self, records: Sequence[InputRecord]) -> bool:  # noqa: ARG002 - Receiver's
        """As ``admit``."""
        return True

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:
        error, fatal = outcomes[0].error, call.feed.fatal
        if error is not None and fatal is not None and error.type == fatal.code:
            self._refused.extend(outcome.seq for outcome in outcomes)
        self.deliver_block(outcomes)

    def deliver_block(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes that are no refusal of all."""
        for outcome in outcomes:
            self._maker.add(outcome)

    def give_up(self, call: Call, undelivered: Callable[[ErrorDetail], list[Outcome]]) -> None:  # noqa: ARG002
        self._not_sent.extend(record.seq for record in call.records)

    def end(self) -> None:
        """The coordinator knows from the reports."""

    def break_off(self, error: BaseException) -> None:
        self.failure = self.failure or f"{type(error).__name__}: {error}"

    def chunk_writer(self, call: Call) -> OnChunk | None:  # noqa: ARG002 - Receiver's
        return None
