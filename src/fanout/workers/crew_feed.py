"""The feed of a run with workers: its records on their way to them and back."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio

from fanout.aws import Clients
from fanout.dispatcher import EngineIntake, InputRecord
from fanout.errors import FatalRefusal, OutageError
from fanout.inputs import Item
from fanout.journal import OutcomeBlock
from fanout.journal.seqs import runs_of
from fanout.model import ErrorDetail, Verdict
from fanout.runs.intake import Intake
from fanout.runs.item_records import record_of_item
from fanout.runs.receiver import RunReceiver
from fanout.workers.lanes import Lane
from fanout.workers.lease_book import LeaseBook
from fanout.workers.member import Member
from fanout.workers.messages import Command, Order, Report, handed, lines_of
from fanout.workers.row_handout import RowHandout
from fanout.workers.windows import MOST_BYTES

_log = logging.getLogger("fanout")

READ_AHEAD_BYTES = 32 * 1024 * 1024  # of payloads
WORKER_LOST = ErrorDetail(
    "WorkerLost", "the worker that had it was lost: it may have run, and was not sent again"
)


class CrewFeed:
    """The records of a run on their way to workers and back. ``fill`` reads the input."""

    def __init__(
        self,
        intake: EngineIntake,
        receiver: RunReceiver,
        *,
        members: Mapping[str, Member],
        book: LeaseBook,
        is_idempotent: bool,
        records_per_call: int = 1,
        deadline_s: float | None = None,
        clients: Callable[[], Clients] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.command: Command = "go"
        self.deadline_s = deadline_s
        self.outstanding = 0
        self.is_finished = False
        self.is_queued = False  # of an engine's queue: there is none
        self.fatal: FatalRefusal | None = None
        self.outage: OutageError | None = None
        self.is_idempotent = is_idempotent
        self._records_per_call = records_per_call
        self._intake = intake
        self._receiver = receiver
        self._members = members
        self._book = book
        self._failure: BaseException | None = None
        self._again: deque[InputRecord] = deque()  # of workers that were lost
        self._filling: anyio.CancelScope | None = None
        self._hurry = asyncio.Event()
        self._mean_bytes = 0.0  # of a record
        self._has_ended = asyncio.Event()  # all is handed out
        self._rows: RowHandout | None = None
        if isinstance(intake, Intake) and intake.reading is not None and clients is not None:
            self._rows = RowHandout(
                intake,
                clients=clients,
                say=say or _log.warning,
                on_ready=self._hurry.set,
                may_have_run=self._mark,
            )

    # --- as a run's feed -----------------------------------------------------------------------

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the input, or the workers, before the end, if any did."""
        unreadable = None if self._rows is None else self._rows.failure
        return self._failure or unreadable or self._intake.failure

    @property
    def forming(self) -> int:
        """Records that wait to be handed over again: no call carries them. Batches form with the workers."""
        return len(self._again) + (0 if self._rows is None else self._rows.left_again)

    @property
    def is_closed(self) -> bool:
        """True once no further record is handed out."""
        return self.command != "go"

    def close(self) -> None:
        """Hand out nothing more; what workers hold unsent comes back."""
        if self.command == "go":
            self.command = "drain"
        self._again.clear()  # they stay without an outcome: a resume finds that they may have run
        if self._rows is not None:
            self._rows.drop()
        if self._filling is not None:
            self._filling.cancel()
        self._hurry.set()
        self._check_finished()

    def set_deadline(self, deadline_s: float) -> None:
        """Another deadline; the workers hear of it with their next orders."""
        self.deadline_s = deadline_s

    def expire(self) -> None:
        """The deadline has passed: what waits for another attempt becomes undelivered."""
        if self.command != "finish":
            self.command = "expire"
        self.close()

    def give_up_retries(self) -> None:
        """Part of ``close`` here: the workers do so when they drain."""

    def wake(self) -> None:
        """Nothing sleeps here for longer than an order takes."""

    def fail(self, error: BaseException) -> None:
        """Workers cannot go on."""
        self._failure = self._failure or error
        self.close()

    async def fill(self) -> None:
        """Run the intake, until it has ended or the feed is closed."""
        with anyio.CancelScope() as self._filling:
            if self.is_closed:
                self._filling.cancel()
            await self._intake.fill(self._on_ready)
            if self._rows is not None:
                await self._has_ended.wait()
        with anyio.CancelScope(shield=True):
            if self._rows is not None:
                await self._rows.aclose()
            await self._intake.aclose()

    def _on_ready(self) -> None:
        self._hurry.set()
        self._check_finished()

    # --- records -------------------------------------------------------------------------------

    def has_records_for(self, member: Member) -> bool:
        """True while more can come for this worker: permits of one that can get none are another's."""
        if self.is_closed:
            return False
        if self._again or self._rows is None:
            return bool(self._again) or not self._intake.has_ended
        if self._rows.can_give(member):
            return True
        return not (self._intake.has_ended or self._rows.blocks_intake)

    @property
    def _rows_left(self) -> int:
        return 0 if self._rows is None else self._rows.left

    def hand_over(self, member: Member, order: Order, now_s: float) -> None:
        """Add the records that a worker may send from now on; the ledger has them before it does."""
        if self.is_closed or not self._receiver.has_room:
            return
        permits = self._book.permits_of(member.name)
        report, room_bytes = member.report, MOST_BYTES
        room = member.window.room(report.held, permits, report.forming)
        handed_over: dict[int, InputRecord | Item | Lane] = {}
        self._read_ahead()
        if self._rows is not None:
            self._rows.assign(member, order, self._members.values())
        calls_left = self._receiver.calls_left  # where there is a spending cap
        room = min(room, self._room_until_enough())
        while len(handed_over) < room and room_bytes > 0:
            most = room - len(handed_over)
            if calls_left is not None:
                most = min(most, calls_left())
            if most <= 0:
                break
            taken, n_bytes = self._take_some(member, order, most, room_bytes, now_s)
            if not taken:
                break
            handed_over.update(taken)
            self.outstanding += len(taken)
            room_bytes -= n_bytes
        if not handed_over:
            self._check_finished()
            return
        member.window.is_cut_short = room_bytes <= 0
        self._mean_bytes = (MOST_BYTES - room_bytes) / len(handed_over)
        if not self._receiver.admit_window(runs_of(sorted(handed_over))):
            order.records, order.handed_lines, order.windows = [], [], []
            self._receiver.not_sent.extend(self._certainly_unsent(handed_over, handed_over))
            self.outstanding -= len(handed_over)
            self._check_finished()
            return
        member.out.update(handed_over)

    def _room_until_enough(self) -> int:
        """Records that may still be out where so many successes are enough: as many as are wanted.

        Or as many as one process would have in flight, if that is more.
        """
        if self._receiver.successes_left is None:
            return sys.maxsize
        permits = sum(self._book.permits_of(name) for name in self._members)
        return max(self._receiver.successes_left(), permits * self._records_per_call) - self.outstanding

    def _take_some(
        self, member: Member, order: Order, most: int, most_bytes: int, now_s: float
    ) -> tuple[Mapping[int, InputRecord | Item | Lane], int]:
        """The next records for a worker, and the bytes of theirs that travel. None: there are none now."""
        records: list[InputRecord] = []
        if self._again:
            records = [self._again.popleft()]
        elif self._rows is not None:
            if lanes := self._rows.take(member, order, most):
                return lanes, 0
            records = self._rows.records(most, most_bytes)
        if not records:
            if self._rows is not None and self._rows.blocks_intake:
                return {}, 0
            items, n_bytes = self._take_plain(order, most, most_bytes)
            if items:
                return items, n_bytes
            record = self._intake.next(now_s)
            records = [] if record is None else [record]
        order.records += map(handed, records)
        return {record.seq: record for record in records}, sum(len(record.body) for record in records)

    def _take_plain(self, order: Order, most: int, most_bytes: int) -> tuple[dict[int, Any], int]:
        if not isinstance(self._intake, Intake):
            return {}, 0
        seq, items, n_bytes = self._intake.next_plain(most, most_bytes)
        if not items:
            return {}, 0
        if items[0].source == items[-1].source:
            order.handed_lines.append(lines_of(seq, items))
        else:
            order.records += [handed(record_of_item(None, seq + at, item)) for at, item in enumerate(items)]
        return dict(enumerate(items, seq)), n_bytes

    def _read_ahead(self) -> None:
        """Have ready what all workers take at once, within reason of memory."""
        if isinstance(self._intake, Intake):
            wanted = sum(each.window.records + self._records_per_call for each in self._members.values())
            self._intake.read_ahead(min(wanted, int(READ_AHEAD_BYTES / max(1.0, self._mean_bytes))))

    def take(self, member: Member, report: Report) -> None:
        """Hand on the outcomes of a report."""
        blocks = report.blocks[max(0, member.blocks - report.first_block) :]
        member.blocks = max(member.blocks, report.first_block + len(report.blocks))
        if report.fatal is not None and self.fatal is None:
            self.fatal = FatalRefusal(report.fatal, code=report.fatal_code)
            self.close()
        if report.outage is not None and self.outage is None:
            self.outage = OutageError(report.outage)
            self.close()
        if report.not_sent:
            came_back = [seq for seq in report.not_sent if seq in member.out]
            self._receiver.not_sent.extend(self._certainly_unsent(came_back, member.out))
            for seq in came_back:
                del member.out[seq]
            self.outstanding -= len(came_back)
        self._receiver.refused.extend(report.refused)
        if self._rows is not None:
            self._rows.take_report(member, report)
        for block in blocks:
            outcomes, out = OutcomeBlock(block), member.out
            expected = out.keys() & outcomes.seqs
            deque(map(out.__delitem__, expected), 0)
            self.outstanding -= len(expected)
            member.load.records += len(expected)
            if len(expected) == len(outcomes):
                self._receiver.deliver_block(outcomes)
            else:  # some are of records that were taken back from it
                self._receiver.deliver_block([each for each in outcomes if each.seq in expected])
        self._check_finished()

    def take_back(self, member: Member) -> None:
        """A worker was lost: what it held may have run. It goes to others, to be sent or to be given up."""
        out = {**member.out}
        member.out.clear()
        self.outstanding -= len(out)
        if self.is_closed:
            self._check_finished()
            return
        if self._rows is not None:
            self._rows.take_back(member, {seq: each for seq, each in out.items() if isinstance(each, Lane)})
        records = [
            record_of_item(None, seq, each) if isinstance(each, Item) else each
            for seq, each in out.items()
            if not isinstance(each, Lane)
        ]
        for record in records:
            self._mark(record)
        self._again.extend(records)
        self._hurry.set()

    def _mark(self, record: InputRecord) -> None:
        """A worker that was lost may have sent it."""
        if record.fault is None:
            if self.is_idempotent:
                record.may_have_run = True
            else:
                record.fault, record.fault_verdict = WORKER_LOST, Verdict.AMBIGUOUS

    async def pause(self, seconds: float) -> None:
        """Wait for the next order's time, or until there is a reason to hurry."""
        self._hurry.clear()
        with anyio.move_on_after(max(0.02, seconds)):
            if seconds > 0.05:
                await anyio.sleep(0.05)
            await self._hurry.wait()

    def _check_finished(self) -> None:
        if self.is_finished or self.outstanding or self._again or self._rows_left:
            return
        is_cut = self._rows is not None and self._rows.has_ended
        if self.is_closed or self._intake.has_ended or is_cut:
            self.is_finished = True
            self._has_ended.set()
            self.command = "finish"
            self._hurry.set()
            self._receiver.end()

    def _certainly_unsent(
        self, seqs: Iterable[int], records: Mapping[int, InputRecord | Item | Lane]
    ) -> list[int]:
        """Those that no worker can have sent: a lost one may have sent what it had, whoever has it now."""
        suspects = self._intake if isinstance(self._intake, Intake) else None
        return [
            seq
            for seq in seqs
            if isinstance(record := records[seq], Item)
            or (
                not (suspects is not None and suspects.is_suspect(seq))
                if isinstance(record, Lane)
                else not (record.may_have_run or record.fault_verdict is Verdict.AMBIGUOUS)
            )
        ]
