"""The totals of a run: counts, throughput, latency, failures, cost, and what to do next."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from fanout import exit_codes
from fanout.cost import CostEstimate
from fanout.journal import SPOOL_FILE, command_of_same, shell_word
from fanout.model import STATUS_GROUPS
from fanout.quantities import milliseconds, percent
from fanout.stats import Execution, FailureCluster, Stats

_MOST_ALIKE = 10
_EXIT_CODES = {
    "halted": exit_codes.THRESHOLD,
    "fatal": exit_codes.FATAL,
    "interrupted": exit_codes.SIGINT,
    "running": exit_codes.SIGINT,
}


def in_rehearsal(command: str) -> str:
    """A command that calls the function: under an emulator of its own it needs that again."""
    rehearsal = os.environ.get("FANOUT_REHEARSAL")
    return f"{rehearsal} {command}" if rehearsal else command


class MeasuredThreshold(msgspec.Struct, frozen=True):
    """A rule that the run was to keep, such as ``p95<500ms``, and whether it did.

    ``value`` is milliseconds, or a share of records; None where there were too few to judge by.
    """

    rule: str
    value: float | None
    holds: bool

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.rule}: too few calls to judge by"
        shown = percent(self.value) if self.rule.startswith("failure_rate") else milliseconds(self.value)
        return f"{self.rule}: {'holds' if self.holds else 'broken'}, {shown}"


def thresholds_of(found: object) -> list[MeasuredThreshold]:
    """The thresholds that run.json holds; none where it says something else."""
    try:
        return msgspec.convert(found or [], list[MeasuredThreshold])
    except msgspec.ValidationError:
        return []


class SessionTotals(msgspec.Struct, frozen=True):
    """The share of one command in a run that had begun before: the outcomes it added, by kind."""

    verb: Literal["resume", "redrive"]
    succeeded: int
    failed: int

    def __str__(self) -> str:
        total = self.succeeded + self.failed
        begin = "sent again" if self.verb == "redrive" else "went on with"
        return f"{begin} {total:,}: {self.succeeded:,} succeeded, {self.failed:,} failed"


class RunTotals:
    """The figures of a run. Renderers read this; ``RunReport`` is the one that users hold.

    ``run`` is what ``run.json`` says; ``stats`` is kept, in bounded memory, so that a page can be
    drawn without reading the journal again. Counts are of final outcomes; ``pending`` records have
    none yet.
    """

    def __init__(
        self,
        stats: Stats,
        run: Mapping[str, Any],
        *,
        run_dir: Path | None = None,
        cost: CostEstimate | None = None,
        session: SessionTotals | None = None,
    ) -> None:
        self.stats = stats
        self.run = dict(run)
        self.run_dir = run_dir
        self.cost = cost
        self.session = session
        self.function: str = str(run.get("function") or "")
        self.state: str = str(run.get("state") or "finished")
        self.counts: dict[str, int] = dict(stats.counts)
        self.records: int = max(_count(run.get("records_read")), stats.done)
        self.calls: int = stats.calls
        self.thresholds: list[MeasuredThreshold] = thresholds_of(run.get("thresholds"))
        self.workers: list[dict[str, Any]] = list(run.get("workers") or ())
        self.pending: int = self.records - stats.done
        self.elapsed_s: float = stats.elapsed_s
        self.throughput_per_s: float = stats.throughput_per_s
        self.share_of_limit: float | None = stats.share_of_limit
        self.latency_ms: dict[str, float] = stats.latency_ms()
        self.throttles: dict[str, int] = dict(stats.throttles)
        self.retries: int = stats.retries
        self.copies: int = stats.copies
        self.cold_starts: int = stats.cold_starts
        self.failures: list[FailureCluster] = stats.failures()
        self.slowest: list[Execution] = stats.slowest()
        self.halted_by: str | None = run.get("halted_by") or None
        self.ok: bool = self.state == "finished" and not stats.failed and not self.pending
        self.exit_code: int = self._exit_code()

    def _exit_code(self) -> int:
        known = self.run.get("exit_code")
        if isinstance(known, int):
            return known
        if self.state == "finished":
            return 0 if self.ok else 1
        return _EXIT_CODES.get(self.state, 1)

    @property
    def left(self) -> str | None:
        """The records that an unfinished run has left, in words; None if that is unknown, or there are none.

        From ``records_total`` of run.json, else from the share of the input's bytes that were read.
        """
        if self.state == "finished":
            return None
        if self._is_input_gone:
            return "what is left came through a pipe that was not kept: it cannot be read again"
        done, total, share = self.stats.done, self.run.get("records_total"), self.run.get("input_share")
        if isinstance(total, int) and total > done:
            return f"{total - done:,} of {total:,} records are left"
        if isinstance(share, float) and 0 < share < 1 and done:
            left = max(round(done / share - done), self.pending)
            read = "less than 1%" if share < 0.01 else f"{int(share * 100)}%"
            return f"about {left:,} records are left: {read} of the input was read"
        return None

    def largest_failures(self, most: int) -> list[FailureCluster]:
        """The most common kinds of failures, and those as common as the last of them."""
        found = self.failures
        while 0 < most < min(len(found), _MOST_ALIKE) and found[most].count == found[most - 1].count:
            most += 1
        return self.stats.failures(most)

    @property
    def cost_basis(self) -> str:
        """The figures that the cost rests on, in words."""
        if self.cost is None:
            return ""
        if self.halted_by == "cost":
            return f"{self.cost.basis}; with the calls that were in flight when the cap was reached"
        return self.cost.basis

    @property
    def invocation_type(self) -> str:
        """RequestResponse, Event or DryRun."""
        return str((self.run.get("options") or {}).get("invocation_type") or "RequestResponse")

    @property
    def resume_command(self) -> str | None:
        """The command that goes on with the run; None while it runs, is over, or left nothing on disk."""
        if self.run_dir is None or self.state == "running" or (self.state == "finished" and not self.pending):
            return None
        if self._is_input_gone or (self.run.get("may_resume") is False and not self.pending):
            return None
        return in_rehearsal(f"fanout resume {self._quoted_dir}")

    @property
    def _is_input_gone(self) -> bool:
        """True if the records came through a pipe, and no copy of them was kept."""
        found = (self.run.get("input") or {}).get("fingerprint")
        kind = found.get("kind") if isinstance(found, dict) else None
        is_unkept = kind == "pipe" or (
            kind == "stdin" and (self.run.get("options") or {}).get("spool") is False
        )
        return is_unkept and self.run_dir is not None and not (self.run_dir / SPOOL_FILE).exists()

    @property
    def next_commands(self) -> list[str]:
        """The commands to go on with, ready to be pasted into a shell."""
        if self.run_dir is None:
            return []
        quoted = self._quoted_dir
        if self.state == "running":
            return [f"fanout watch {quoted}", f"fanout tune {quoted} --pause"]
        commands = [] if self.resume_command is None else [self.resume_command]
        if self.counts.get("accepted") or any(each.type == "ResultMissing" for each in self.failures):
            commands.append(in_rehearsal(f"fanout collect {quoted}"))
        if self.stats.failed:
            location = str((self.run.get("input") or {}).get("location"))
            faults = sum(each.faults for each in self.failures)
            failed = sum(self.counts.get(each, 0) for each in STATUS_GROUPS["failed"])
            chosen = "failed" if failed > faults else "unknown"
            if not location.startswith("sqs://"):
                if chosen == "failed":  # what may have run is sent again by name alone
                    commands.append(in_rehearsal(f"fanout redrive {quoted}"))
            elif self.resume_command is None:  # what failed is in the queue again
                commands.append(in_rehearsal(command_of_same(self.run, location)))
            if self.stats.failed > faults:
                commands.append(f"fanout export {quoted} --status {chosen}")
            else:  # a redrive would find nothing, and neither would an export of inputs
                commands.append(f"fanout export {quoted} --outcomes --status failed")
        return [*commands, f"fanout report {quoted} --html"]

    @property
    def _quoted_dir(self) -> str:
        return shell_word(self.run_dir or Path())

    def to_dict(self) -> dict[str, Any]:
        """The whole summary as JSON data, as ``--json`` prints it."""
        return {
            "function": self.function,
            "state": self.state,
            "ok": self.ok,
            "exit_code": self.exit_code,
            "halted_by": self.halted_by,
            "records": self.records,
            "calls": self.calls,
            "pending": self.pending,
            "counts": self.counts,
            "elapsed_s": round(self.elapsed_s, 3),
            "throughput_per_s": round(self.throughput_per_s, 3),
            "share_of_limit": None if self.share_of_limit is None else round(self.share_of_limit, 4),
            "latency_ms": {name: round(value, 3) for name, value in self.latency_ms.items()},
            "thresholds": msgspec.to_builtins(self.thresholds),
            "workers": self.workers,
            "throttles": self.throttles,
            "retries": self.retries,
            "copies": self.copies,
            "attempts": {str(attempts): count for attempts, count in self.stats.attempts_taken().items()},
            "cold_starts": self.cold_starts,
            "billed_gb_s": round(self.stats.billed_gb_s, 6) if self.stats.billed_records else None,
            "cost": msgspec.to_builtins(self.cost),
            "failures": msgspec.to_builtins(self.failures),
            "slowest": msgspec.to_builtins(self.slowest),
            "session": None if self.session is None else msgspec.structs.asdict(self.session),
            "run_dir": None if self.run_dir is None else os.fspath(self.run_dir),
            "resume_command": self.resume_command,
            "next_commands": self.next_commands,
        }

    def __repr__(self) -> str:
        counts = ", ".join(f"{status}={count}" for status, count in self._counted())
        said = f"{self.state}, {counts or 'no records'}, {self.elapsed_s:.1f} s"
        return f"{type(self).__name__}({self.function!r}, {said})"

    def _counted(self) -> Iterator[tuple[str, int]]:
        return ((status, count) for status, count in self.counts.items() if count)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
