"""The hold: messages stay hidden while they wait, go when their line is safe, and come back at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fanout.errors import SourceError
from fanout.queues.hold import HELD_VISIBILITY_S, VISIBILITY_S, Hold, Receipt

pytestmark = pytest.mark.looptime


class Queue:
    """SQS as far as a hold sees it, in virtual time: when each message is visible again."""

    def __init__(self) -> None:
        self.visible_s: dict[str, float] = {}
        self.deleted: list[str] = []
        self.refuses: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.fault: SourceError | None = None

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def hand_out(self, receipt: str) -> str:
        self.visible_s[receipt] = self.now_s + VISIBILITY_S
        return receipt

    async def delete(self, entries: list[Receipt]) -> list[Receipt]:
        return self._do("delete", entries)

    async def extend(self, entries: list[Receipt]) -> list[Receipt]:
        return self._do("extend", entries)

    def _do(self, action: str, entries: list[Receipt]) -> list[Receipt]:
        assert 1 <= len(entries) <= 10
        self.calls[action] += 1
        if self.fault is not None:
            raise self.fault
        refused = []
        for entry in entries:
            if entry.receipt in self.refuses or self.visible_s.get(entry.receipt, 0) < self.now_s:
                refused.append(entry)
            elif action == "delete":
                self.deleted.append(entry.receipt)
                del self.visible_s[entry.receipt]
            else:
                self.visible_s[entry.receipt] = self.now_s + entry.visibility_s
        return refused


@asynccontextmanager
async def holding(queue: Queue, **options: float) -> AsyncIterator[Hold]:
    hold = Hold(queue, asyncio.get_running_loop().time, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(hold.run())
    try:
        yield hold
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def take(hold: Hold, queue: Queue, *seqs: int) -> None:
    for seq in seqs:
        hold.take(seq, queue.hand_out(f"r{seq}"), asked_s=queue.now_s)


async def test_a_message_in_hand_stays_hidden_for_as_long_as_it_takes() -> None:
    """A call of two hours: visibility of a minute is renewed in time, in tens."""
    queue = Queue()
    async with holding(queue) as hold:
        take(hold, queue, *range(20))
        for _ in range(240):
            await asyncio.sleep(30)
            assert min(queue.visible_s.values()) > queue.now_s
            assert all(hold.is_mine(seq) for seq in range(20))
        assert queue.calls["extend"] <= 2 * 245


async def test_nothing_is_deleted_before_it_is_asked_for() -> None:
    """Deletes go out in tens, and within a moment where there are fewer."""
    queue = Queue()
    async with holding(queue) as hold:
        take(hold, queue, *range(25))
        await asyncio.sleep(10)
        assert queue.deleted == []
        for seq in range(25):
            hold.delete(seq)
        await asyncio.sleep(1)
        assert len(queue.deleted) == 25
        assert queue.calls["delete"] == 3
        assert len(hold) == 0


async def test_the_end_gives_back_what_is_held_and_deletes_what_is_owed() -> None:
    """Every orderly end makes what failed or was never sent visible at once."""
    queue = Queue()
    async with holding(queue) as hold:
        take(hold, queue, *range(15))
        for seq in range(1, 15):
            hold.keep(seq)
        await asyncio.sleep(1)
        hold.delete(0)
        await hold.finish(20)
        assert queue.deleted == ["r0"]
        assert {round(at - queue.now_s) for at in queue.visible_s.values()} == {0}


async def test_what_failed_is_held_longer_at_a_time() -> None:
    """A hundred thousand of them must not cost three hundred requests a second."""
    queue = Queue()
    async with holding(queue) as hold:
        take(hold, queue, 0)
        hold.keep(0)
        await asyncio.sleep(1)
        assert queue.visible_s["r0"] - queue.now_s > HELD_VISIBILITY_S - 2
        await asyncio.sleep(3600)
        assert queue.visible_s["r0"] > queue.now_s
        assert queue.calls["extend"] <= 10


async def test_no_more_failed_ones_are_held_than_allowed() -> None:
    """Past the bound the longest held is released first."""
    queue = Queue()
    async with holding(queue, held_most=3) as hold:
        take(hold, queue, *range(5))
        for seq in range(5):
            hold.keep(seq)
        await asyncio.sleep(1)
        assert [seq for seq in range(5) if seq in hold] == [2, 3, 4]
        assert queue.visible_s["r0"] <= queue.now_s


async def test_what_failed_is_not_held_for_more_than_eleven_hours() -> None:
    """SQS allows twelve from the receipt."""
    queue = Queue()
    async with holding(queue) as hold:
        take(hold, queue, 0)
        hold.keep(0)
        await asyncio.sleep(11 * 3600 + 1000)
        assert 0 not in hold
        assert queue.visible_s["r0"] <= queue.now_s


async def test_a_message_that_sqs_took_back_is_no_longer_mine() -> None:
    """It may be seen by others; the run must wait for it before it calls the queue empty."""
    queue = Queue()
    async with holding(queue) as hold:
        take(hold, queue, 0)
        queue.refuses.add("r0")
        await asyncio.sleep(40)
        assert not hold.is_mine(0)
        assert hold.lost_s > queue.now_s
        queue.refuses.clear()
        take(hold, queue, 0)  # it came again, with a receipt that is good
        assert hold.is_mine(0)


async def test_a_queue_that_is_gone_is_reported_once() -> None:
    """The fault is there for the run to stop by; nothing is raised in a task."""
    queue = Queue()
    queue.fault = SourceError("sqs://q is gone")
    async with holding(queue) as hold:
        take(hold, queue, 0)
        await asyncio.sleep(100)
        assert str(hold.failure) == "sqs://q is gone"
        assert not hold.is_mine(0)


async def test_what_comes_again_beyond_the_bound_is_hidden_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quarter of an hour without being held; where so many are hidden already, it goes back at once."""
    monkeypatch.setattr("fanout.queues.hold._PARKED_MOST", 2)
    queue = Queue()
    async with holding(queue, held_most=1) as hold:
        for seq in range(4):
            hold.keep_again(seq, queue.hand_out(f"r{seq}"), asked_s=queue.now_s)
        await asyncio.sleep(1)
        left_s = [queue.visible_s[f"r{seq}"] - queue.now_s for seq in range(4)]
        assert 0 in hold
        assert all(HELD_VISIBILITY_S - 2 < each <= HELD_VISIBILITY_S for each in left_s[:3])
        assert left_s[3] <= 0
        await asyncio.sleep(HELD_VISIBILITY_S)
        hold.keep_again(4, queue.hand_out("r4"), asked_s=queue.now_s)
        await asyncio.sleep(1)
        assert queue.visible_s["r4"] - queue.now_s > HELD_VISIBILITY_S - 2


