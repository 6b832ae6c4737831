"""How records are pulled: only when there is room, and never more than the consumer keeps up with."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fanout import Dispatcher, FatalRefusal
from fanout.dispatcher.nothing import NOTHING
from fanout.dispatcher.supply import SLOW_S, SyncSupply
from fanout.model import Outcome
from tests.scripted import MISSING, UNAVAILABLE, Call, Scripted, ok, throttled

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]


class Counted:
    """The numbers below ``n``, and how many of them were pulled."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.pulled = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.n):
            self.pulled += 1
            yield number


class CountedAsync:
    """The same, awaited."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.pulled = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self.n):
            self.pulled += 1
            yield number
            await asyncio.sleep(0)


async def collect(dispatcher: Dispatcher, payloads: Any, **options: Any) -> list[Outcome]:
    """All outcomes of a map."""
    return [outcome async for outcome in dispatcher.map(payloads, **options)]


async def take_all(outcomes: AsyncIterator[Outcome], seen: list[Outcome]) -> None:
    """Take outcomes until there are no more, or an error comes."""
    async for outcome in outcomes:
        seen.append(outcome)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("concurrency", [1, 3, 50])
async def test_every_record_has_one_outcome(ordered: bool, concurrency: int) -> None:
    """Outcomes are as many as records, each seq once, and each has its own record's reply."""
    transport = Scripted(latency_s=lambda call: (call.number * 7 % 5) / 10)
    async with Dispatcher("f", transport=transport, concurrency=concurrency) as dispatcher:
        outcomes = await collect(dispatcher, range(200), ordered=ordered)
    seqs = [outcome.seq for outcome in outcomes]
    assert sorted(seqs) == list(range(200))
    assert (seqs == list(range(200))) is (ordered or concurrency == 1)
    assert all(outcome.json() == outcome.seq and outcome.status == "succeeded" for outcome in outcomes)
    assert transport.most_in_flight == concurrency


async def test_nothing_is_pulled_before_the_first_outcome_is_asked_for() -> None:
    """A map that nobody iterates costs nothing."""
    records = Counted(5)
    async with Dispatcher("f", transport=Scripted(), concurrency=2) as dispatcher:
        outcomes = dispatcher.map(records)
        await asyncio.sleep(1)
        assert records.pulled == 0
        assert (await anext(outcomes)).seq == 0


async def test_a_record_is_pulled_only_with_a_permit_in_hand() -> None:
    """Held records stay within the permits, as long as nothing is retried."""
    records = Counted(1000)
    held: list[int] = []

    def script(call: Call) -> Any:
        held.append(records.pulled - transport.count + transport.in_flight)
        return ok()

    transport = Scripted(script, latency_s=0.1)
    async with Dispatcher("f", transport=transport, concurrency=7) as dispatcher:
        await collect(dispatcher, records)
    assert max(held) <= 7


async def test_records_waiting_for_a_retry_hold_no_permit_and_are_all_that_is_held() -> None:
    """Pulled and unfinished records never exceed the permits and the waiting retries."""
    records = Counted(60)
    finished: list[int] = []
    held: list[int] = []

    def script(call: Call) -> Any:
        waiting = dispatcher.engine.waiting
        held.append(records.pulled - len(finished) - waiting)
        return UNAVAILABLE if call.attempt == 1 and call.number < 10 else ok()

    transport = Scripted(script, latency_s=0.1)
    async with Dispatcher("f", transport=transport, concurrency=4, seed=1) as dispatcher:
        async for outcome in dispatcher.map(records):
            finished.append(outcome.seq)
    assert len(finished) == 60
    assert max(held) <= 4 + 4  # in flight, and finished in the same moment


async def test_an_async_iterable_is_read_at_most_one_element_ahead() -> None:
    """One element may be on its way while the permits are taken; never two."""
    records = CountedAsync(100)
    held: list[int] = []
    finished: list[int] = []

    def script(call: Call) -> Any:
        held.append(records.pulled - len(finished))
        return ok()

    transport = Scripted(script, latency_s=0.1)
    async with Dispatcher("f", transport=transport, concurrency=3) as dispatcher:
        async for outcome in dispatcher.map(records):
            finished.append(outcome.seq)
    assert sorted(finished) == list(range(100))
    assert max(held) <= 3 + 3 + 1


