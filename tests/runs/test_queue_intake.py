"""A queue as an intake: every message under one number, run once, deleted when its line is safe."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fanout.dispatcher.record import InputRecord
from fanout.journal import SeqSet
from fanout.model import Outcome, Verdict
from fanout.queues.hold import Hold, Receipt
from fanout.queues.message import Message
from fanout.queues.spool import MessageSpool
from fanout.runs.queue_intake import QueueIntake
from fanout.runs.queue_records import Settled
from tests.queues.stand_in import Queue

pytestmark = pytest.mark.looptime

_messages = msgspec.json.Decoder(list[Message])


class Client:
    """The stand-in's state, asked in virtual time without a network between."""

    arn = "arn:aws:sqs:eu-west-1:123456789012:jobs"
    region = "eu-west-1"

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.lost_receive_s = 0.0
        queue.clock = asyncio.get_running_loop().time

    async def receive(
        self, most: int, *, visibility_s: int, wait_s: int, with_attributes: bool = False
    ) -> list[Message]:
        asked = {"MaxNumberOfMessages": most, "VisibilityTimeout": visibility_s}
        # SQS goes on with a receive whose caller is gone.
        return await asyncio.shield(asyncio.ensure_future(self._receive(asked, wait_s)))

    async def _receive(self, asked: dict[str, int], wait_s: int) -> list[Message]:
        until_s = self.queue.clock() + wait_s
        await asyncio.sleep(0.01)
        while True:
            _, reply = self.queue.act("ReceiveMessage", asked)
            if reply or self.queue.clock() >= until_s:
                return _messages.decode(json.dumps(reply.get("Messages", [])))
            await asyncio.sleep(0.5)

    async def delete(self, entries: list[Receipt]) -> list[Receipt]:
        return self._batch("DeleteMessageBatch", entries)

    async def extend(self, entries: list[Receipt]) -> list[Receipt]:
        return self._batch("ChangeMessageVisibilityBatch", entries)

    def _batch(self, action: str, entries: list[Receipt]) -> list[Receipt]:
        asked = [
            {"Id": str(at), "ReceiptHandle": each.receipt, "VisibilityTimeout": each.visibility_s}
            for at, each in enumerate(entries)
        ]
        _, reply = self.queue.act(action, {"Entries": asked})
        return [entries[int(failed["Id"])] for failed in reply["Failed"]]


class Session:
    """One session of a run: takes records as an engine does, and syncs outcomes when told."""

    def __init__(self, client: Client, intake: QueueIntake, spool: MessageSpool) -> None:
        self.client = client
        self.intake = intake
        self.spool = spool
        self.ready = asyncio.Event()

    async def records(self, most: int = 10_000, *, within_s: float = 1000.0) -> list[InputRecord]:
        """Records until there are so many, or the queue counts as empty."""
        found: list[InputRecord] = []
        async with asyncio.timeout(within_s):
            while len(found) < most:
                record = self.intake.next(0.0)
                if record is not None:
                    found.append(record)
                elif self.intake.has_ended:
                    break
                else:
                    self.ready.clear()
                    await self.ready.wait()
        return found

    def settle(self, records: list[InputRecord], status: Any = "succeeded") -> None:
        """The outcomes of records are on the disk."""
        self.intake.on_synced(
            [Outcome(seq=record.seq, status=status, attempts=1, throttles=0) for record in records]
        )


@asynccontextmanager
async def session(
    queue: Queue, directory: Path, *, is_killed: bool = False, **options: Any
) -> AsyncIterator[Session]:
    loop = asyncio.get_running_loop()
    client = Client(queue)
    spool = MessageSpool(directory)
    hold = Hold(
        client, loop.time, **({"held_most": options.pop("held_most")} if "held_most" in options else {})
    )
    intake = QueueIntake(client, hold, spool, clock=loop.time, **options)
    made = Session(client, intake, spool)
    tasks = [asyncio.create_task(intake.serve()), asyncio.create_task(intake.fill(made.ready.set))]
    try:
        yield made
        if not is_killed:
            await intake.finish()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        spool.close()


