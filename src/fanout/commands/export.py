"""An export: outcomes of a run chosen by status and error type, as lines of JSON.

Three kinds of lines: outcomes as they stand in the journal, what the functions returned, and inputs.
Inputs of records that did not succeed are in the journal; others are read again from what the run read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import IO, Literal, Self, TypeVar

import msgspec

from fanout.commands.options import options_of
from fanout.commands.run_input import another_input, reopen_input
from fanout.inputs import Item, SelectionFailed, Selector
from fanout.journal import Head, LineBlock, RunDir, Sendable, SeqSet, check_samples, read_blocks
from fanout.journal.line_blocks import decode_member
from fanout.model import OK_STATUSES, STATUS_GROUPS, STATUSES, Status
from fanout.payload import append_lines, embed
from fanout.runs.redrive import is_fault

Kind = Literal["inputs", "outputs", "outcomes"]
H = TypeVar("H", bound=Head)

_NOT_JSON = "inputs that are not JSON: --outcomes has them"


class OutputLine(Head, kw_only=True, omit_defaults=True):
    """``seq``, ``key`` and output of a record: read from the journal with its status, and written without."""

    status: Status = "succeeded"
    key: str | None = None
    output: msgspec.Raw = None  # type: ignore[assignment]  # Raw | None cannot be read
    output_encoding: Literal["text", "base64"] | None = None
    output_file: str | None = None

    @property
    def has_output(self) -> bool:
        """True if the function returned anything."""
        return self.output_file is not None or self.output is not None

    def bare(self) -> Self:
        """The same without status and generation: defaults are not written."""
        self.status, self.generation = "succeeded", 0
        return self


@dataclass(frozen=True, slots=True)
class Exported:
    """The number of lines written, and of chosen records without one, by what is wrong with them."""

    count: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which records of a run: their latest outcome has one of these statuses and error types (none: any)."""

    run_dir: RunDir
    statuses: frozenset[str]
    error_types: Collection[str] = ()

    @classmethod
    def of(cls, run_dir: RunDir, kind: Kind, names: Collection[str], error_types: Collection[str]) -> Self:
        """From names of statuses or groups of them; without any, those that belong to this kind of export."""
        statuses = {status for name in names for status in STATUS_GROUPS.get(name, {name})}
        usual = {"outcomes": STATUSES, "outputs": OK_STATUSES, "inputs": STATUS_GROUPS["failed"]}[kind]
        return cls(run_dir, frozenset(statuses or usual), error_types)

    def blocks(self, fields: type[H]) -> Iterator[tuple[LineBlock[H], list[int] | None]]:
        """The blocks that hold chosen outcomes, and the places of those; None where all of them are."""
        decoder = msgspec.json.Decoder(Sendable)
        run_dir, error_types = self.run_dir.path, self.error_types

        def has_type(head: Head, line: bytes) -> bool:
            error = decode_member(line, decoder, run_dir, head.seq).error
            return error is not None and error.type in error_types

        for block, counting in read_blocks(run_dir, fields):
            heads = block.outcomes
            places = range(len(heads)) if counting is None else counting
            wanted = [place for place in places if heads[place].status in self.statuses]
            if error_types and wanted:
                each = block.split()
                wanted = [place for place in wanted if has_type(heads[place], each[place])]
            if wanted:
                yield block, None if len(wanted) == len(heads) else wanted


def write_lines(lines: IO[bytes], kind: Kind, choice: Choice) -> Exported:
    """Write the lines of the chosen records. Outside of an event loop.

    Raises JournalError, and SourceError where the input to read again is another.
    """
    if kind == "outcomes":
        return _write_outcomes(lines, choice)
    if kind == "outputs":
        return _write_outputs(lines, choice)
    if choice.statuses & OK_STATUSES:
        return asyncio.run(_write_inputs_again(lines, choice))
    return _write_inputs(lines, choice)


def _write_outcomes(lines: IO[bytes], choice: Choice) -> Exported:
    count = 0
    for block, wanted in choice.blocks(Head):
        if wanted is None:
            lines.writelines((block.lines, b"\n"))
            count += len(block.outcomes)
        else:
            each = block.split()
            lines.write(b"".join([each[place] + b"\n" for place in wanted]))
            count += len(wanted)
    return Exported(count, {})


def _write_outputs(lines: IO[bytes], choice: Choice) -> Exported:
    count = without = 0
    for block, wanted in choice.blocks(OutputLine):
        chosen = block.outcomes if wanted is None else [block.outcomes[place] for place in wanted]
        found = [each.bare() for each in chosen if each.has_output]
        text = bytearray()
        append_lines(text, found)
        lines.write(text)
        count += len(found)
        without += len(chosen) - len(found)
    return Exported(count, {"records without an output": without})


def _write_inputs(lines: IO[bytes], choice: Choice) -> Exported:
    """Take the inputs from the journal."""
    run_dir = choice.run_dir.path
    decoder = msgspec.json.Decoder(Sendable)
    count = not_json = faults = 0
    for block, wanted in choice.blocks(Head):
        each = block.split()
        for place in range(len(each)) if wanted is None else wanted:
            chosen: Sendable = decode_member(each[place], decoder, run_dir, block.outcomes[place].seq)
            if chosen.input is None or chosen.input_encoding is not None:  # type: ignore[redundant-expr]
                not_json += 1
            elif is_fault(chosen):
                faults += 1
            else:
                lines.write(bytes(chosen.input) + b"\n")
                count += 1
    never_sent = "records that can never be sent: --outcomes has them"
    return Exported(count, {_NOT_JSON: not_json, never_sent: faults})


async def _write_inputs_again(lines: IO[bytes], choice: Choice) -> Exported:
    """Find the records in the journal, and their inputs in what the run read."""
    run_dir = choice.run_dir
    wanted = SeqSet()
    for block, places in choice.blocks(Head):
        heads = block.outcomes if places is None else [block.outcomes[place] for place in places]
        wanted.add_many([head.seq for head in heads])
    if not len(wanted):
        return Exported(0, {})
    samples = check_samples(run_dir.path)
    source = reopen_input(run_dir)
    line_of = _line_maker(Selector(select=options_of(run_dir.state).select))
    seq = left_out = count = 0
    try:
        async for batch in source.batches():
            found: list[bytes] = []
            for item in batch:
                if samples.differs(seq, item.payload):
                    raise another_input(source.location, f"record {seq} is another")
                if seq in wanted:
                    line = line_of(item)
                    if line is None:
                        left_out += 1
                    else:
                        found.append(line)
                seq += 1
            lines.write(b"".join([line + b"\n" for line in found]))
            count += len(found)
            if seq > wanted.max:
                break
    finally:
        await source.aclose()
    if seq <= wanted.max:
        raise another_input(source.location, f"it ends before record {wanted.max}")
    return Exported(count, {_NOT_JSON: left_out})


def _line_maker(selector: Selector) -> Callable[[Item], bytes | None]:
    """Makes the payload of a record as one line; None for a record that has no payload."""
    is_identity = selector.is_identity

    def line_of(item: Item) -> bytes | None:
        if item.error is not None:
            return None
        payload = item.payload
        if is_identity and payload and b"\n" not in payload and b"\r" not in payload:
            return payload  # JSON on one line: it was checked when it was read
        try:
            raw, _ = embed(selector.apply(payload)[0])
        except SelectionFailed:
            return None
        return b"" if raw is None else bytes(raw)

    return line_of