@pytest.mark.looptime(False)
async def test_an_iterator_that_becomes_slow_holds_the_loop_up_twice_at_the_most() -> None:
    """However many elements came quickly before: the timers of calls and batches go on beside it."""
    held_up = []

    def becomes_slow() -> Iterator[int]:
        yield from range(100)
        for number in range(100, 105):
            if threading.current_thread() is threading.main_thread():
                held_up.append(number)
            time.sleep(2 * SLOW_S)
            yield number

    supply = SyncSupply(becomes_slow())
    read = []
    filling = asyncio.create_task(supply.fill(lambda: None))
    while not supply.has_ended:
        element = supply.next()
        if element is NOTHING:
            await asyncio.sleep(0.001)
        else:
            read.append(element)
    await filling
    assert read == list(range(105))
    assert len(held_up) <= 2


async def test_a_slow_async_iterable_delays_only_itself() -> None:
    """Outcomes come while the next element is still awaited."""

    async def slow() -> AsyncIterator[int]:
        for number in range(3):
            yield number
            await asyncio.sleep(10)

    loop = asyncio.get_running_loop()
    async with Dispatcher("f", transport=Scripted(), concurrency=3) as dispatcher:
        start_s = loop.time()
        at = [loop.time() - start_s async for _ in dispatcher.map(slow())]
    assert [round(s) for s in at] == [0, 10, 20]


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_slow_consumer_holds_pulling_back(ordered: bool) -> None:
    """Finished outcomes that wait for the consumer are bounded, however long the input is."""
    records = Counted(100_000)
    transport = Scripted(latency_s=0.001, keeps_calls=False)
    async with Dispatcher("f", transport=transport, concurrency=20) as dispatcher:
        outcomes = dispatcher.map(records, ordered=ordered)
        most = taken = 0
        async for _ in outcomes:
            taken += 1
            most = max(most, records.pulled - taken)
            if taken < 50:
                await asyncio.sleep(1)
            if taken == 3000:
                break
    assert most <= 20 * 11


async def test_memory_does_not_grow_with_the_number_of_records() -> None:
    """Of 30,000 records only those in flight or waiting leave anything behind at any time."""
    most = 0
    transport = Scripted(latency_s=None, keeps_calls=False)
    seen = bytearray(30_000)
    gc.collect()
    before = len(gc.get_objects())
    async with Dispatcher("f", transport=transport, concurrency=16) as dispatcher:
        async for outcome in dispatcher.map({"number": number} for number in range(30_000)):
            seen[outcome.seq] += 1
            if outcome.seq % 6_000 == 5_999:
                most = max(most, len(gc.get_objects()) - before)
    assert set(seen) == {1}
    assert most < 2_000


async def test_ordered_outcomes_wait_for_the_slowest_within_a_window() -> None:
    """A first record that takes long lets ten times the permits run ahead, and no more."""
    records = Counted(10_000)
    transport = Scripted(latency_s=lambda call: 100.0 if call.number == 0 else 0.01)
    async with Dispatcher("f", transport=transport, concurrency=20) as dispatcher:
        outcomes = dispatcher.map(records, ordered=True)
        first = await anext(outcomes)
        assert first.seq == 0
        assert records.pulled <= 20 * 10 + 1
        assert [(await anext(outcomes)).seq for _ in range(300)] == list(range(1, 301))


async def test_an_iterator_that_raises_ends_after_the_outcomes_of_what_was_pulled() -> None:
    """The original error comes out, once, and only after every pulled record's outcome."""

    def broken() -> Iterator[int]:
        yield from range(10)
        raise KeyError("row 10")

    async with Dispatcher("f", transport=Scripted(latency_s=1), concurrency=4) as dispatcher:
        outcomes = dispatcher.map(broken())
        seen: list[Outcome] = []
        with pytest.raises(KeyError, match="row 10"):
            await take_all(outcomes, seen)
        assert sorted(outcome.seq for outcome in seen) == list(range(10))
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)