def filled(count: int) -> Queue:
    queue = Queue()
    for number in range(count):
        queue.send({"n": number})
    return queue


async def test_every_message_is_a_record_and_goes_when_it_succeeded(tmp_path: Path) -> None:
    """Nothing is deleted before its line is on the disk, and all of it afterwards."""
    queue = filled(500)
    async with session(queue, tmp_path) as run:
        records = await run.records(500)
        assert [record.seq for record in records] == list(range(500))
        assert sorted(json.loads(record.body)["n"] for record in records) == list(range(500))
        assert queue.deleted == []
        run.settle(records)
        assert await run.records() == []
        assert run.intake.has_ended
    assert len(queue.deleted) == 500
    assert not queue.messages


async def test_what_failed_is_not_run_again_and_is_visible_at_the_end(tmp_path: Path) -> None:
    """It is held while the run lasts, and does not keep the queue from counting as empty."""
    queue = filled(20)
    async with session(queue, tmp_path) as run:
        records = await run.records(20)
        run.settle(records[:15])
        run.settle(records[15:], "function_error")
        started_s = queue.clock()
        assert await run.records() == []
        assert queue.clock() - started_s < 45
        assert queue.visible == []
    assert len(queue.visible) == 5


async def test_what_is_given_back_does_not_come_to_receives_that_still_wait(tmp_path: Path) -> None:
    """A run that stops early hides no message for another minute."""
    queue = filled(30)
    async with session(queue, tmp_path) as run:
        records = await run.records(30)
        run.settle(records[:6])
        await asyncio.sleep(3)
        run.intake.release(record.seq for record in records[6:])
    await asyncio.sleep(5)
    assert len(queue.visible) == 24


async def test_a_long_call_keeps_its_message(tmp_path: Path) -> None:
    """Fifteen minutes in flight: nobody else gets to see the message."""
    queue = filled(3)
    async with session(queue, tmp_path) as run:
        records = await run.records(3)
        for _ in range(90):
            await asyncio.sleep(10)
            assert queue.visible == []
        run.settle(records)
    assert len(queue.deleted) == 3


async def test_a_killed_run_takes_its_messages_up_under_their_numbers(tmp_path: Path) -> None:
    """Finished and ok: deleted, not run; a suspect: unknown, and left; never sent: sent under its number."""
    queue = filled(12)
    async with session(queue, tmp_path, is_killed=True) as run:
        first = await run.records(12)
    bodies = {record.seq: record.body for record in first}
    ok = SeqSet()
    for seq in range(4):  # their lines were written; nothing was deleted
        ok.add(seq)
    suspects = {4, 5, 6}
    settled = Settled(ok=ok, suspects=suspects, may_have_run=suspects)
    started_s = queue.clock()
    async with session(queue, tmp_path, settled=settled) as run:
        records = await run.records(8)
        assert queue.clock() - started_s > 30  # it waited for what the killed one had hidden
        assert {record.seq: record.body for record in records} == {
            seq: body for seq, body in bodies.items() if seq >= 4
        }
        assert {record.seq for record in records if record.fault is not None} == suspects
        assert {record.fault_verdict for record in records if record.fault is not None} == {Verdict.AMBIGUOUS}
        run.settle([record for record in records if record.fault is None])
        run.settle([record for record in records if record.fault is not None], "unknown")
        assert await run.records() == []
        assert run.intake.records_read == 12
    assert len(queue.deleted) == 9
    assert len(queue.visible) == 3


async def test_a_message_that_does_not_come_back_is_no_pending_record(tmp_path: Path) -> None:
    """Somebody else took it: unknown where it may have run, undelivered where it was never sent."""
    queue = filled(3)
    async with session(queue, tmp_path, is_killed=True) as run:
        await run.records(3)
    queue.messages.clear()
    async with session(queue, tmp_path, settled=Settled(may_have_run={0})) as run:
        gone = await run.records()
        assert [(record.seq, record.fault_verdict) for record in gone] == [
            (0, Verdict.AMBIGUOUS),
            (1, Verdict.TRANSIENT),
            (2, Verdict.TRANSIENT),
        ]
        assert {record.fault.type for record in gone if record.fault is not None} == {"MessageGone"}


