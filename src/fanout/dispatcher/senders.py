"""The senders of an engine: tasks that send a call, settle it, and take the next one themselves.

So in the steady state a record costs no task, no queue and no wake-up. A sender that finds no call waits
for one to be handed to it, as that costs a third of a new task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fanout.classify import classify
from fanout.dispatcher.call import Attempt
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.hedges import Hedges
from fanout.dispatcher.schedule import Schedule
from fanout.dispatcher.send_errors import classify_error
from fanout.dispatcher.settlement import Settlement
from fanout.retry import RetryBudget
from fanout.transports import Transport

_TURNS_MASK = 63  # a sender yields once in 64 calls
_PARKED_MOST = 1_000


class Senders:
    """Any number of tasks. ``on_broken`` is called with an unexpected error, whose sender is gone."""

    def __init__(
        self,
        transport: Transport,
        *,
        schedule: Schedule,
        settlement: Settlement,
        completion: Completion,
        hedges: Hedges | None,
        retry_budget: RetryBudget,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        pump: Callable[[], None],
        on_broken: Callable[[BaseException], None],
        log: EventLog,
    ) -> None:
        self._transport = transport
        self._schedule = schedule
        self._settlement = settlement
        self._completion = completion
        self._hedges = hedges
        self._retry_budget = retry_budget
        self._clock = clock
        self._loop = loop
        self._pump = pump
        self._on_broken = on_broken
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: dict[asyncio.Task[Any], Attempt] = {}  # those whose attempt they have not begun
        self._parked: list[tuple[asyncio.Task[Any], asyncio.Future[Attempt | None]]] = []  # without one

    def start(self, attempt: Attempt) -> None:
        """Send an attempt, by a sender that waits for one or by another."""
        sender = self._unpark(attempt)
        if sender is None:
            sender = self._loop.create_task(self._send(attempt))
            self._tasks.add(sender)
            sender.add_done_callback(self._on_done)
        self._starting[sender] = attempt

    def cut_off(self, attempt: Attempt | None = None) -> None:
        """Wait no longer for an attempt, or for all; they may run on."""
        if attempt is None:
            for sender in list(self._tasks):
                sender.cancel()
        elif attempt.worker is not None:
            attempt.worker.cancel()
        else:  # it is not out yet
            next(sender for sender, starting in self._starting.items() if starting is attempt).cancel()

    async def aclose(self) -> None:
        """Wait until every sender has ended; no call may be left that one would take."""
        while self._unpark(None) is not None:
            pass
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _unpark(self, attempt: Attempt | None) -> asyncio.Task[Any] | None:
        """Hand an attempt to a sender that waits for one; None when none does."""
        while self._parked:
            sender, future = self._parked.pop()
            if not future.done():  # cancelled ones are
                future.set_result(attempt)
                return sender
        return None

    async def _send(self, attempt: Attempt | None) -> None:
        sender = asyncio.current_task()
        assert sender is not None
        self._starting.pop(sender, None)
        send, clock, schedule = self._transport.send, self._clock, self._schedule
        take, settle = schedule.take, self._settlement.settle
        turns = 0
        while attempt is not None:
            call = attempt.call
            call.attempts += 1
            now_s = attempt.sent_s = clock()
            if call.first_sent_s == 0.0:
                call.first_sent_s = now_s
                self._retry_budget.on_fresh_call()
            attempt.sent_wall_s = time.time()
            if self._hedges is not None:
                self._hedges.begin(attempt, sender)
            template = call.template
            if call.feed.trace is not None:
                template = call.feed.traced(call, template, call.feed.trace)
            try:
                if template.streaming:
                    reply = await send(template, call.body, call.feed.chunk_writer(call))
                else:
                    reply = await send(template, call.body)
                classification = classify(reply, template)
            except Exception as error:  # noqa: BLE001 - whatever is raised is this call's end
                settle(attempt, None, classify_error(error, self._log))
            except BaseException as error:
                if self._settlement.abandon(attempt, error):
                    return
                raise
            else:
                settle(attempt, reply, classification)
            turns += 1
            if not turns & _TURNS_MASK:
                await asyncio.sleep(0)  # a transport that never waits must not starve the loop
            attempt = take()
            if attempt is not None:
                if schedule.has_more_room:
                    self._pump()
            elif len(self._parked) < _PARKED_MOST and not self._completion.is_closing:
                future: asyncio.Future[Attempt | None] = self._loop.create_future()
                self._parked.append((sender, future))
                attempt = await future
                self._starting.pop(sender, None)

    def _on_done(self, sender: asyncio.Task[None]) -> None:
        self._tasks.discard(sender)
        attempt = self._starting.pop(sender, None)
        if attempt is not None:  # cancelled before it began
            self._settlement.withdraw(attempt)
        if not sender.cancelled() and (error := sender.exception()) is not None:
            self._on_broken(error)
