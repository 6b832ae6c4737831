"""The reader of a journal: finished records and their outcomes, and the others that may have run."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Protocol, TypeVar, overload

import msgspec

from fanout.errors import JournalError
from fanout.journal.checkpoint import Checkpoint, read_checkpoint
from fanout.journal.line_blocks import JournalBlocks, LineBlock, decode_member
from fanout.journal.lines import Head, StoredOutcome
from fanout.journal.marks import MARK_FILE, read_marks
from fanout.journal.run_dir import OUTCOMES_FILE, RunDir
from fanout.journal.seqs import SeqSet
from fanout.journal.superseded import Superseded
from fanout.journal.windows import WINDOWS_FILE, merged, read_windows
from fanout.model import Outcome, Status

T = TypeVar("T", bound=msgspec.Struct)
H = TypeVar("H", bound=Head)


class Replay(msgspec.Struct, frozen=True):
    """The knowledge of a run that its journal holds.

    ``counts``: the latest outcome of each record, by status. ``redone``: the records with an outcome of
    the newest generation, when that is not the first. ``marks``: by generation, the number below which
    records may have been sent. ``whole_bytes``: where a last line cut short begins, or the journal ends.
    """

    finished: SeqSet
    counts: dict[str, int]
    generation: int
    redone: SeqSet
    marks: tuple[int, ...]
    not_sent: frozenset[int]
    whole_bytes: int
    torn_bytes: int
    windows: tuple[tuple[tuple[int, int], ...], ...] | None = None  # by generation, where workers were
    superseded: Superseded = msgspec.field(default_factory=Superseded)  # outcomes that others replaced
    is_mark_lost: bool = False  # which records were sent is not known: any without an outcome may have been

    @property
    def records(self) -> int:
        """The number of records that have an outcome."""
        return len(self.finished)

    @property
    def mark(self) -> int:
        """Records from here on were never sent."""
        return max(self.marks[0] if self.marks else 0, self.finished.max + 1)

    def was_allowed(self, generation: int, seq: int) -> bool:
        """True if a mark or a window of a generation says that a record may have been sent in it."""
        if generation < len(self.marks) and seq < self.marks[generation]:
            return True
        if self.windows is None or generation >= len(self.windows):
            return False
        ranges = self.windows[generation]
        at = bisect_right(ranges, (seq, inf)) - 1
        return at >= 0 and seq < ranges[at][1]

    def suspects(self) -> Iterator[int]:
        """The records that may have been sent and have no outcome, in order."""
        ranges = [(0, self.mark if self.windows is None else self.marks[0] if self.marks else 0)]
        if self.windows:
            ranges.extend(self.windows[0])
        for first, end in merged(ranges):
            yield from (seq for seq in self.finished.missing(first, end) if seq not in self.not_sent)

    def may_have_run(self, seq: int) -> bool:
        """True if a record has no outcome, but may have been sent."""
        is_marked = self.is_mark_lost or (
            seq < self.mark if self.windows is None else self.was_allowed(0, seq)
        )
        return is_marked and seq not in self.finished and seq not in self.not_sent

    @property
    def may_have_run_count(self) -> int:
        """The number of records that may have been sent and have no outcome."""
        if self.windows is not None:
            return sum(1 for _ in self.suspects())
        known = sum(1 for seq in self.not_sent if seq < self.mark and seq not in self.finished)
        return self.mark - self.finished.count_below(self.mark) - known


def replay(directory: Path, *, accepts_lost_mark: bool = False) -> Replay:
    """Read a whole journal, or on from its checkpoint, in 1.3 bytes of memory for each ten records.

    A mark that is missing or empty beside a run that was going on is damage: JournalError, unless
    ``accepts_lost_mark``, as the person has said what becomes of records that may have run.

    A last line without its line break was cut short by a crash: its record is not finished. Any other
    line that is not an outcome raises JournalError: the journal is damaged, and nothing is guessed.
    """
    checkpoint = read_checkpoint(directory, RunDir.open(directory).state.get("id"))
    tally = Tally(checkpoint)
    blocks = JournalBlocks(
        directory,
        Head,
        position=0 if checkpoint is None else checkpoint.position,
        lines_before=0 if checkpoint is None else checkpoint.lines,
    )
    for block in blocks.read():
        tally.add(block.outcomes)
    tally.whole_bytes = blocks.position
    return tally.replay(directory, accepts_lost_mark=accepts_lost_mark)


class _HasHead(Protocol):
    @property
    def seq(self) -> int: ...

    @property
    def status(self) -> Status: ...

    @property
    def generation(self) -> int: ...


class Tally:
    """Adds up a journal as it is read; ``replay`` says what follows. ``whole_bytes`` is the reader's."""

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self.whole_bytes = 0
        self.superseded = Superseded()
        self._finished, self._redone = SeqSet(), SeqSet()
        self._counts: Counter[str] = Counter()
        if checkpoint is not None:
            self._finished = checkpoint.seqs()
            self._counts.update(checkpoint.counts)
        self._generation = 0

    def add(self, outcomes: Sequence[_HasHead]) -> list[int]:
        """Take the next outcomes. Returns the records that had one before, or have two among them."""
        self._counts.update([outcome.status for outcome in outcomes])
        repeated = self._finished.add_many([outcome.seq for outcome in outcomes])
        if repeated:
            self.superseded.add(repeated)
        if any([outcome.generation for outcome in outcomes]):  # noqa: C419 - a list is twice as fast
            self._add_generations(outcomes)
        return repeated

    def _add_generations(self, outcomes: Sequence[_HasHead]) -> None:
        for outcome in outcomes:
            if outcome.generation > self._generation:
                self._generation, self._redone = outcome.generation, SeqSet()
            if outcome.generation and outcome.generation == self._generation:
                self._redone.add(outcome.seq)

    def replay(
        self,
        directory: Path,
        *,
        accepts_lost_mark: bool = False,
        latest_counts: Mapping[str, int] | None = None,
    ) -> Replay:
        """The knowledge so far. Raises JournalError, as the function of this name does.

        ``latest_counts``: the latest outcome of each record, by status, where they were counted already;
        otherwise a journal in which records have several outcomes is read once more.
        """
        run_dir = RunDir.open(directory)
        state = run_dir.state
        marks = read_marks(directory)
        finished, redone, generation = self._finished, self._redone, self._generation
        counts: Mapping[str, int] = self._counts
        if len(self.superseded):
            counts = _latest_counts(directory, self.superseded) if latest_counts is None else latest_counts
        # The file of windows is there before run.json says that windows count.
        has_windows = run_dir.has_windows and (directory / WINDOWS_FILE).exists()
        lost = WINDOWS_FILE if run_dir.has_windows and not has_windows else None if marks else MARK_FILE
        is_mark_lost = lost is not None and (state.get("state") == "running" or len(finished) > 0)
        if is_mark_lost and not accepts_lost_mark:
            raise JournalError(
                f"{directory}/{lost} is missing or empty: which records were sent is not known; "
                "go on with --may-have-run send (they may run twice) or skip (they become unknown)"
            )
        if len(marks) - 1 > generation:
            generation, redone = len(marks) - 1, SeqSet()  # begun, and nothing finished in it yet
        not_sent = state.get("not_sent") or ()
        whole_bytes = self.whole_bytes
        return Replay(
            finished=finished,
            counts={status: n for status, n in counts.items() if n},
            generation=generation,
            redone=redone,
            marks=tuple(marks),
            not_sent=frozenset(not_sent),
            whole_bytes=whole_bytes,
            torn_bytes=(directory / OUTCOMES_FILE).stat().st_size - whole_bytes,
            windows=_windows(directory) if has_windows else None,
            superseded=self.superseded,
            is_mark_lost=is_mark_lost,
        )


