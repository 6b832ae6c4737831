"""A dispatcher in a service: priorities under one budget, other threads, health."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanout
from fanout import ConfigError, Dispatcher, FanoutError, InvokeTemplate, Reply
from fanout.dispatcher.call import Feed
from fanout.dispatcher.turns import AGED_TURN, Turns
from tests.scripted import UNAVAILABLE, Scripted, ok


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


async def test_a_priority_that_is_no_number_is_refused() -> None:
    """The caller alone hears of it: a class that cannot be compared would end the turns of all."""
    async with Dispatcher("f", transport=Echo(), concurrency=1, rate=1000, timeout=1) as dispatcher:
        for priority in ("high", None, 1.5):
            with pytest.raises(ConfigError, match="priority is"):
                await dispatcher.invoke(1, priority=priority)  # type: ignore[arg-type]
            with pytest.raises(ConfigError, match="priority is"):
                [outcome async for outcome in dispatcher.map([1], priority=priority)]  # type: ignore[arg-type]
        assert (await dispatcher.invoke(2, priority=3)).ok


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
    """And sends nothing; what the environment says needs no botocore, and a dispatcher no commands."""
    fanout.preload()
    with pytest.raises(ValueError, match="has no 'Dispatchers' to preload"):
        fanout.preload("Dispatchers")
    code = "import sys, fanout; fanout.preload('Dispatcher'); print('aiobotocore' in sys.modules, "
    code += "'fanout.commands' in sys.modules, 'fanout.transports.direct' in sys.modules)"
    key = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}
    for environment, expected in ((key, "False False True"), ({}, "True False True")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout.strip() == expected


# --- opening and closing ---------------------------------------------------------------------------


@pytest.mark.looptime
async def test_closing_refuses_new_calls_at_once_and_waits_for_those_in_flight() -> None:
    """A second ``aclose`` waits for the first; whoever calls meanwhile reads why not."""
    transport = Scripted(latency_s=10)
    dispatcher = await Dispatcher("f", transport=transport, concurrency=1).open()
    out, queued = (asyncio.create_task(dispatcher.invoke(n)) for n in range(2))
    await asyncio.sleep(1)
    closing = asyncio.create_task(dispatcher.aclose())
    await asyncio.sleep(1)
    again = asyncio.create_task(dispatcher.aclose())
    for refused in (dispatcher.invoke(2), anext(dispatcher.map([2])), anext(dispatcher.stream(2))):
        with pytest.raises(FanoutError, match="this dispatcher is closed: make a new one"):
            await refused
    assert (await queued).status == "undelivered"
    assert [task.done() for task in (closing, again)] == [False, False]
    await asyncio.gather(closing, again)
    assert out.done()
    assert (await out).status == "succeeded"
    assert transport.count == 1
    with pytest.raises(FanoutError, match="used already"):
        await dispatcher.open()


@pytest.mark.looptime
@pytest.mark.parametrize(("count", "is_left"), [(2, False), (100, False), (100, True)])
async def test_a_map_whose_dispatcher_is_closed_ends_as_one_that_was_cut(count: int, is_left: bool) -> None:
    """What is out has its outcome; payloads that were never read do not pass for done, unless it was left."""
    dispatcher = await Dispatcher("f", transport=Scripted(latency_s=10), concurrency=3).open()
    outcomes = dispatcher.map(range(count))
    first = asyncio.create_task(anext(outcomes))
    await asyncio.sleep(1)
    closing = asyncio.create_task(dispatcher.aclose())
    statuses = [(await first).status]
    if is_left:
        await outcomes.aclose()
    if count == 2 or is_left:
        statuses += [outcome.status async for outcome in outcomes]
    else:
        with pytest.raises(FanoutError, match="closed before the end of the payloads"):
            statuses += [outcome.status async for outcome in outcomes]
        assert [outcome async for outcome in outcomes] == []
    assert set(statuses) == {"succeeded"}
    await closing


@pytest.mark.looptime
@pytest.mark.parametrize("way", ["aclose", "grace", "grace and aclose"])
async def test_closing_within_a_time_cuts_off_what_is_out_then(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have run: ``unknown``. What answered in time has its answer."""
    transport = Scripted(latency_s=lambda call: 100.0 if call.number else 2.0)
    clock = asyncio.get_running_loop().time
    grace = {"aclose": None, "grace": 5, "grace and aclose": 50}[way]
    dispatcher = await Dispatcher("f", transport=transport, concurrency=2, grace=grace).open()
    calls = [asyncio.create_task(dispatcher.invoke(n)) for n in range(2)]
    await asyncio.sleep(1)
    began_s = clock()
    if way == "grace":
        await dispatcher.__aexit__(None, None, None)
    else:
        await dispatcher.aclose(5)
    assert clock() - began_s == pytest.approx(5, abs=0.1)
    assert [(await call).status for call in calls] == ["succeeded", "unknown"]
    (seen,) = (vars(record) for record in caplog.records if "cut off" in record.getMessage())
    assert (seen["fanout_event"], seen["fanout_function"], seen["fanout_calls"]) == ("cut_off", "f", 1)


