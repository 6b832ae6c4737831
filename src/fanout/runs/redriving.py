"""Which records of a run are sent again, read from its journal alone, in the order of the input."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Container, Iterator
from pathlib import Path

import msgspec

from fanout.runs.feeding import Again
from fanout.errors import ConfigError, JournalError
from fanout.journal import OUTCOMES_FILE, StoredOutcome, decode_line, iter_lines
from fanout.model import OK_STATUSES, STATUS_GROUPS, STATUSES, Record
from fanout.payload import unembed

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


class Redrive:
    """The records to send again, found in one pass; 16 bytes of memory each.

    ``before_generation``: only outcomes of earlier generations count, so that a redrive that was cut
    off goes on with the rest.
    """

    def __init__(
        self,
        directory: Path,
        *,
        statuses: Collection[str],
        error_types: Collection[str] = (),
        before_generation: int,
    ) -> None:
        self._path = directory / OUTCOMES_FILE
        self._decoder = msgspec.json.Decoder(StoredOutcome)
        places: dict[int, int] = {}
        at = 0
        for head, line in iter_lines(directory, latest=False):
            if (
                head.generation < before_generation
                and head.status in statuses
                and self._fits(line, error_types)
            ):
                places[head.seq] = at
            else:
                places.pop(head.seq, None)  # a later outcome of the record counts
            at += len(line)
        self._seqs = array("Q", sorted(places))
        self._places = array("Q", (places[seq] for seq in self._seqs))

    def __len__(self) -> int:
        return len(self._seqs)

    def count_below(self, mark: int, not_sent: Container[int]) -> int:
        """How many of them may have been sent already, in a redrive that was cut off."""
        return sum(1 for seq in self._seqs if seq < mark and seq not in not_sent)

    def records(self, suspects: Container[int] = ()) -> Iterator[Again]:
        """The records, in the order of the input; ``suspects`` are marked as such. Raises JournalError."""
        try:
            with self._path.open("rb") as file:
                for seq, at in zip(self._seqs, self._places, strict=True):
                    file.seek(at)
                    yield self._again(file.readline(), is_suspect=seq in suspects)
        except OSError as error:
            raise JournalError(f"{self._path}: cannot be read: {error.strerror}") from error

    def _fits(self, line: bytes, error_types: Collection[str]) -> bool:
        if not error_types:
            return True
        error = decode_line(line, self._decoder).error
        return error is not None and error.type in error_types

    def _again(self, line: bytes, *, is_suspect: bool) -> Again:
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
        return Again(
            seq=outcome.seq,
            payload=unembed(outcome.input, outcome.input_encoding),
            key=outcome.key,
            line=outcome.line,
            own=own,
            is_no_json=outcome.input_encoding is not None,
            is_suspect=is_suspect,
        )
