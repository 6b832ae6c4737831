"""The handout of rows: which worker reads which, and what of them it may send.

A worker that cannot read its rows gives them back: others read them, or the coordinator does. So they
cost a message and no record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from fanout.aws import Clients
from fanout.dispatcher import InputRecord
from fanout.errors import SourceError
from fanout.runs.intake import Intake
from fanout.runs.item_records import as_suspect
from fanout.workers.lane_reader import LaneReader
from fanout.workers.lanes import Lane, LanePool, part_of
from fanout.workers.member import Member
from fanout.workers.messages import HandedWindow, LaneCut, LaneProgress, Order, Report

HERE = ""  # the coordinator, among the names of workers
_MOST_LANES = 8  # of small files, read ahead by one worker


class RowHandout:
    """The rows of an intake on their way to workers. ``on_ready``: the coordinator has read some itself.

    ``may_have_run`` marks a record that a lost worker may have sent.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        clients: Callable[[], Clients],
        say: Callable[[str], None],
        on_ready: Callable[[], None],
        may_have_run: Callable[[InputRecord], None],
    ) -> None:
        assert intake.reading is not None
        self.failure: SourceError | None = None  # rows that nobody can read
        self._intake = intake
        self._reading = intake.reading
        self._say = say
        self._pool = LanePool()
        self._here = LaneReader(self._reading, clients, on_ready)
        self._may_have_run = may_have_run
        self.has_ended = False  # nothing more is taken from the intake

    @property
    def left(self) -> int:
        """Records that were not handed out."""
        return self._pool.left

    @property
    def left_again(self) -> int:
        """Those of them that a lost worker had."""
        return sum(lane.left for lane in self._pool.of(HERE) if lane.is_again)

    @property
    def blocks_intake(self) -> bool:
        """True while what the intake has next are rows: they wait for a worker to want them."""
        return self.has_ended or self._intake.has_rows_next

    def can_give(self, member: Member) -> bool:
        """True while this worker may still get rows, or records of them; else what is left is with others."""
        if self._pool.of(member.name) or self._pool.of(HERE) or self._pool.waiting:
            return True
        return not self.has_ended and self._intake.has_rows_next

    # --- lanes ---------------------------------------------------------------------------------

    def assign(self, member: Member, order: Order, members: Collection[Member]) -> None:
        """Give a worker what it should read ahead, and say what of its lanes is no more its own."""
        readers = sum(each.reads_lanes for each in members)
        while not self.has_ended and self._pool.waiting <= readers:
            found = self._intake.next_rows()
            if found is None:
                break
            self._pool.add(*found)
        if readers < len(members):
            self._read_here()
        lanes, wanted = self._pool.of(member.name), 2 * member.window.records
        order.cuts += [_cut(lane) for lane in lanes if lane.is_changed]
        while member.reads_lanes and len(lanes) < _MOST_LANES and sum(each.left for each in lanes) < wanted:
            lane = self._pool.give(member.name, wanted)
            if lane is None:
                break
            order.lanes.append(lane.handed())
            lanes = self._pool.of(member.name)
        if order.lanes and not member.knows_reading:
            order.reading, member.knows_reading = self._reading, True
        self._intake.rows_waiting = self.left

    def _read_here(self) -> None:
        lanes = self._pool.of(HERE)
        for lane in lanes:
            if lane.is_changed:
                _obey(self._here, _cut(lane))
        if all(lane.is_again for lane in lanes):
            given = self._pool.give(HERE, 1)
            if given is not None:
                self._here.add(given.handed())

    # --- windows -------------------------------------------------------------------------------

    def take(self, member: Member, order: Order, most: int) -> dict[int, Lane]:
        """Let a worker send some of what it has read. By number, the records' lanes."""
        taken: dict[int, Lane] = {}
        for lane in self._pool.of(member.name):
            while (count := min(most - len(taken), lane.ready)) > 0:
                first, lane.next_seq = lane.next_seq, lane.next_seq + count
                ranges = self._intake.claim(first, lane.next_seq)
                for start, end, is_suspect in ranges:
                    order.windows.append(HandedWindow(lane.number, start, end, is_suspect))
                    taken.update(dict.fromkeys(range(start, end), lane))
                if not ranges or ranges[-1][1] < lane.next_seq:
                    order.cuts.append(_cut(lane))
            if lane.left:
                break  # what comes after it is read after it
        return taken

    def records(self, most: int, most_bytes: int) -> list[InputRecord]:
        """Records that the coordinator has read itself."""
        self._hear(HERE, *self._here.progress())
        records: list[InputRecord] = []
        for lane in self._pool.of(HERE):
            while lane.ready > 0 and len(records) < most and most_bytes > 0:
                seq, lane.next_seq = lane.next_seq, lane.next_seq + 1
                if lane.is_again:
                    ranges = [(seq, lane.next_seq, self._intake.is_suspect(seq))]
                else:
                    ranges = self._intake.claim(seq, lane.next_seq)
                if not ranges:
                    _obey(self._here, _cut(lane))
                    continue
                (item,) = self._here.take(lane.number, seq, lane.next_seq)
                record = self._intake.record_of_item(seq, item)
                records.append(as_suspect(record) if ranges[0][2] else record)
                if lane.is_again:
                    self._may_have_run(record)
                most_bytes -= len(record.body)
            if lane.left:
                break
        return records

    # --- reports -------------------------------------------------------------------------------

    def take_report(self, member: Member, report: Report) -> None:
        """Note what a worker has read, or could not read."""
        self._intake.count_without_key(report.without_key)
        failures = self._hear(member.name, report.lanes, report.samples)
        if failures and member.reads_lanes:
            member.reads_lanes = False
            self._say(f"worker {member.load.name} cannot read rows, and gets them from here: {failures[0]}")

    def _hear(self, name: str, lanes: list[LaneProgress], samples: list[tuple[int, bytes]]) -> list[str]:
        if not all(self._intake.is_same(seq, payload) for seq, payload in samples):
            self.drop()
            return []
        held = {lane.number: lane for lane in self._pool.of(name)}
        failures: list[str] = []
        for progress in lanes:
            lane = held.get(progress.number)
            if lane is None:
                continue
            lane.read_to = max(lane.read_to, progress.read_to)
            if progress.failure is not None:
                failures.append(progress.failure)
        if failures and name == HERE:
            self._fail(failures[0])
        elif failures:
            self._pool.give_back(name)
        return failures

    def take_back(self, member: Member, out: Mapping[int, Lane]) -> None:
        """A worker was lost: others read on in its lanes. ``out``: what it may have sent, to be read here."""
        self._pool.give_back(member.name, is_lost=True)
        for lane, first, end in _runs(out):
            rows = part_of(lane, first, end)
            self._here.add(self._pool.hold(HERE, first, rows, is_again=True).handed())

    # --- the end -------------------------------------------------------------------------------

    def drop(self, from_seq: int = 0) -> None:
        """Hand out nothing more of what begins at or after a record: it stays pending."""
        self.has_ended = True
        for lane in self._pool.drop(from_seq):
            if not lane.is_again:
                self._intake.claim(lane.next_seq, lane.end_seq)
        self._intake.rows_waiting = self.left

    async def aclose(self) -> None:
        """Let go of what is open."""
        await self._here.aclose()

    def _fail(self, why: str) -> None:
        """No one can read these rows: what comes before them is sent, as it is with one process."""
        self.failure = self.failure or SourceError(why)
        self.drop(min(lane.first_seq for lane in self._pool.give_back(HERE)))


def _cut(lane: Lane) -> LaneCut:
    lane.is_changed = False
    return LaneCut(lane.number, lane.next_seq, lane.end_seq)


def _obey(reader: LaneReader, cut: LaneCut) -> None:
    reader.cut(cut.number, cut.from_seq, cut.end_seq)


def _runs(out: Mapping[int, Lane]) -> Iterator[tuple[Lane, int, int]]:
    """Records of one lane that follow each other: the first, and one past the last."""
    first = end = -1
    of: Lane | None = None
    for seq in sorted(out):
        if out[seq] is not of or seq != end:
            if of is not None:
                yield of, first, end
            of, first = out[seq], seq
        end = seq + 1
    if of is not None:
        yield of, first, end
