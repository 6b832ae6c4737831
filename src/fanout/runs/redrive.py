"""The records of a run that are sent again, read from its journal alone, in the order of the input."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from fanout.dispatcher import InputRecord
from fanout.errors import ConfigError, JournalError
from fanout.journal import OUTCOMES_FILE, Figures, Head, LineBlock, Sendable, StoredOutcome, decode_line
from fanout.model import OK_STATUSES, STATUS_GROUPS, STATUSES, ErrorDetail, Record, Verdict
from fanout.payload import unembed
from fanout.runs.item_records import MAY_HAVE_RUN

# Faults of a record itself, in journals of version 0.1.
FAULT_TYPES = frozenset(
    {"InvalidJson", "InvalidCsv", "InvalidPayload", "InvalidParameter", "SelectionFailed"}
)
H = TypeVar("H", bound=Head)
_NOWHERE = (1 << 64) - 1  # the place of an outcome that is not sent again
_NO_PAYLOAD = frozenset({"MessageGone", "ResultMissing"})  # nothing is known that could be sent
DEFAULT_STATUSES = STATUS_GROUPS["failed"]  # ``unknown`` only by name: it may have run


def statuses_of(names: Collection[str]) -> frozenset[str]:
    """Statuses to send again, from names of statuses and groups. Raises ConfigError for others."""
    chosen: set[str] = set()
    for name in names:
        if name in STATUS_GROUPS:
            chosen |= STATUS_GROUPS[name]
        elif name in STATUSES and name not in OK_STATUSES:
            chosen.add(name)
        else:
            allowed = ", ".join([*STATUS_GROUPS, *(s for s in STATUSES if s not in OK_STATUSES)])
            raise ConfigError(f"status is {name!r}: to send again there are {allowed}")
    return frozenset(chosen) or DEFAULT_STATUSES


class Rejected(Protocol):
    """The members of an outcome that say whether the record can be sent."""

    status: Any
    attempts: int
    is_fault: bool
    error: ErrorDetail | None


def is_fault(outcome: Rejected) -> bool:
    """True if a record can never be sent: what stands in its outcome is not what would be sent.

    Journals of version 0.1 do not say so, but their error types do.
    """
    if outcome.is_fault:
        return True
    return (
        outcome.status == "rejected"
        and outcome.attempts == 0
        and outcome.error is not None
        and outcome.error.type in FAULT_TYPES
    )


class RedriveSearch:
    """Finds the records to send again while a journal is read, from its first block on.

    Only the latest outcome of a record counts, and only where it is of a generation before
    ``before_generation``, so that a redrive that was cut off goes on with the rest. ``collected_only``: of
    a queue's records those whose message is deleted. 17 bytes of memory for each record that is found.
    """

    def __init__(
        self,
        directory: Path,
        *,
        statuses: Collection[str],
        error_types: Collection[str] = (),
        before_generation: int,
        collected_only: bool = False,
    ) -> None:
        self._directory = directory
        self._statuses = frozenset(statuses)
        self._error_types = frozenset(error_types)
        self._before_generation = before_generation
        self._collected_only = collected_only
        self._sendable = msgspec.json.Decoder(Sendable)
        self._seqs, self._places, self._ends = array("Q"), array("Q"), array("B")
        self.faults = 0  # records that were asked for, and can never be sent

    def add(self, block: LineBlock[H], repeated: Collection[int]) -> None:
        """Take the next block. ``repeated``: its records that had an outcome before, or have two in it."""
        heads, statuses, superseding = block.outcomes, self._statuses, frozenset(repeated)
        places = [
            place
            for place, head in enumerate(heads)
            if head.status in statuses or (superseding and head.seq in superseding)
        ]
        if not places:
            return
        for place, (at, line) in zip(
            places, _lines_at(block, places, is_each_once=not superseding), strict=True
        ):
            head = heads[place]
            if (
                head.status in statuses
                and head.generation < self._before_generation
                and self._is_wanted(head, line)
            ):
                self._seqs.append(head.seq)
                self._places.append(at)
                self._ends.append(STATUSES.index(head.status))
            elif head.seq in superseding:  # an outcome before it may have been wanted
                self._seqs.append(head.seq)
                self._places.append(_NOWHERE)
                self._ends.append(0)

    def found(self) -> Redrive:
        """The records that were found, once the whole journal was read."""
        seqs, places = self._seqs, self._places
        order = array("Q", sorted(range(len(seqs)), key=seqs.__getitem__))  # stable: the latest comes last
        last = [
            at
            for at, following in zip_longest(order, order[1:])
            if places[at] != _NOWHERE and (following is None or seqs[following] != seqs[at])
        ]
        return Redrive(
            self._directory,
            seqs=array("Q", [seqs[at] for at in last]),
            places=array("Q", [places[at] for at in last]),
            statuses=array("B", [self._ends[at] for at in last]),
        )

    def _is_wanted(self, head: Head, line: bytes) -> bool:
        if head.status == "function_error" and not self._error_types and not self._collected_only:
            return True
        outcome = head if isinstance(head, Figures) else decode_line(line, self._sendable)
        if self._collected_only and outcome.collected_at is None:
            return False
        error = outcome.error
        if self._error_types and (error is None or error.type not in self._error_types):
            return False
        if is_fault(outcome):
            self.faults += 1
            return False
        return error is None or error.type not in _NO_PAYLOAD


def _lines_at(
    block: LineBlock[H], places: Sequence[int], *, is_each_once: bool
) -> Iterator[tuple[int, bytes]]:
    """The lines at these places, each with its place in the file.

    A few are found by the beginning that they have where fanout wrote them, which takes a third of the time
    that splitting the block does. ``is_each_once``: no record stands in it twice.
    """
    lines, found, end = b"\n" + block.lines + b"\n", [], 0
    for place in places if is_each_once else ():
        at = lines.find(b'\n{"seq":%d,' % block.outcomes[place].seq, end) + 1
        if not at:
            break
        end = lines.index(b"\n", at)
        found.append((block.begins_at + at - 1, lines[at:end]))
    if len(found) == len(places):
        yield from found
        return
    each = block.split()
    ends = list(accumulate(map(len, each), initial=block.begins_at))  # line breaks left out
    for place in places:
        yield ends[place] + place, each[place]


class Redrive:
    """The records to send again: their numbers, and where their latest outcomes stand in the journal.

    ``statuses`` are those of these outcomes, by their places in ``STATUSES``.
    """

    def __init__(
        self, directory: Path, *, seqs: array[int], places: array[int], statuses: array[int]
    ) -> None:
        self._path = directory / OUTCOMES_FILE
        self._decoder = msgspec.json.Decoder(StoredOutcome)
        self._seqs = seqs
        self._places = places
        self._statuses = statuses

    def __len__(self) -> int:
        return len(self._seqs)

    @property
    def seqs(self) -> Iterable[int]:
        """Their numbers, in order."""
        return self._seqs

    def status_of(self, seq: int) -> str:
        """The status of a record before it is sent again. Raises KeyError for one that is not."""
        at = bisect_left(self._seqs, seq)
        if at == len(self._seqs) or self._seqs[at] != seq:
            raise KeyError(seq)
        return STATUSES[self._statuses[at]]

    def records(self, suspects: Container[int] = ()) -> Iterator[InputRecord]:
        """The records, in the order of the input; ``suspects`` are marked as such. Raises JournalError."""
        try:
            with self._path.open("rb") as file:
                for seq, at in zip(self._seqs, self._places, strict=True):
                    file.seek(at)
                    yield self._again(file.readline(), is_suspect=seq in suspects)
        except OSError as error:
            raise JournalError(f"{self._path} cannot be read: {error.strerror}") from error

    def _again(self, line: bytes, *, is_suspect: bool) -> InputRecord:
        outcome = decode_line(line, self._decoder)
        own: Record | None = None
        parameters = (outcome.qualifier, outcome.tenant_id, outcome.durable_name, outcome.client_context)
        if any(value is not None for value in parameters):
            own = Record(
                None,
                client_context=outcome.client_context,  # base64 will do
                qualifier=outcome.qualifier,
                tenant_id=outcome.tenant_id,
                durable_name=outcome.durable_name,
            )
        record = InputRecord(
            outcome.seq,
            unembed(outcome.input_raw, outcome.input_encoding),
            key=outcome.key,
            line=outcome.line,
            source=outcome.source,
            own=own,
        )
        if is_suspect:
            record.fault, record.fault_verdict = MAY_HAVE_RUN, Verdict.AMBIGUOUS
        return record
