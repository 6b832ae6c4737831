"""What is known of a run's latest outcomes, kept while some of its records are sent again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fanout.journal import OutcomeBlock, Replay, SeqSet
from fanout.model import Outcome
from fanout.runs.redrive import Redrive


class RedriveCounts:
    """The counts that a reading of the whole journal would find, without one.

    ``known`` is the run before this session, in which each record of ``found`` has at the most one outcome.
    ``redone``: the records with an outcome of this generation. ``superseded``: outcomes that others took
    the place of.
    """

    def __init__(self, known: Replay, found: Redrive, redone: SeqSet) -> None:
        self.redone = redone
        self.superseded = known.superseded
        self._counts = Counter(known.counts)
        self._found = found

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes of this session were committed: each takes the place of its record's earlier one."""
        if isinstance(outcomes, OutcomeBlock):
            seqs: Sequence[int] = outcomes.seqs
            self._counts.update(outcomes.plain.counts)
            outcomes = outcomes.special()
        else:
            seqs = [outcome.seq for outcome in outcomes]
        self._counts.update([outcome.status for outcome in outcomes])
        self._counts.subtract([self._found.status_of(seq) for seq in seqs])
        self.redone.add_many(seqs)
        self.superseded.add(seqs)

    @property
    def counts(self) -> dict[str, int]:
        """Now, without zeros."""
        return {status: count for status, count in self._counts.items() if count}
