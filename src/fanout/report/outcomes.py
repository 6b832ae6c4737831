"""A run directory as a report reads it: its description, and what is needed of each outcome."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from fanout.errors import JournalError
from fanout.journal import OUTCOMES_FILE, RunDir, SeqSet, iter_outcomes
from fanout.journal.lines import LineFault, decode_line
from fanout.model import Outcome

_READ_BYTES = 1 << 20
_MOST_IN_BLOCK = 2000


class _Line(Outcome, kw_only=True, omit_defaults=True, gc=False, rename=lambda name: f"-{name}"):
    """An outcome without what no report shows: those members have names here that no line has.

    Payloads may be megabytes each; they are passed over, not read.
    """

    output_raw: None = None
    input_raw: None = None
    http_status: None = None
    executed_version: None = None
    queued_ms: None = None
    trace_id: None = None
    durable_execution_arn: None = None


_decode = msgspec.json.Decoder(_Line)


class SentTwice(Exception):
    """A journal holds two outcomes of one record: only its latest counts."""


def read_run(run_dir: Path) -> dict[str, Any]:
    """What ``run.json`` says. Raises JournalError, in one line, where there is no run."""
    return RunDir.open(run_dir).state


def read_blocks(run_dir: Path) -> Iterator[list[Outcome]]:
    """Every outcome in order of finishing, in one pass, some thousand at a time.

    A last line cut short by a crash is none. Raises JournalError for a journal that is damaged, and
    SentTwice at the second outcome of a record.
    """
    seen = SeqSet()
    for block in JournalTail(run_dir).read():
        if not seen.add_many([outcome.seq for outcome in block]):
            raise SentTwice
        yield block


def read_latest_blocks(run_dir: Path, *, latest: bool = True) -> Iterator[list[Outcome]]:
    """As ``read_blocks``, with ``latest`` the last outcome of each record only; that takes two passes."""
    outcomes = iter_outcomes(run_dir, latest=latest, fields=_Line)
    while block := list[Outcome](islice(outcomes, _MOST_IN_BLOCK)):
        yield block


class JournalTail:
    """A journal that is read as far as it goes, and on from there when it has grown."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / OUTCOMES_FILE
        self._at = self._done = 0

    @property
    def position(self) -> int:
        """Where the last whole line that was read ends, in bytes."""
        return self._at

    def read(self) -> Iterator[list[Outcome]]:
        """The outcomes of all whole lines that were not read yet, in blocks. Raises JournalError."""
        rest = b""
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._at)
                while chunk := file.read(_READ_BYTES):
                    whole, line_break, tail = chunk.rpartition(b"\n")
                    if not line_break:
                        rest += chunk
                        continue
                    lines, rest = rest + whole, tail
                    block = _decoded(lines, self._path, self._done)
                    self._done += len(block)
                    self._at += len(lines) + 1
                    yield block
        except OSError as error:
            raise JournalError(f"{self._path}: cannot be read: {error.strerror}") from error


def _decoded(lines: bytes, path: Path, done: int) -> list[Outcome]:
    try:
        block: list[Outcome] = [*_decode.decode_lines(lines)]
        if len(block) == lines.count(b"\n") + 1:
            return block
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    block = []
    for number, line in enumerate(lines.split(b"\n"), done + 1):
        try:
            block.append(decode_line(line, _decode))
        except LineFault as fault:
            raise JournalError(f"{path}: line {number} is not an outcome: {fault}") from fault
    return block


__all__ = ["JournalTail", "SentTwice", "read_blocks", "read_latest_blocks", "read_run"]
