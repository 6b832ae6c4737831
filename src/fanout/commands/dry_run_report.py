"""The counts of a dry run, for a person, as JSON and for programs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

from fanout import exit_codes
from fanout.dispatcher import InputRecord
from fanout.quantities import count_of, number, seconds
from fanout.stats.text import printable

_BAR = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One record that would be rejected without being sent."""

    seq: int
    line: int | None
    source: str | None
    type: str
    message: str

    @classmethod
    def of(cls, record: InputRecord) -> Self:
        """The fault of a record that has one."""
        assert record.fault is not None
        return cls(
            seq=record.seq,
            line=record.line,
            source=record.source,
            type=record.fault.type,
            message=record.fault.message,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Projected:
    """A projection of the calls, by ``concurrency`` and ``rate``. How long the function takes is not known.

    ``least_s``: by the rate alone. ``per_function_s``: seconds of the run for each second that the
    function takes. ``most_s``: if every call took its whole timeout, where that was given.
    """

    least_s: float | None = None
    per_function_s: float | None = None
    most_s: float | None = None

    @classmethod
    def of(
        cls, calls: int, *, concurrency: int | None, rate: float | None, timeout_s: float | None
    ) -> Self | None:
        """The projection; None where neither concurrency nor rate is a number."""
        if concurrency is None and rate is None:
            return None
        least_s = None if rate is None else round(calls / rate, 3)
        rounds = None if concurrency is None else calls / concurrency
        most_s = None
        if concurrency is not None and timeout_s is not None:
            most_s = round(max(least_s or 0.0, math.ceil(calls / concurrency) * timeout_s), 3)
        return cls(
            least_s=least_s, per_function_s=None if rounds is None else round(rounds, 3), most_s=most_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunReport:
    """The counts of ``dry_run``; nothing was sent.

    ``records`` includes the ``faults``, which would be rejected. ``keys_missing``: records in which
    ``key`` finds nothing; ``keys_duplicated``: records whose key an earlier one has. ``bytes``: of the
    payloads of records that would be sent; ``call_bytes``: of the calls that ``batch`` makes of them.
    ``sizes``: how many payloads have at most so many bytes, and more than half of that.
    """

    function: str
    input: str | None
    records: int
    faults: int
    faults_by_kind: dict[str, int]
    first_faults: tuple[Fault, ...]
    keys_missing: int
    keys_duplicated: int
    calls: int
    bytes: int
    largest_bytes: int
    call_bytes: int
    sizes: dict[int, int]
    projected: Projected | None

    @property
    def ok(self) -> bool:
        """True if every record can be sent."""
        return not self.faults

    @property
    def exit_code(self) -> int:
        """The command's: 1 where records are faulty."""
        return exit_codes.OK if self.ok else exit_codes.FAILURES

    def to_dict(self) -> dict[str, Any]:
        """All of it, as ``--json`` prints it."""
        return {
            **asdict(self),
            "first_faults": [asdict(fault) for fault in self.first_faults],
            "sizes": [
                {"up_to_bytes": bound, "records": count} for bound, count in sorted(self.sizes.items())
            ],
            "exit_code": self.exit_code,
        }

    def render(self) -> str:
        """All of it, for a person."""
        lines = [f"Dry run of {self.function}: nothing was sent.", f"  records     {self.records:,}"]
        if self.faults:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.faults_by_kind.items())
            lines.append(f"  faults      {self.faults:,}: {kinds}")
            lines += [f"    {_where(fault)}: {printable(_what(fault), 200)}" for fault in self.first_faults]
        if self.keys_missing:
            lines.append(f"  no key      {self.keys_missing:,}")
        if self.keys_duplicated:
            doubled = count_of(self.keys_duplicated, "record has", "records have")
            lines.append(f"  same key    {doubled} the key of an earlier one")
        batched = f", {self.call_bytes:,} bytes" if self.call_bytes != self.bytes else ""
        lines.append(f"  calls       {self.calls:,}{batched}")
        lines.append(f"  bytes       {self.bytes:,} of payloads; the largest has {self.largest_bytes:,}")
        lines += self._histogram()
        return "\n".join(lines + self._time())

    def _histogram(self) -> list[str]:
        most = max(self.sizes.values(), default=0)
        return [
            f"    to {bound:>10,}  {'#' * max(1, round(count / most * _BAR)):<{_BAR}}  {count:,}"
            for bound, count in sorted(self.sizes.items())
        ]

    def _time(self) -> list[str]:
        projected = self.projected
        if projected is None:
            return []
        said = []
        if projected.least_s is not None:
            said.append(f"{seconds(projected.least_s)} at least, by the rate")
        if projected.per_function_s is not None:
            said.append(f"{number(projected.per_function_s)} times the function's own duration")
        if projected.most_s is not None:
            said.append(f"{seconds(projected.most_s)} if every call took its whole timeout")
        return [f"  time        {'; '.join(said)}"]


def _where(fault: Fault) -> str:
    place = f"record {fault.seq}" if fault.line is None else f"record {fault.seq}, line {fault.line}"
    source = "" if fault.source is None else f" of {fault.source}"
    return f"{place}{source}: {fault.type}"


def _what(fault: Fault) -> str:
    """The message, without the line that stands before it."""
    return fault.message.removeprefix(f"line {fault.line}: ")
