"""A dispatcher in a service: priorities under one budget, other threads, health."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanout
from fanout import Dispatcher, FanoutError, InvokeTemplate, Reply
from fanout.dispatcher.call import Feed
from fanout.dispatcher.turns import AGED_TURN, Turns


class Echo:
    """Answers each call when it is let go, and notes their order."""

    def __init__(self, *, holds: bool = False) -> None:
        self.order: list[bytes] = []
        self.gate = asyncio.Event()
        if not holds:
            self.gate.set()

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: object = None) -> Reply:
        self.order.append(body)
        await self.gate.wait()
        return Reply(200, body)

    def set_read_timeout(self, seconds: float) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""


def feed_of(priority: int) -> Feed:
    feed = Feed()
    feed.priority = priority
    return feed


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=60))
def test_every_feed_has_one_turn_and_none_waits_for_ever(priorities: list[int]) -> None:
    """Feeds that come again at once never hold another class back for more than ten turns a class."""
    turns = Turns()
    feeds = [feed_of(priority) for priority in priorities]
    for feed in feeds:
        turns.append(feed)
    busy = feed_of(-9)
    turns.append(busy)
    waiting = set(map(id, feeds))
    for _ in range(AGED_TURN * (len(feeds) + 1) * 6):
        feed = turns.popleft()
        waiting.discard(id(feed))
        if feed is busy:
            turns.append(busy)
    assert not waiting
    assert list(turns) == [busy]


def test_within_a_class_feeds_keep_their_order() -> None:
    """Lower numbers first, then as they came."""
    feeds = [feed_of(priority) for priority in (1, 0, 1, 0)]
    turns = Turns(feeds)
    assert [feeds.index(turns.popleft()) for _ in range(4)] == [1, 3, 0, 2]
    with pytest.raises(IndexError):
        turns.popleft()


async def test_urgent_calls_go_first_under_a_full_budget() -> None:
    """A background map and urgent calls share one permit."""
    echo = Echo(holds=True)
    async with Dispatcher("f", concurrency=1, transport=echo) as dispatcher:
        first = asyncio.ensure_future(dispatcher.invoke("first"))
        await asyncio.sleep(0)
        calls = [asyncio.ensure_future(dispatcher.invoke(n, priority=n)) for n in (5, 1, 3)]
        await asyncio.sleep(0)
        assert dispatcher.snapshot().queued == 3
        assert dispatcher.snapshot().in_flight == 1
        echo.gate.set()
        await asyncio.gather(first, *calls)
        assert [outcome.output async for outcome in dispatcher.map([7, 8], priority=9)] == [7, 8]
        assert dispatcher.snapshot().counts == {"succeeded": 6}
    assert echo.order == [b'"first"', b"1", b"3", b"5", b"7", b"8"]


async def test_other_threads_use_invoke_sync_and_the_own_one_may_not() -> None:
    """Thread-safe, through the dispatcher's loop; in that loop's thread it would wait for itself."""
    got: list[object] = []
    async with Dispatcher("f", concurrency=2, transport=Echo()) as dispatcher:
        with pytest.raises(FanoutError, match="would block"):
            dispatcher.invoke_sync(1)
        thread = threading.Thread(target=lambda: got.append(dispatcher.invoke_sync({"a": 1}).output))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
    assert got == [{"a": 1}]
    with pytest.raises(FanoutError):
        dispatcher.invoke_sync(1)


def test_preload_imports_what_a_first_call_needs() -> None:
    """And sends nothing."""
    fanout.preload()
