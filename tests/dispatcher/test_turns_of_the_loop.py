"""Replies that come together, on the loops that there are: their clocks go on within a turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from fanout import Dispatcher
from fanout.dispatcher.call import CALLS_A_TURN
from fanout.errors import ReplyLost
from fanout.model import InvokeTemplate, OnChunk, Outcome, Reply
from tests.scripted import Call, PromptScripted, ok

Loop = Callable[[], asyncio.AbstractEventLoop]
each_loop = pytest.mark.parametrize(
    "make_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


class Together(PromptScripted):
    """Answers all calls in one turn of the loop, one every ``pause_s``, once it may."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(latency_s=None)
        self._pause_s = pause_s
        self.may_answer = asyncio.Event()

    async def _answered(self, call: Call, on_chunk: OnChunk | None = None) -> Reply:
        await self.may_answer.wait()
        time.sleep(self._pause_s)
        return await super()._answered(call, on_chunk)

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        self.may_answer.set()  # of the first calls, which leave their connections behind
        reply = await super().send(template, body, on_chunk)
        self.may_answer.clear()
        return reply


def run(
    make_loop: Loop,
    main: Callable[[Dispatcher, Together], Coroutine[Any, Any, None]],
    *,
    calls: int,
    pause_s: float = 0.0,
) -> None:
    async def with_dispatcher() -> None:
        world = Together(pause_s)
        async with Dispatcher("f", transport=world, concurrency=calls) as dispatcher:
            await asyncio.gather(*(dispatcher.invoke("warm") for _ in range(calls)))
            await main(dispatcher, world)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(with_dispatcher())


@each_loop
def test_few_replies_are_settled_in_a_turn(make_loop: Loop) -> None:
    """Whoever else is on the loop waits for no more, however long each takes."""

    async def main(dispatcher: Dispatcher, world: Together) -> None:
        loop = asyncio.get_running_loop()
        turn, turns = 0, list[int]()

        def next_turn() -> None:
            nonlocal turn
            turn += 1
            if len(turns) < 80:
                loop.call_soon(next_turn)

        async def call() -> None:
            assert (await dispatcher.invoke(1)).ok
            turns.append(turn)

        calls = [asyncio.create_task(call()) for _ in range(80)]
        await asyncio.sleep(0.01)
        next_turn()
        world.may_answer.set()
        await asyncio.gather(*calls)
        assert max(map(turns.count, turns)) <= CALLS_A_TURN + 1
        assert world.begun == 80

    run(make_loop, main, calls=80, pause_s=0.0003)


@each_loop
def test_no_reply_that_is_there_is_cut_off(make_loop: Loop) -> None:
    """Their functions have run, and what they said is there: all are settled, however long that takes."""

    async def main(dispatcher: Dispatcher, world: Together) -> None:
        calls = [asyncio.create_task(dispatcher.invoke(1)) for _ in range(200)]
        await asyncio.sleep(0.01)
        world.may_answer.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        dispatcher.engine.cut_off()
        assert [(await call).status for call in calls] == ["succeeded"] * 200

    run(make_loop, main, calls=200)


class Interrupting(ReplyLost):
    """A signal comes when it is read for the first time."""

    has_come = False

    def __str__(self) -> str:
        if not self.has_come:
            self.has_come = True
            raise KeyboardInterrupt
        return "interrupted"


@each_loop
@pytest.mark.parametrize(("concurrency", "at"), [(4, 0), (4, 4), (40, 7), (40, 39)])
def test_an_interrupt_loses_no_other_reply(make_loop: Loop, concurrency: int, at: int) -> None:
    """The replies that came together with the one where it happened are settled, and what waits goes out."""

    def script(call: Call) -> Reply | BaseException:
        return Interrupting() if call.json() == at else ok(call.body)

    async def open_with_connections() -> Dispatcher:
        dispatcher = await Dispatcher("f", transport=world, concurrency=concurrency).open()
        await asyncio.gather(*(dispatcher.invoke("warm") for _ in range(concurrency)))
        return dispatcher

    async def call_all() -> None:
        calls.extend(asyncio.create_task(dispatcher.invoke(n)) for n in range(80))
        await asyncio.wait(calls)

    async def finish() -> list[str]:
        others = calls[:at] + calls[at + 1 :]
        statuses: list[str] = [
            outcome.status for outcome in await asyncio.wait_for(asyncio.gather(*others), 60.0)
        ]
        calls[at].cancel()  # nobody knows how it ended
        await dispatcher.aclose(timeout_s=0)
        return statuses

    calls: list[asyncio.Task[Outcome]] = []
    world = PromptScripted(script, latency_s=None)
    loop = make_loop()
    try:
        dispatcher = loop.run_until_complete(open_with_connections())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(call_all())
        assert loop.run_until_complete(finish()) == ["succeeded"] * 79
    finally:
        loop.close()