async def test_an_async_iterator_that_raises_does_the_same() -> None:
    """As with a plain iterator, also when it raises before its first element."""

    async def broken(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number
        raise KeyError("gone")

    async with Dispatcher("f", transport=Scripted(latency_s=1), concurrency=4) as dispatcher:
        for n in (0, 6):
            seen: list[Outcome] = []
            with pytest.raises(KeyError, match="gone"):
                await take_all(dispatcher.map(broken(n)), seen)
            assert sorted(outcome.seq for outcome in seen) == list(range(n))


async def test_an_async_iterator_that_was_cancelled_itself_ends_the_input() -> None:
    """A cancelled task that it waits for does not stop the reading without a word."""

    async def broken() -> AsyncIterator[int]:
        for number in range(6):
            yield number
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(1, task.cancel)
        await task

    def plain() -> Iterator[int]:
        yield from range(6)
        raise asyncio.CancelledError

    async with Dispatcher("f", transport=Scripted(latency_s=1), concurrency=4) as dispatcher:
        for records in (broken(), plain()):
            seen: list[Outcome] = []
            with pytest.raises(RuntimeError, match="the iterator raised CancelledError"):
                await asyncio.wait_for(take_all(dispatcher.map(records), seen), 60)
            assert sorted(outcome.seq for outcome in seen) == list(range(6))


async def test_leaving_the_loop_stops_pulling() -> None:
    """After a break nothing more is pulled; what was in flight finishes before the dispatcher ends."""
    records = Counted(1000)
    transport = Scripted(latency_s=1)
    async with Dispatcher("f", transport=transport, concurrency=5) as dispatcher:
        async for _ in dispatcher.map(records):
            break
        pulled = records.pulled
        await asyncio.sleep(30)
        assert records.pulled == pulled <= 10
        assert (await dispatcher.invoke(1)).ok  # permits are free again
    assert transport.in_flight == 0


async def test_leaving_the_loop_ends_an_async_source_at_once() -> None:
    """A source that would yield its next element in an hour is closed, not waited for."""
    ended = False

    async def source() -> AsyncIterator[int]:
        nonlocal ended
        try:
            yield 1
            await asyncio.sleep(3600)
            yield 2
        finally:
            ended = True

    loop = asyncio.get_running_loop()
    async with Dispatcher("f", transport=Scripted(), concurrency=2) as dispatcher:
        async for _ in dispatcher.map(source()):
            break
        await asyncio.sleep(1)
        assert ended
        start_s = loop.time()
    assert loop.time() - start_s < 1


async def test_leaving_gives_up_what_waits_for_a_retry() -> None:
    """Nobody hears of it any more, so it is not sent again."""
    transport = Scripted(lambda call: ok() if call.json() == 0 else throttled(retry_after="5"))
    async with Dispatcher("f", transport=transport, concurrency=4) as dispatcher:
        async for _ in dispatcher.map(range(4)):
            break
        sent = transport.count
        await asyncio.sleep(60)
    assert transport.count == sent


async def test_leaving_gives_up_what_waits_in_an_outage() -> None:
    """Its probe, too; a map of someone else goes on once there are answers again."""
    is_away = True

    def answer(call: Call) -> Any:
        return UNAVAILABLE if is_away and call.body != b"0" else ok(call.body)

    transport = Scripted(answer, latency_s=0.1)
    async with Dispatcher("f", transport=transport, concurrency=5, outage_patience=900) as dispatcher:
        for _ in range(2):
            outcomes = dispatcher.map(range(100))
            assert (await anext(outcomes)).ok
            await asyncio.sleep(3)
            assert dispatcher.engine.outage.is_on
            await outcomes.aclose()
        is_away = False
        assert len(await collect(dispatcher, range(20))) == 20


@pytest.mark.parametrize("is_left", [False, True])
async def test_a_slow_iterator_raises_what_the_loop_would_take_for_its_own(is_left: bool) -> None:
    """From its thread; and when it gives something, nobody may wait for it any more."""
    release, given = threading.Event(), []

    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.06)  # so long that a thread reads on
            yield number
        if is_left:
            release.wait(10)
            given.append(3)
            yield 3
        raise asyncio.CancelledError

    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        seen: list[Outcome] = []
        outcomes = dispatcher.map(slow())
        if is_left:
            seen += [await anext(outcomes) for _ in range(3)]
            await outcomes.aclose()
            release.set()
            while not given:
                await asyncio.sleep(0.01)
        else:
            with pytest.raises(RuntimeError, match="the iterator raised CancelledError"):
                await take_all(outcomes, seen)
    assert [outcome.output for outcome in seen] == [0, 1, 2]


