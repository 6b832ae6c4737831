"""The records of a run that are sent again, read from its journal alone, in the order of the input."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Container, Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fanout.dispatcher import InputRecord
from fanout.errors import ConfigError, JournalError
from fanout.journal import OUTCOMES_FILE, Head, Sendable, StoredOutcome, decode_line, read_blocks
from fanout.model import OK_STATUSES, STATUS_GROUPS, STATUSES, ErrorDetail, Record, Verdict
from fanout.payload import unembed
from fanout.runs.intake import MAY_HAVE_RUN

# Faults of a record itself, in journals of version 0.1.
FAULT_TYPES = frozenset(
    {"InvalidJson", "InvalidCsv", "InvalidPayload", "InvalidParameter", "SelectionFailed"}
)
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
    """Whether a record can never be sent: what stands in its outcome is not what would be sent.

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


class Redrive:
    """The records to send again, by their latest outcomes; 16 bytes of memory each.

    ``before_generation``: only outcomes of earlier generations count, so that a redrive that was cut
    off goes on with the rest. ``collected_only``: of a queue's records those whose message is deleted.
    ``is_sent_once``: no record has two outcomes, which saves a pass.
    """

    def __init__(
        self,
        directory: Path,
        *,
        statuses: Collection[str],
        error_types: Collection[str] = (),
        before_generation: int,
        collected_only: bool = False,
        is_sent_once: bool = False,
    ) -> None:
        self._path = directory / OUTCOMES_FILE
        self._directory = directory
        self._collected_only = collected_only
        self._decoder = msgspec.json.Decoder(StoredOutcome)
        self._sendable = msgspec.json.Decoder(Sendable)
        self._is_sent_once = is_sent_once
        self._find(frozenset(statuses), frozenset(error_types), before_generation)

    def _find(self, statuses: frozenset[str], error_types: frozenset[str], before_generation: int) -> None:
        seqs, places = array("Q"), array("Q")
        for block, counting in read_blocks(self._directory, Head, latest=not self._is_sent_once):
            heads = block.outcomes
            if statuses.isdisjoint([head.status for head in heads]):
                continue
            lines = block.split()
            begins = list(accumulate([len(line) + 1 for line in lines], initial=block.begins_at))
            for place in range(len(heads)) if counting is None else counting:
                head = heads[place]
                if (
                    head.status in statuses
                    and head.generation < before_generation
                    and self._is_wanted(head, lines[place], error_types)
                ):
                    seqs.append(head.seq)
                    places.append(begins[place])
        order = sorted(range(len(seqs)), key=seqs.__getitem__)
        self._seqs = array("Q", [seqs[at] for at in order])
        self._places = array("Q", [places[at] for at in order])

    def __len__(self) -> int:
        return len(self._seqs)

    @property
    def seqs(self) -> Iterable[int]:
        """Their numbers, in order."""
        return self._seqs

    def records(self, suspects: Container[int] = ()) -> Iterator[InputRecord]:
        """The records, in the order of the input; ``suspects`` are marked as such. Raises JournalError."""
        try:
            with self._path.open("rb") as file:
                for seq, at in zip(self._seqs, self._places, strict=True):
                    file.seek(at)
                    yield self._again(file.readline(), is_suspect=seq in suspects)
        except OSError as error:
            raise JournalError(f"{self._path} cannot be read: {error.strerror}") from error

    def _is_wanted(self, head: Head, line: bytes, error_types: Collection[str]) -> bool:
        if head.status == "function_error" and not error_types and not self._collected_only:
            return True
        outcome = decode_line(line, self._sendable)
        if self._collected_only and outcome.collected_at is None:
            return False
        if is_fault(outcome) or (outcome.error is not None and outcome.error.type in _NO_PAYLOAD):
            return False
        return not error_types or (outcome.error is not None and outcome.error.type in error_types)

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
