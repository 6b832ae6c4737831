"""The intake of a run: which records it has, in which order, and what each of them is.

One object, made whole: of an input, of an iterable, or of an earlier run's failures. It counts ``seq``,
passes over what is finished, applies the selection, marks suspects, and ends with the input or with
``take``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Callable, Container, Iterator, Sequence, Sized
from functools import partial
from typing import Any, Protocol, cast

import msgspec

from fanout.dispatcher.block_supply import BlockSupply
from fanout.dispatcher.intake import EngineIntake
from fanout.dispatcher.nothing import NOTHING
from fanout.dispatcher.record import InputRecord, record_of
from fanout.dispatcher.supply import AsyncSupply, Supply, SyncSupply
from fanout.errors import SourceError
from fanout.inputs import Item, Jump, Reading, Rows, Selector, Source
from fanout.journal.samples import is_sampled, sampled_of
from fanout.runs.item_records import as_suspect, record_of_item, selected

OnRecord = Callable[[int, bytes], None]


class RunIntake(EngineIntake, Protocol):
    """The intake as a run sees it: more than the engine asks."""

    @property
    def handed_out(self) -> int:
        """Records that ``next`` returned, each of which gets an outcome or stays pending."""
        ...

    @property
    def not_sent(self) -> Sequence[int]:
        """Records that were read and never handed out, where they may stand before others that were."""
        ...

    @property
    def is_exhausted(self) -> bool: ...

    @property
    def records_total(self) -> int | None: ...

    @property
    def records_expected(self) -> int | None: ...

    def finished_share(self, outstanding: int) -> float | None: ...

    async def settle(self, not_sent: Sequence[int]) -> None:
        """The run has stopped and its journal is closed: let go of where records came from.

        It comes before run.json says how the run ended. ``not_sent`` certainly did not run.
        """
        ...


class Intake:
    """The records of one run. Exactly one of ``source``, ``payloads`` and ``again`` is given.

    ``payloads``: an iterable or an async iterable. ``again``: records of an earlier generation.
    ``take``: only the first so many records. ``skip``: seqs that have an outcome. ``suspects``: seqs
    that may have run before and are not to be sent again: their outcome is ``unknown``. ``on_record``
    is called with the bytes of each record of the sample as read, and raises SourceError for one that is
    not what it was. ``reading``: how others read the Rows of the source, which ``next_rows`` returns.
    """

    not_sent: Sequence[int] = ()

    def __init__(
        self,
        *,
        source: Source | None = None,
        payloads: Any = None,
        again: Iterator[InputRecord] | None = None,
        selector: Selector | None = None,
        take: int | None = None,
        skip: Container[int] = (),
        suspects: Container[int] = (),
        on_record: OnRecord | None = None,
        records_read_before: int = 0,
        reading: Reading | None = None,
    ) -> None:
        self.source = source
        self.reading = reading
        self.rows_waiting = 0  # of those that ``next_rows`` returned
        self.records_read_before = records_read_before
        self._supply = _supply_of(source, payloads, again)
        self._next = self._supply.next
        self._length = len(payloads) if source is None and isinstance(payloads, Sized) else None
        self._is_again = again is not None
        self._selector = None if selector is None or selector.is_identity else selector
        self._record_of: Callable[[int, Any], InputRecord] = self._of_payload
        if source is not None:
            self._record_of = partial(record_of_item, self._selector)
        elif again is not None:
            self._record_of = _as_it_was
        self._take = take
        self._skip = skip
        self._suspects = suspects
        self._skips_any = skip != () or suspects != ()
        self._on_record = on_record
        self._seq = 0  # of the next record
        self._leaves_rows = False  # ``take`` ends among rows that came together
        self.handed_out = 0  # records that ``next`` returned, each of which gets an outcome or stays pending
        self._failure: BaseException | None = None

    # --- the records ---------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """No further record will come: the input has ended, or ``take`` was reached."""
        return self._seq == self._take or self._failure is not None or self._supply.has_ended

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the input before its end, if any did."""
        return self._failure or self._supply.failure

    def next(self, now_s: float) -> InputRecord | None:  # noqa: ARG002 - for those with a clock
        """The next record to send or to reject."""
        while self._seq != self._take:
            found = self._next()
            if found is NOTHING or self._failure is not None:
                return None
            if isinstance(found, Jump):
                self._seq = found.seq if self._take is None else min(found.seq, self._take)
                continue
            seq = self._seq
            if self._on_record is not None and is_sampled(seq) and not self._is_same(seq, found):
                return None
            self._seq = seq + 1
            if self._skips_any:
                if seq in self._skip:
                    continue
                self.handed_out += 1
                record = self._record_of(seq, found)
                return as_suspect(record) if seq in self._suspects else record
            self.handed_out += 1
            if type(found) is Item and self._selector is None:
                return InputRecord(seq, found.payload, None, found.line, found.source, None, found.error)
            return self._record_of(seq, found)
        return None

    def next_several(self, most: int, most_bytes: int) -> list[InputRecord]:
        """See ``SeveralIntake``."""
        seq, items, _ = self.next_plain(most, most_bytes)
        return [
            InputRecord(each, item.payload, None, item.line, item.source)
            for each, item in enumerate(items, seq)
        ]

    def next_plain(self, most: int, most_bytes: int) -> tuple[int, list[Item], int]:
        """Items of records that follow each other and can be sent as they stand, with the first's seq.

        And the bytes of their payloads. None where the next record needs more than that: ``next`` has it
        then, if there is one.
        """
        supply, seq = self._supply, self._seq
        if self._take is not None:
            most = min(most, self._take - seq)
        if self._skips_any or self._selector or not isinstance(supply, BlockSupply) or self._failure:
            return seq, [], 0
        ready = supply.first(most)
        room, count = most_bytes, 0
        for item in ready:
            if type(item) is not Item or item.error is not None or room <= 0:
                break
            room -= len(item.payload)
            count += 1
        items = ready if count == len(ready) else ready[:count]
        try:
            supply.drop(count)
            if self._on_record is not None:
                for sampled in sampled_of(seq, len(items)):
                    if not self._is_same(sampled, items[sampled - seq]):
                        del items[sampled - seq :]
                        break
            self._seq += len(items)
            self.handed_out += len(items)
        except BaseException as error:
            self._failure = error  # an interrupt: which number the next record has is not certain
            raise
        return seq, items, most_bytes - room

    # --- rows that others read -----------------------------------------------------------------

    @property
    def has_rows_next(self) -> bool:
        """True if ``next_rows`` has what comes next, and ``next`` has not."""
        supply = self._supply
        if not isinstance(supply, BlockSupply):
            return False
        while type(found := supply.peek()) is Jump:
            supply.next()
            self._seq = found.seq if self._take is None else min(found.seq, self._take)
        return type(found) is Rows

    def next_rows(self) -> tuple[int, Rows] | None:
        """The number of the first one, and rows that are next in the input; None where others are."""
        if self._seq == self._take or self._failure is not None or not self.has_rows_next:
            return None
        seq, rows = self._seq, cast("Rows", self._supply.next())
        if self._take is not None and rows.count > self._take - seq:
            self._leaves_rows = True
            rows = msgspec.structs.replace(rows, count=self._take - seq)
        self._seq += rows.count
        return seq, rows

    def claim(self, first: int, end: int) -> list[tuple[int, int, bool]]:
        """Hand out rows by their numbers: ranges of those wanted, and whether they may have run before."""
        if not self._skips_any:
            self.handed_out += end - first
            return [(first, end, False)]
        ranges: list[tuple[int, int, bool]] = []
        for seq in range(first, end):
            if seq in self._skip:
                continue
            self.handed_out += 1
            is_suspect = seq in self._suspects
            if ranges and ranges[-1][1:] == (seq, is_suspect):
                ranges[-1] = (ranges[-1][0], seq + 1, is_suspect)
            else:
                ranges.append((seq, seq + 1, is_suspect))
        return ranges

    def is_suspect(self, seq: int) -> bool:
        """True if it may have run before, and is not to be sent again."""
        return seq in self._suspects

    def record_of_item(self, seq: int, item: Item) -> InputRecord:
        """The record of a row."""
        return self._record_of(seq, item)

    def is_same(self, seq: int, payload: bytes) -> bool:
        """Take note of a row that another has read; it may not be sent if this is False, and none after."""
        return self._failure is None and (
            self._on_record is None or not is_sampled(seq) or self._is_same(seq, Item(payload))
        )

    def count_without_key(self, count: int) -> None:
        """Others found no key in so many records."""
        if self._selector is not None:
            self._selector.without_key += count

    def read_ahead(self, records: int) -> None:
        """Have so many records ready before they are asked for."""
        self._supply.read_ahead(records, sys.maxsize if self._take is None else self._take - self._seq)

    async def fill(self, on_ready: Callable[[], None]) -> None:
        """Read the input as its records are wanted."""
        await self._supply.fill(on_ready)

    async def settle(self, not_sent: Sequence[int]) -> None:
        """Files and iterables keep nothing for a run."""

    async def aclose(self) -> None:
        """Let go of the input. Harmless the second time."""
        await self._supply.aclose()
        if self.source is not None:
            await self.source.aclose()

    def _is_same(self, seq: int, found: Any) -> bool:
        assert self._on_record is not None
        try:
            if isinstance(found, Item):
                self._on_record(seq, found.payload)
        except SourceError as error:
            self._failure = error
            return False
        return True

    def _of_payload(self, seq: int, found: Any) -> InputRecord:
        record = record_of(seq, found)
        return record if self._selector is None else selected(self._selector, record)

    # --- what is known of the input ------------------------------------------------------------

    @property
    def records_read(self) -> int:
        """Records handed out or passed over, in this session or an earlier one."""
        return self.records_read_before if self._is_again else max(self._seq, self.records_read_before)

    @property
    def is_exhausted(self) -> bool:
        """True if the input itself has no more records, whatever ``take`` says."""
        return self._supply.has_ended and self.failure is None and not self._leaves_rows

    @property
    def records_total(self) -> int | None:
        """The number of records, where it is certain: ``take`` is reached, or the end of the input known."""
        total = self._length
        if self._is_again:
            return None
        if self._seq == self._take:
            return self._take
        if total is None and self._is_read:
            total = self._seq + self._ready
        if total is None:
            return None
        return total if self._take is None else min(total, self._take)

    @property
    def records_expected(self) -> int | None:
        """As ``records_total``, and before the input has ended ``take``: the most there can be."""
        return self._take if self.records_total is None else self.records_total

    def finished_share(self, outstanding: int) -> float | None:
        """Share of the input whose records are finished, by the bytes read; None when it is not known."""
        source, seq = self.source, self._seq
        if source is None or not source.bytes_total or not seq or self._is_read:
            return None
        found = seq + self._ready
        waiting = outstanding + self._ready + self.rows_waiting
        return min(1.0, source.bytes_read / source.bytes_total * max(0, found - waiting) / found)

    @property
    def _ready(self) -> int:
        supply = self._supply
        if not isinstance(supply, BlockSupply) or Rows not in supply.kinds:
            return supply.ready
        return supply.weigh(lambda ready: sum(each.count if type(each) is Rows else 1 for each in ready))

    @property
    def _is_read(self) -> bool:
        supply = self._supply
        return supply.is_exhausted if isinstance(supply, BlockSupply) else supply.has_ended


def _as_it_was(seq: int, record: InputRecord) -> InputRecord:  # noqa: ARG001 - it has its own
    return record


def _supply_of(
    source: Source | None,
    payloads: Any,
    again: Iterator[InputRecord] | None,
) -> Supply[Any]:
    if source is not None:
        return BlockSupply(source.batches())
    if again is not None:
        return SyncSupply(again)
    if isinstance(payloads, AsyncIterable):
        return AsyncSupply(aiter(payloads))
    return SyncSupply(iter(payloads))
