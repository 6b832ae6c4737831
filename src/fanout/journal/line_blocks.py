"""A journal in blocks: whole lines, some hundred at a time, of which only the wanted members are decoded.

Large journals are read so. A block ends with the last whole line before a multiple of ``BLOCK_BYTES`` of the
file, wherever the reading began: what is counted by blocks comes out alike from any beginning.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec

from fanout.errors import JournalError
from fanout.journal.lines import Head, LineFault, decode_line
from fanout.journal.run_dir import OUTCOMES_FILE
from fanout.model import AttemptEnd, BatchPlace, ErrorDetail

T = TypeVar("T", bound=msgspec.Struct)
BLOCK_BYTES = 1 << 17  # a block's outcomes fit into a processor's second cache


class Figures(Head, kw_only=True, gc=False):
    """The members of an outcome that are counted: payloads, which may be megabytes, are passed over."""

    key: str | None = None
    attempts: int
    throttles: int
    request_id: str | None = None
    started_at: str | None = None
    duration_ms: float | None = None
    billed_ms: int | None = None
    init_ms: float | None = None
    restore_ms: float | None = None
    memory_mb: int | None = None
    max_memory_mb: int | None = None
    timed_out: bool = False
    error: ErrorDetail | None = None
    log_tail: str | None = None
    history: list[AttemptEnd] | None = None
    collected_at: str | None = None
    batch: BatchPlace | None = None
    copies: int = 0
    is_fault: bool = False


class Sendable(Head, kw_only=True, gc=False):
    """The members of an outcome that say whether its record can be sent again."""

    attempts: int
    error: ErrorDetail | None = None
    is_fault: bool = False
    collected_at: str | None = None
    input: msgspec.Raw = None  # type: ignore[assignment]  # Raw | None cannot be read
    input_encoding: Literal["text", "base64"] | None = None


class LineBlock(Generic[T]):
    """Lines of a journal, the last without its line break, and the outcomes in them.

    ``begins_at``: where the first line stands in the file.
    """

    __slots__ = ("begins_at", "lines", "outcomes")

    def __init__(self, begins_at: int, lines: bytes, outcomes: list[T]) -> None:
        self.begins_at = begins_at
        self.lines = lines
        self.outcomes = outcomes

    def split(self) -> list[bytes]:
        """The lines, one for each outcome, without line breaks."""
        return self.lines.split(b"\n")


class JournalBlocks(Generic[T]):
    """The blocks of a journal as far as it goes; ``read`` goes on from there when it has grown.

    ``fields`` names the wanted members; ``end``: where reading ends, at the end of a line. A last line
    without its line break was cut short by a crash, or whoever wrote it did not get to say so: it is left
    out. Any other line that is not an outcome raises JournalError: the journal is damaged, and nothing is
    guessed.
    """

    def __init__(
        self,
        run_dir: Path,
        fields: type[T],
        *,
        position: int = 0,
        lines_before: int = 0,
        end: int = sys.maxsize,
    ) -> None:
        self.position = position  # where the last whole line that was read ends, in bytes
        self.lines_read = lines_before
        self._end = end
        self._path = run_dir / OUTCOMES_FILE
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(fields)

    def read(self) -> Iterator[LineBlock[T]]:
        """The blocks of all whole lines that were not read yet. Raises JournalError."""
        at, rest = self.position, b""
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(at)
                while chunk := file.read(min(BLOCK_BYTES - at % BLOCK_BYTES, self._end - at)):
                    at += len(chunk)
                    whole, line_break, tail = chunk.rpartition(b"\n")
                    if not line_break:
                        rest += chunk
                        continue
                    lines, rest = rest + whole, tail
                    outcomes = self._decoded(lines)
                    begins_at = self.position
                    self.lines_read += len(outcomes)
                    self.position = begins_at + len(lines) + 1
                    yield LineBlock(begins_at, lines, outcomes)
        except OSError as error:
            raise JournalError(f"{self._path} cannot be read: {error.strerror}") from error

    def _decoded(self, lines: bytes) -> list[T]:
        try:
            outcomes = self._decoder.decode_lines(lines)
            line_breaks = len(lines) - len(lines.replace(b"\n", b""))  # ``count`` takes four times as long
            if len(outcomes) == line_breaks + 1:
                return outcomes
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        outcomes = []
        for number, line in enumerate(lines.split(b"\n"), self.lines_read + 1):
            try:
                outcomes.append(decode_line(line, self._decoder))
            except LineFault as fault:
                raise JournalError(f"{self._path}: line {number} is not an outcome: {fault}") from fault
        return outcomes


def decode_member(line: bytes, decoder: msgspec.json.Decoder[Any], run_dir: Path, seq: int) -> Any:
    """More of one line than its block has. Raises JournalError."""
    try:
        return decode_line(line, decoder)
    except LineFault as fault:
        path = run_dir / OUTCOMES_FILE
        raise JournalError(f"{path}: the outcome of record {seq} is damaged: {fault}") from fault