def _windows(directory: Path) -> tuple[tuple[tuple[int, int], ...], ...]:
    found = read_windows(directory)
    return tuple(tuple(found.get(each, ())) for each in range(max(found, default=-1) + 1))


def iter_lines(directory: Path, *, latest: bool = True) -> Iterator[tuple[Head, bytes]]:
    """Each outcome's head and its whole line, line break included, in order of finishing.

    ``latest``: only the last outcome of each record; that costs another pass before. Raises JournalError.
    """
    blocks = read_blocks(directory, Head, latest=latest)
    for block, places in blocks:
        lines = block.split()
        if places is None:
            for head, line in zip(block.outcomes, lines, strict=True):
                yield head, line + b"\n"
        else:
            for place in places:
                yield block.outcomes[place], lines[place] + b"\n"


def read_blocks(
    directory: Path, fields: type[H], *, latest: bool = True, superseded: Superseded | None = None
) -> Iterator[tuple[LineBlock[H], list[int] | None]]:
    """The blocks of a journal and the places in each of the outcomes that count; None where all of them do.

    ``latest``: only the last outcome of each record counts. Where it is not known from a reading before
    which are ``superseded``, that costs another pass, over the heads that no checkpoint vouches for. Raises
    JournalError.
    """
    if superseded is None:
        superseded = find_superseded(directory) if latest else Superseded()
    latest_outcomes = superseded.latest()
    for block in JournalBlocks(directory, fields).read():
        yield block, latest_outcomes.places([outcome.seq for outcome in block.outcomes])


def find_superseded(directory: Path) -> Superseded:
    """The outcomes that later ones took the place of. Raises JournalError."""
    checkpoint = read_checkpoint(directory, RunDir.open(directory).state.get("id"))
    found, seen, position = Superseded(), SeqSet(), 0
    if checkpoint is not None:
        seen, position = checkpoint.seqs(), checkpoint.position
    for block in JournalBlocks(directory, Head, position=position).read():
        found.add(seen.add_many([head.seq for head in block.outcomes]))
    return found


@overload
def iter_outcomes(directory: Path, *, latest: bool = True) -> Iterator[Outcome]: ...
@overload
def iter_outcomes(directory: Path, *, latest: bool = True, fields: type[T]) -> Iterator[T]: ...
def iter_outcomes(
    directory: Path, *, latest: bool = True, fields: type[msgspec.Struct] = StoredOutcome
) -> Iterator[msgspec.Struct]:
    """The outcomes of a run, in order of finishing, or with ``fields`` only those members, which is faster.

    A member that holds any JSON is declared as in StoredOutcome. Raises JournalError.
    """
    decoder = msgspec.json.Decoder(fields)
    for head, line in iter_lines(directory, latest=latest):
        yield decode_member(line, decoder, directory, head.seq)


def _latest_counts(directory: Path, superseded: Superseded) -> Counter[str]:
    counts = Counter[str]()
    for block, places in read_blocks(directory, Head, superseded=superseded):
        heads = block.outcomes
        counts.update([head.status for head in (heads if places is None else [heads[at] for at in places])])
    return counts
