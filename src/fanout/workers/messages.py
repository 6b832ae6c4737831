"""The messages between coordinator and worker. None of them carries credentials."""

from __future__ import annotations

import sys
from typing import Any, Literal

import msgspec

from fanout.config import Options
from fanout.dispatcher import InputRecord
from fanout.inputs import Item, Reading, Rows
from fanout.journal import PackedBlock
from fanout.model import ErrorDetail, Record, Verdict

Command = Literal["go", "drain", "expire", "finish"]


class Settings(msgspec.Struct, frozen=True):
    """The settings of a worker, sent once: the options of its calls, and whose worker it is."""

    version: str  # of fanout, the coordinator's
    options: Options
    generation: int = 0
    function_timeout_s: float = 900.0
    deadline_s: float | None = None  # from now
    run_id: str = ""  # the names of records in batches are built on it
    names_calls: bool = False  # and those of durable executions
    is_child: bool = False  # a process of the coordinator's own: Ctrl-C in its terminal is not for it


# Text as it travels. Where it has lone surrogates, as a key or a file's name may: bytes, in a tuple, as
# no union takes both.
Travelling = str | tuple[bytes] | None


class Lease(msgspec.Struct, frozen=True):
    """A share of the budget. It ends ``lasts_s`` after the worker asked for it.

    ``cuts`` counts the cuts that throttles had caused when it was granted. ``rate_per_s`` None: no bound.
    """

    permits: int
    rate_per_s: float | None
    lasts_s: float
    cuts: int = 0


class HandedRecord(msgspec.Struct, array_like=True, frozen=True):
    """A record on its way to a worker: an InputRecord without its payload's Python form."""

    seq: int
    body: bytes
    key: Travelling = None
    line: int | None = None
    source: Travelling = None
    own: tuple[Any, str | None, str | None, str | None] | None = None
    fault: ErrorDetail | None = None
    is_suspect: bool = False  # the fault's verdict: it may have run
    may_have_run: bool = False  # it was with a worker that was lost, and may be sent again


class HandedLines(msgspec.Struct, array_like=True, frozen=True):
    """Records that follow each other, as they stand in the input. ``lines``: of the first, or of each."""

    first_seq: int
    bodies: list[bytes]
    lines: int | list[int | None] | None
    source: Travelling = None


class HandedLane(msgspec.Struct, array_like=True, frozen=True):
    """Rows that the worker reads for itself. Having them is not leave to send them: see HandedWindow.

    ``names`` are the entry's location and path and the rows' source, where those are not in the rows.
    """

    number: int
    first_seq: int
    rows: Rows
    names: tuple[Travelling, Travelling, Travelling] | None = None


class LaneCut(msgspec.Struct, array_like=True, frozen=True):
    """Of a lane, only these records are still this worker's."""

    number: int
    from_seq: int
    end_seq: int


class HandedWindow(msgspec.Struct, array_like=True, frozen=True):
    """Records of a lane that it has read. Suspects are not sent: they may have run before."""

    number: int
    first_seq: int
    end_seq: int
    is_suspect: bool = False


class Order(msgspec.Struct):
    """From the coordinator, ten times a second. One that comes again has the same ``number``.

    ``records``, ``handed_lines`` and ``windows`` may be sent at once: that is journaled. ``reading``
    comes before the first lane.
    """

    number: int
    lease: Lease | None
    records: list[HandedRecord] = []
    handed_lines: list[HandedLines] = []
    windows: list[HandedWindow] = []
    lanes: list[HandedLane] = []
    cuts: list[LaneCut] = []
    reading: Reading | None = None
    acknowledged: int = 0  # blocks of outcomes that have arrived
    command: Command = "go"
    function_timeout_s: float = 900.0
    deadline_s: float | None = None  # from now
    retries: int | None = None  # where they were changed


class Throttle(msgspec.Struct):
    """Throttles of one kind since the last report, under the lease in force; the kind is ThrottleKind's."""

    kind: str
    retry_after_s: float | None = None


class LaneProgress(msgspec.Struct, array_like=True, frozen=True):
    """The records of a lane that are read, to one past the last; with ``failure`` it reads no further."""

    number: int
    read_to: int
    failure: str | None = None


