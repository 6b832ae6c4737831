"""The figures of one session of a run, held against the rules by which it stops."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec

from fanout import exit_codes
from fanout.journal import OutcomeBlock
from fanout.model import OK_STATUSES, Outcome
from fanout.outcome_split import split_outcomes
from fanout.runs.item_records import MAY_HAVE_RUN
from fanout.runs.result import Shortfall
from fanout.runs.spending import Spending
from fanout.runs.stop_rules import StopRules, enough_said
from fanout.runs.tuning import Tuning
from fanout.stats import Stats


class Done(msgspec.Struct, frozen=True):
    """Records that have an outcome, how many calls they make with each unsent one as one, and failures."""

    records: int = 0
    calls: int = 0
    failed: int = 0


class SessionFigures:
    """What a session has done from ``begin`` on; ``stats`` and ``spending`` may hold earlier sessions too.

    A record counts as done once its outcome is committed; ``deliver`` hears of outcomes before that, so that
    no call goes out when enough have succeeded.
    """

    def __init__(self, stats: Stats, spending: Spending, rules: StopRules) -> None:
        self.rules = rules
        self._stats = stats
        self._spending = spending
        self._before = Done()  # by earlier sessions
        self._suspects = 0  # committed ones that may have run in an earlier session, and were not sent
        self._ended_well = 0  # of all sessions, committed or not

    def begin(self, started_s: float) -> None:
        """The session begins. Unix time. A pause since an earlier one has no length."""
        self._before = self.done
        self._ended_well = self.succeeded
        self._stats.begin_session(started_s)

    @property
    def done(self) -> Done:
        """The committed records and calls of this session."""
        stats, before = self._stats, self._before
        records = stats.done
        return Done(
            records=records - before.records,
            calls=records - stats.carried - before.calls,
            failed=stats.failed - before.failed,
        )

    @property
    def succeeded(self) -> int:
        """The committed records of all sessions that have succeeded."""
        return self._stats.done - self._stats.failed

    @property
    def has_enough(self) -> bool:
        """True once as many records have succeeded as were to be enough, committed or not."""
        return self.rules.enough is not None and self._ended_well >= self.rules.enough

    @property
    def is_short(self) -> bool:
        """True if fewer committed records have succeeded than were to be enough."""
        return self.rules.enough is not None and self.succeeded < self.rules.enough

    def successes_left(self) -> int:
        """The number of further successes until there are enough."""
        return (self.rules.enough or 0) - self._ended_well

    def calls_left(self, *, handed_out: int, forming: int, batch: int | None) -> int:
        """The number of calls that may yet start below the spending cap.

        ``handed_out`` records of this session, of which ``forming`` wait in batches of ``batch`` at the most.
        """
        done, suspects = self.done, self._suspects
        out = handed_out - done.records - forming
        calls = done.calls - suspects
        size = (done.records - suspects) / calls if calls else batch or 1
        return self.rules.calls_left(
            spent_usd=self._spending.usd or 0.0,
            in_flight=ceil(out / max(1.0, size)),
            call_usd=self._spending.call_usd,
        )

    def tune(self, tuning: Tuning) -> None:
        """Other rules from now on."""
        self.rules = tuning.apply_to(self.rules)

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Count what has succeeded and waits to be committed."""
        if type(outcomes) is OutcomeBlock:
            self._ended_well += len(outcomes.durations_ms)
            outcomes = outcomes.special()
        for outcome in outcomes:
            self._ended_well += outcome.status in OK_STATUSES

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Count what is committed."""
        failed = self._stats.failed
        split = outcomes.split() if isinstance(outcomes, OutcomeBlock) else split_outcomes(outcomes)
        if split.durations_ms:
            self._stats.add_plain(split.plain, split.durations_ms, split.plain_at)
        if split.special:
            self._stats.add_many(split.special)
        if self._stats.failed > failed:  # a suspect is unknown
            self._suspects += sum(_is_suspect(outcome) for outcome in split.special)
        self._spending.add(split)

    def broken_rule(self) -> tuple[str, str] | None:
        """The reason to stop, and its words; None while all rules hold."""
        if not self.rules.is_needed:
            return None
        done, suspects = self.done, self._suspects  # which say nothing of the function now
        broken = self.rules.broken_by(
            failed=done.failed - suspects,
            finished=done.records - suspects,
            cost_usd=self._spending.usd,
            calls=done.calls - suspects,
        )
        return broken or self.rules.stop_for(self._stats)

    def enough_said(self) -> str:
        """The reason of a run that stops as it has enough, in words."""
        return enough_said(self.rules.enough or 0)

    def measured_thresholds(self) -> list[dict[str, object]]:
        """Each threshold with what was measured, and whether it holds."""
        return [threshold.measured(self._stats) for threshold in self.rules.thresholds]

    def shortfalls(self, *, was_stopped: bool) -> tuple[Shortfall, ...]:
        """The goals that the run fell short of at its end."""
        rules = self.rules
        found = [Shortfall(exit_codes.THRESHOLD, said) for said in rules.broken_thresholds(self._stats)]
        if self.is_short and not was_stopped:
            said = f"{self.succeeded:,} records succeeded, and {rules.enough:,} were to be enough"
            found.append(Shortfall(exit_codes.FAILURES, said))
        return tuple(found)


def _is_suspect(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.type == MAY_HAVE_RUN.type