async def test_take_reads_no_more_than_asked_for(tmp_path: Path) -> None:
    """What came beyond it is given back at once, and has no number."""
    queue = filled(40)
    async with session(queue, tmp_path, take=15) as run:
        records = await run.records()
        assert len(records) == run.intake.records_read == 15
        assert run.intake.has_ended
        run.settle(records)
    assert len(queue.deleted) == 15
    assert len(queue.visible) == 25


async def test_follow_goes_on_when_the_queue_is_empty(tmp_path: Path) -> None:
    """Until it is stopped; what comes ten minutes later is run."""
    queue = filled(1)
    async with session(queue, tmp_path, follow=True) as run:
        run.settle(await run.records(1))
        await asyncio.sleep(600)
        assert not run.intake.has_ended
        queue.send({"n": "late"})
        assert len(await run.records(1)) == 1


async def test_more_failures_than_can_be_held_still_come_to_an_end(tmp_path: Path) -> None:
    """The oldest are released, come again, and are known: none is run twice."""
    queue = filled(30)
    async with session(queue, tmp_path, held_most=10) as run:
        records = await run.records(30)
        run.settle(records, "function_error")
        assert await run.records() == []
        assert run.intake.has_ended
    assert len(queue.messages) == 30
    assert len(queue.visible) == 10


async def test_a_receive_whose_reply_was_lost_is_waited_for(tmp_path: Path) -> None:
    """Its messages are hidden from everybody for a minute; the queue is not empty before."""
    queue = filled(0)
    async with session(queue, tmp_path) as run:
        await asyncio.sleep(1)
        run.client.lost_receive_s = queue.clock() + 60
        started_s = queue.clock()
        assert await run.records() == []
        assert queue.clock() - started_s >= 60


async def test_a_body_that_is_not_json_is_rejected_and_stays(tmp_path: Path) -> None:
    """Its outcome names it; nothing is sent."""
    queue = Queue()
    queue.send("hello")
    async with session(queue, tmp_path) as run:
        (record,) = await run.records(1)
        assert record.fault is not None
        assert record.fault.type == "InvalidJson"
        assert record.body == b"hello"


async def test_text_and_events_are_payloads_too(tmp_path: Path) -> None:
    """Format lines: a JSON string. As an event: what the queue's trigger would send."""
    queue = Queue()
    queue.send("hello")
    async with session(queue, tmp_path, is_text=True) as run:
        (record,) = await run.records(1)
        assert record.body == b'"hello"'
        run.settle([record], "function_error")
    (tmp_path / "another").mkdir()
    async with session(queue, tmp_path / "another", as_event=True) as run:
        (record,) = await run.records(1)
        assert record.element is not None
        element = json.loads(record.element)
        assert element["messageId"] == record.identifier
        assert element["body"] == "hello"
        # Twice by the first session: a receive that still waited got what was given back.
        assert element["attributes"]["ApproximateReceiveCount"] == "3"
        assert element["eventSourceARN"] == "arn:aws:sqs:eu-west-1:123456789012:jobs"


async def test_a_slow_disk_loses_no_message_of_the_last_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--fsync always`` the last numbers of ``--take`` are synced before their records are there."""

    async def slowly(sync: Any) -> None:
        await asyncio.sleep(1)
        sync()

    monkeypatch.setattr("anyio.to_thread.run_sync", slowly)
    queue = filled(50)
    async with session(queue, tmp_path, take=10, syncs_spool=True) as run:
        records = await run.records()
        assert [record.seq for record in records] == list(range(10))
        run.settle(records)
    assert len(queue.deleted) == 10