class Report(msgspec.Struct):
    """The worker's answer. Counts are since the last report, unless they say otherwise."""

    number: int  # of the order
    in_flight: int = 0  # now
    lingering: int = 0  # now
    linger_for_s: float = 0.0
    held: int = 0  # records without an outcome that are not in flight, now
    forming: int = 0  # records whose batch is not full yet, now
    started: int = 0
    succeeded: int = 0
    is_full: bool = False  # permits held calls back
    is_paced: bool = False  # the rate did
    cuts: int = 0  # of the lease in force
    throttles: list[Throttle] = []
    reasons: dict[str, int] = {}
    first_block: int = 0  # the number of the first of ``blocks``
    blocks: list[PackedBlock] = []  # outcomes, not acknowledged yet
    not_sent: list[int] = []
    refused: list[int] = []
    fatal: str | None = None
    fatal_code: str = ""
    failure: str | None = None
    outage: str | None = None  # it stopped, as nothing answered for so long
    is_outage: bool = False  # nothing answers, now
    lanes: list[LaneProgress] = []  # those of which it has read more
    samples: list[tuple[int, bytes]] = []  # of what it has read, for the fingerprint of the input
    without_key: int = 0  # records in which the key's expression found nothing


class Greeting(msgspec.Struct):
    """A worker's answer to its settings: ``refusal`` says why it cannot work."""

    version: str
    process: int
    refusal: str | None = None
    connections: int = sys.maxsize  # that it can open: one for each call in flight


def _packed_text(text: str | None) -> Travelling:
    if text is None or text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return (text.encode("utf-8", "surrogatepass"),)
    return text


def _text(travelling: Travelling) -> str | None:
    return travelling[0].decode("utf-8", "surrogatepass") if isinstance(travelling, tuple) else travelling


def handed(record: InputRecord) -> HandedRecord:
    """A record as it travels."""
    own = record.own
    return HandedRecord(
        record.seq,
        record.body,
        _packed_text(record.key),
        record.line,
        _packed_text(record.source),
        None if own is None else (own.client_context, own.qualifier, own.tenant_id, own.durable_name),
        record.fault,
        record.fault_verdict is Verdict.AMBIGUOUS,
        record.may_have_run,
    )


def handed_lane(number: int, first_seq: int, rows: Rows) -> HandedLane:
    """Rows as they travel."""
    names = (_packed_text(rows.entry.location), _packed_text(rows.entry.path), _packed_text(rows.source))
    if not any(isinstance(name, tuple) for name in names):
        return HandedLane(number, first_seq, rows)
    nameless = msgspec.structs.replace(rows.entry, location="", path=None)
    return HandedLane(number, first_seq, msgspec.structs.replace(rows, entry=nameless, source=None), names)


def unpacked_rows(lane: HandedLane) -> Rows:
    """Its rows."""
    if lane.names is None:
        return lane.rows
    location, path, source = map(_text, lane.names)
    entry = msgspec.structs.replace(lane.rows.entry, location=location or "", path=path)
    return msgspec.structs.replace(lane.rows, entry=entry, source=source)


def lines_of(first_seq: int, items: list[Item]) -> HandedLines:
    """Items of one source as they travel."""
    first, last = items[0].line, items[-1].line
    lines: int | list[int | None] | None = first
    if first is None or last is None or last - first != len(items) - 1:
        lines = [item.line for item in items]
    return HandedLines(first_seq, [item.payload for item in items], lines, _packed_text(items[0].source))


def unpacked_lines(handed_lines: HandedLines) -> list[InputRecord]:
    """Their records."""
    seq, lines, source = handed_lines.first_seq, handed_lines.lines, _text(handed_lines.source)
    each = range(lines, lines + len(handed_lines.bodies)) if isinstance(lines, int) else lines or ()
    return [
        InputRecord(seq + place, body, None, line, source)
        for place, (body, line) in enumerate(zip(handed_lines.bodies, each, strict=True))
    ]


def unpacked(record: HandedRecord) -> InputRecord:
    """A record as the engine takes it."""
    own: Record | None = None
    if record.own is not None:
        context, qualifier, tenant_id, durable_name = record.own
        own = Record(
            None,
            client_context=context,
            qualifier=qualifier,
            tenant_id=tenant_id,
            durable_name=durable_name,
        )
    return InputRecord(
        record.seq,
        record.body,
        _text(record.key),
        record.line,
        _text(record.source),
        own,
        record.fault,
        Verdict.AMBIGUOUS if record.is_suspect else Verdict.REJECTED,
        record.may_have_run,
    )