async def test_a_fatal_refusal_ends_the_map_after_its_outcomes() -> None:
    """Each pulled record has its outcome, then FatalRefusal says why; nothing more is pulled."""
    records = Counted(1000)
    async with Dispatcher("f", transport=Scripted(lambda _: MISSING), concurrency=5) as dispatcher:
        seen: list[Outcome] = []
        with pytest.raises(FatalRefusal, match="ResourceNotFoundException: Function not found") as caught:
            await take_all(dispatcher.map(records), seen)
    assert sorted(outcome.seq for outcome in seen) == list(range(records.pulled))
    assert records.pulled == 5
    assert {outcome.status for outcome in seen} == {"rejected"}
    assert caught.value.http_status == 404


async def test_two_consumers_may_share_one_map() -> None:
    """Several tasks over one iterator each get a part, and all of them end."""
    async with Dispatcher("f", transport=Scripted(latency_s=0.1), concurrency=4) as dispatcher:
        outcomes = dispatcher.map(range(50))

        async def consume() -> list[int]:
            return [outcome.seq async for outcome in outcomes]

        async with asyncio.timeout(60):
            parts = await asyncio.gather(consume(), consume(), consume())
    assert sorted(seq for part in parts for seq in part) == list(range(50))


async def test_maps_and_invokes_take_turns() -> None:
    """A call asked for in the midst of a long map goes out with the next free permit."""
    transport = Scripted(latency_s=1)
    async with Dispatcher("f", transport=transport, concurrency=2) as dispatcher:
        outcomes = dispatcher.map(range(100))
        await anext(outcomes)
        before = transport.count
        calls = [asyncio.create_task(dispatcher.invoke(f"call {n}")) for n in range(4)]
        await asyncio.gather(*calls)
        positions = [n for n, body in enumerate(transport.bodies) if isinstance(body, str)]
    assert positions[0] <= before + 2
    assert positions[-1] <= before + 9  # in turn with the map's records, not after them
    assert [transport.bodies[n] for n in positions] == [f"call {n}" for n in range(4)]


async def test_nested_dispatchers_do_not_mix() -> None:
    """One dispatcher's outcomes may feed another's calls."""
    outer, inner = Scripted(latency_s=0.1), Scripted(latency_s=0.2)
    async with (
        Dispatcher("f", transport=outer, concurrency=3) as first,
        Dispatcher("g", transport=inner, concurrency=2) as second,
    ):
        replies = [(await second.invoke(outcome.seq)).json() async for outcome in first.map(range(20))]
    assert sorted(replies) == list(range(20))
    assert (outer.count, inner.count) == (20, 20)


@pytest.mark.parametrize("wrong", [b"bytes", {"id": 1}, 5, None])
async def test_payloads_that_are_no_records_are_refused(wrong: Any) -> None:
    """Bytes and a dict are one payload, not many: a TypeError says so at once."""
    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        with pytest.raises(TypeError, match="payloads is"):
            dispatcher.map(wrong)


async def test_an_empty_iterable_gives_nothing() -> None:
    """No record, no outcome, no wait."""
    async with Dispatcher("f", transport=Scripted(), concurrency=1) as dispatcher:
        assert await collect(dispatcher, []) == []
        assert await collect(dispatcher, CountedAsync(0)) == []