@pytest.mark.parametrize("wrong", [-1, float("nan"), True])
async def test_a_time_that_is_none(wrong: float) -> None:
    """Named before anything happens."""
    with pytest.raises(ConfigError, match=r"^grace is .*: give seconds, 0 or more$"):
        Dispatcher("f", transport=Echo(), concurrency=1, grace=wrong)
    async with Dispatcher("f", transport=Echo(), concurrency=1) as dispatcher:
        with pytest.raises(ConfigError, match="timeout_s is "):
            await dispatcher.aclose(wrong)
        assert (await dispatcher.invoke(1)).ok


def test_a_dispatcher_of_a_module_belongs_to_the_loop_that_opens_it() -> None:
    """Made without a loop; opened once, however many handlers ask; refused in another loop, closed or not."""
    dispatcher = Dispatcher("f", transport=Echo(), concurrency=2)

    async def handle(number: int) -> object:
        await dispatcher.open()
        return (await dispatcher.invoke(number)).output

    async def handle_all() -> list[object]:
        return await asyncio.gather(*map(handle, range(5)))

    with asyncio.Runner() as runner:
        assert runner.run(handle_all()) == [0, 1, 2, 3, 4]
        assert runner.run(handle_all()) == [0, 1, 2, 3, 4]
        with asyncio.Runner() as other, pytest.raises(FanoutError, match="belongs to another event loop"):
            other.run(handle(1))
        with pytest.raises(FanoutError, match="belongs to another event loop"):
            dispatcher.tune(retries=1)  # in no loop at all
        with asyncio.Runner() as other, pytest.raises(FanoutError, match="belongs to another event loop"):
            other.run(dispatcher.aclose())
        runner.run(dispatcher.aclose())


async def test_a_dispatcher_that_was_never_opened_closes() -> None:
    """As a shutdown hook does after a start-up that failed."""
    dispatcher = Dispatcher("f", transport=Echo(), concurrency=1)
    await dispatcher.aclose(1)
    with pytest.raises(FanoutError, match="used already"):
        await dispatcher.open()


AFTER_A_FORK = """
import asyncio, os, threading
import fanout

class Always:
    async def send(self, template, body, on_chunk=None):
        return fanout.Reply(200, body)
    def set_read_timeout(self, seconds): pass
    async def aclose(self): pass

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

def on_loop(work):
    return asyncio.run_coroutine_threadsafe(work, loop).result()

def opened():
    return fanout.Dispatcher("f", transport=Always(), concurrency=2)

dispatcher = on_loop(opened().open())
assert dispatcher.invoke_sync(1).ok
child = os.fork()
if not child:
    for use in (
        lambda: dispatcher.invoke_sync(1), lambda: asyncio.run(dispatcher.invoke(1)), dispatcher.snapshot,
    ):
        try:
            use()
        except fanout.FanoutError as error:
            print(error, flush=True)
    async def anew():
        async with opened() as own:
            print((await own.invoke(2)).status, flush=True)
    asyncio.run(anew())
    os._exit(0)
os.waitpid(child, 0)
print(dispatcher.invoke_sync(3).status)
on_loop(dispatcher.aclose(1))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_parents_dispatcher_is_refused() -> None:
    """At once and by name, not by waiting for a loop that runs no more; one of its own works."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AFTER_A_FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    refusal = "this dispatcher was opened before the process forked, and is its parent's: "
    refusal += "open one in each process, after the fork"
    assert (done.stdout.splitlines(), done.stderr) == ([refusal] * 3 + ["succeeded"] * 2, "")


@pytest.mark.looptime
async def test_what_is_logged_has_fields(caplog: pytest.LogCaptureFixture) -> None:
    """An outage in a service: when it began, of which function and why, and when it was over."""
    transport = Scripted([ok(), *[UNAVAILABLE] * 4], latency_s=0.01)
    async with Dispatcher("f", transport=transport, concurrency=4, outage_patience=60) as dispatcher:
        assert (await dispatcher.invoke(0)).ok
        assert all([outcome.ok async for outcome in dispatcher.map(range(6))])
    seen = [
        tuple(vars(record).get(f"fanout_{name}") for name in ("event", "function", "cause"))
        for record in caplog.records
        if record.name == "fanout"
    ]
    assert [event for event, _, _ in seen] == ["outage_began", "outage_ended"]
    assert {function for _, function, _ in seen} == {"f"}
    assert "ServiceException" in str(seen[0][2])


@pytest.mark.looptime
@pytest.mark.usefixtures("no_task_left")
@pytest.mark.parametrize("turns", range(6))
async def test_opening_is_whole_or_not_at_all(turns: int) -> None:
    """A second task that opens while the first does can use it at once; one cancelled leaves no task."""
    dispatcher = Dispatcher("f", transport=Scripted(lambda _: ok()), concurrency=2)
    first = asyncio.create_task(dispatcher.open())
    for _ in range(turns):
        await asyncio.sleep(0)
    await dispatcher.open()
    assert [outcome.ok async for outcome in dispatcher.map(range(3))] == [True] * 3
    await first
    await dispatcher.aclose()
    entering = asyncio.create_task(_enter(Dispatcher("f", transport=Scripted(), concurrency=2)))
    for _ in range(turns):
        await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering


async def _enter(dispatcher: Dispatcher) -> None:
    async with dispatcher:
        await asyncio.sleep(60)
