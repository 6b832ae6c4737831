"""The story of a run, told again from its outcomes and its timeline, as if it were watched live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fanout.model import Outcome
from fanout.quantities import unix_s
from fanout.stats.outcome_stats import Stats
from fanout.stats.timeline import Sample

BIN_S = 1.0


def stats_of(outcomes: Iterable[Outcome], samples: Iterable[Sample], *, started_s: float) -> Stats:
    """Feed outcomes, in order of finishing, and samples into a new Stats, merged by time.

    An outcome finished at ``started_at`` plus ``duration_ms``; one that has no times finished when
    the one before it did. Without samples a bin is closed every second, with nothing known of the
    limit.
    """
    return stats_of_blocks((tuple(outcomes),), samples, started_s=started_s)


def stats_of_blocks(
    blocks: Iterable[Sequence[Outcome]], samples: Iterable[Sample], *, started_s: float
) -> Stats:
    """As ``stats_of``, of outcomes that come some thousand at a time.

    Within a block, times are taken to rise, so that few of them need to be read: where the system's
    clock was set back, some outcomes are told a bin too early or too late, and each of them once.
    """
    return told(Story(samples, started_s=started_s), blocks)


def told(story: Story, blocks: Iterable[Sequence[Outcome]]) -> Stats:
    """The story to its end, with these outcomes."""
    for block in blocks:
        story.tell(block)
    story.finish()
    return story.stats


def _end_s(outcome: Outcome) -> float:
    """The Unix time at which an outcome finished; 0 where it has no times."""
    if outcome.started_at is None:
        return 0.0
    return unix_s(outcome.started_at) + (outcome.duration_ms or 0.0) / 1000


def _last_end_s(block: Sequence[Outcome]) -> float:
    return next((end_s for outcome in reversed(block) if (end_s := _end_s(outcome))), 0.0)


def _first_after(block: Sequence[Outcome], begin: int, moment_s: float) -> int:
    """The index of the first outcome that finished after a moment, by halving."""
    end = len(block)
    while begin < end:
        middle = (begin + end) // 2
        timed = middle
        while timed < end and not (end_s := _end_s(block[timed])):
            timed += 1  # one without times finished when the one before it did
        if timed < end and end_s <= moment_s:
            begin = timed + 1
        else:
            end = middle
    return begin


class Story:
    """A run that is told again: outcomes are given to ``tell``, samples are drawn as their time comes.

    ``samples`` may have more to give after it ended once, as those of a run that goes on do. ``next_s``
    is when the next sample is due, in Unix time.
    """

    def __init__(self, samples: Iterable[Sample], *, started_s: float, is_watched: bool = False) -> None:
        self.stats = Stats(started_s=started_s)
        self.latest: Sample | None = None
        self._samples = iter(samples)
        self._next = next(self._samples, None)
        self._has_samples = is_watched or self._next is not None
        self._seen: dict[str, int] = {}
        self.finished_s = started_s  # when the last outcome that was told finished
        self._is_first = True
        self.next_s = started_s + BIN_S if self._next is None else self._next.t

    @classmethod
    def going_on(cls, stats: Stats, samples: Iterable[Sample], *, at_s: float) -> Story:
        """A story of which ``stats`` were told already, up to a moment."""
        story = cls(samples, started_s=at_s)
        story.stats = stats
        stats.throttles = stats.throttles_sampled()  # the next sample counts those since the last one
        story._seen = stats.session_throttles()
        story._is_first, story._has_samples = False, True
        return story

    def tell(self, block: Sequence[Outcome]) -> None:
        """Count outcomes, in order of finishing, with the samples of that time."""
        begin, last_s = 0, _last_end_s(block)
        while last_s > self.next_s:
            cut = _first_after(block, begin, self.next_s)
            self.stats.add_many(block[begin:cut])
            self._note_end(_last_end_s(block[begin:cut]))
            self.advance(last_s if cut == len(block) else max(_end_s(block[cut]), self.next_s + 1e-6))
            begin = cut
        self.stats.add_many(block[begin:])
        self._note_end(last_s)

    def catch_up(self) -> None:
        """Apply every sample that there is now."""
        if self._next is None:
            self._draw()
        while self._next is not None:
            self._apply(self._next)
            self._draw()

    def _draw(self) -> None:
        self._next = next(self._samples, None)
        self.next_s = float("inf") if self._next is None else self._next.t

    def advance(self, until_s: float) -> None:
        """Apply every sample up to a moment; empty seconds of a run without samples are one bin."""
        while self.next_s < until_s:
            if self._next is not None:
                self._apply(self._next)
                self._draw()
            elif self._has_samples:
                return
            else:
                self.stats.sample(now_s=self.next_s, in_flight=None, limit=None, cause=None)
                self.next_s += max(BIN_S, (until_s - self.next_s) // BIN_S * BIN_S)

    def _note_end(self, end_s: float) -> None:
        """An outcome that was told finished then."""
        self.finished_s = max(self.finished_s, end_s)

    def finish(self) -> None:
        """Apply what is left, and close the last bin."""
        stats = self.stats
        last_s = self.finished_s
        self.catch_up()
        if self.latest is not None:
            last_s = max(last_s, self.latest.t)
        if not stats.series.bins:
            stats.sample(now_s=last_s, in_flight=None, limit=None, cause=None)
        self._close_bin(last_s)
        if not stats.throttles and stats.outcome_throttles:
            stats.throttles["unknown"] = stats.outcome_throttles

    def _close_bin(self, now_s: float) -> None:
        if sum(bin_.finished for bin_ in self.stats.series.bins) < self.stats.done:
            self.stats.sample(now_s=now_s, in_flight=None, limit=None, cause=None)

    def _apply(self, sample: Sample) -> None:
        stats = self.stats
        self.latest = sample
        if sample.begins:
            if self._is_first:
                stats.clock.set_start(sample.t)
            else:
                # A session that was killed had outcomes after its last sample: they are running time too.
                self._close_bin(self.finished_s)
                stats.begin_session(sample.t)
            self._is_first = False
            self._seen = {}
            return
        for reason, count in sample.throttles.items():
            # Counters start again when a session does, as those of any monitoring may.
            before = self._seen.get(reason, 0)
            stats.throttles[reason] = stats.throttles.get(reason, 0) + (
                count - before if count >= before else count
            )
        self._seen = sample.throttles
        stats.sample(
            now_s=sample.t,
            in_flight=sample.in_flight,
            limit=sample.limit,
            cause=sample.cause,
            rate_per_s=sample.rate_per_s,
        )