async def test_a_message_that_is_dropped_may_be_seen_by_others() -> None:
    """The run waits for it before it calls the queue empty; what was never held changes nothing."""
    queue = Queue()
    async with holding(queue) as hold:
        take(hold, queue, 0)
        hold.drop(1)
        assert hold.lost_s <= queue.now_s
        hold.drop(0)
        assert hold.lost_s == queue.now_s + VISIBILITY_S
        assert 0 not in hold


async def test_what_was_being_deleted_when_the_run_was_cut_is_deleted_at_the_end() -> None:
    """A delete that is cancelled is owed still, as is a release."""
    queue = Queue()
    do, has_begun = queue._do, asyncio.Event()

    async def wait_for_ever(entries: list[Receipt]) -> list[Receipt]:
        has_begun.set()
        await asyncio.Event().wait()
        return []

    queue.delete = queue.extend = wait_for_ever  # type: ignore[method-assign]
    async with holding(queue) as hold:
        take(hold, queue, 0, 1)
        hold.delete(0)
        hold.release(1)
        await has_begun.wait()
        await asyncio.sleep(1)

    async def delete(entries: list[Receipt]) -> list[Receipt]:
        return do("delete", entries)

    async def extend(entries: list[Receipt]) -> list[Receipt]:
        return do("extend", entries)

    queue.delete, queue.extend = delete, extend  # type: ignore[method-assign]
    await hold.finish(20)
    assert queue.deleted == ["r0"]
    assert queue.visible_s["r1"] <= queue.now_s
