"""A run directory as a report reads it: its description, and the members of outcomes that it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from fanout.journal import Figures, JournalBlocks, LineBlock, RunDir, SeqSet, Superseded
from fanout.journal import read_blocks as latest_blocks
from fanout.model import Outcome


class SentTwice(Exception):
    """A journal holds two outcomes of one record: only its latest counts."""


def read_run(run_dir: Path) -> dict[str, Any]:
    """The content of ``run.json``. Raises JournalError, in one line, where there is no run."""
    return RunDir.open(run_dir).state


def read_blocks(run_dir: Path) -> Iterator[list[Outcome]]:
    """Every outcome in order of finishing, in one pass, some hundred at a time.

    A last line cut short by a crash is left out. Raises JournalError for a journal that is damaged, and
    SentTwice at the second outcome of a record.
    """
    seen = SeqSet()
    for block in JournalTail(run_dir).read():
        if seen.add_many([outcome.seq for outcome in block]):
            raise SentTwice
        yield block


def read_latest_blocks(
    run_dir: Path, on_block: Callable[[list[Outcome]], None], *, superseded: Superseded | None = None
) -> Iterator[list[Outcome]]:
    """As ``read_blocks``, the last outcome of each record only; that takes two passes.

    ``on_block`` is called with all outcomes of each block, those too that are ``superseded``; where it is
    known from a reading before which these are, one pass will do.
    """
    for block, places in latest_blocks(run_dir, Figures, superseded=superseded):
        outcomes = counted(block)
        on_block(outcomes)
        yield outcomes if places is None else [outcomes[place] for place in places]


class JournalTail:
    """Reads a journal as far as it goes, and goes on from there when it has grown."""

    def __init__(self, run_dir: Path, *, position: int = 0, lines_before: int = 0) -> None:
        self._blocks = JournalBlocks(run_dir, Figures, position=position, lines_before=lines_before)

    @property
    def position(self) -> int:
        """The end of the last whole line that was read, in bytes."""
        return self._blocks.position

    def read(self) -> Iterator[list[Outcome]]:
        """The outcomes of all whole lines that were not read yet, in blocks. Raises JournalError."""
        for block in self._blocks.read():
            yield counted(block)


def counted(block: LineBlock[Figures]) -> list[Outcome]:
    """Figures have the members of an outcome that counting reads, and no others."""
    return cast("list[Outcome]", block.outcomes)


__all__ = ["JournalTail", "SentTwice", "counted", "read_blocks", "read_latest_blocks", "read_run"]
