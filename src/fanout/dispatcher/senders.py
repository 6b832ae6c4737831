"""The senders of an engine: they send a call, settle it, and take the next one themselves.

A transport that can send at once does so: then the reply itself settles the call and takes the next, and
the call costs no task, no future and no turn of the event loop. Where something has to be waited for, a
connection, credentials, a streamed reply, a task sends. One that finds no call waits for one to be handed
to it, as that costs a third of a new task.

Calls that end in one turn of the event loop are settled one after another, then as many others are taken,
then these are signed, then written. What is the same for all of them is done once: successes of one feed are
settled as a block, with one look at the clock, the limit and the journal; the records that follow them are
pulled, marked and given permits together where nothing stands against any of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, cast

from fanout.classify import SUCCESS, classify
from fanout.dispatcher.call import CALLS_A_TURN, Attempt, Call, Feed
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.hedges import Hedges
from fanout.dispatcher.schedule import Schedule
from fanout.dispatcher.send_errors import classify_error
from fanout.dispatcher.settlement import Settlement
from fanout.model import InvokeTemplate, Reply
from fanout.retry import RetryBudget
from fanout.transports import Transport
from fanout.transports.prompt import Flight, PromptTransport

_TURNS_MASK = 63  # a sender yields once in 64 calls
_PARKED_MOST = 1_000
_BLOCK_TIMES = 4  # as many of a block as of single calls in one turn of the loop: about a millisecond

_End = tuple[Flight, Reply | None, Exception | None]


class Senders:
    """Any number of calls on their way.

    ``on_broken`` is called with an unexpected error, whose sender is gone. Hedged calls are sent by tasks
    alone, as either of two may be cut off.
    """

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
        # Asked of its class: what an object passes on to another is not its own.
        is_prompt = hedges is None and hasattr(type(transport), "begin")
        self._prompt = cast("PromptTransport", transport) if is_prompt else None
        self._flights: set[Flight] = set()  # calls that no task waits for
        self._landed: asyncio.Future[None] | None = None  # told when there is none any more
        self._on_end_of_flight = self._on_end
        self._is_gathering = False  # a call has ended in this turn of the loop: others wait for its end
        self._ended: deque[_End] = deque()  # those that do
        self._timestamp = completion.outcomes.timestamps.format

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts: each at once, or by a task that waits for one or by another."""
        for attempt in self.begin(attempts):
            self.start_task(attempt)

    def begin(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Send attempts at once; returns those that would have to wait, which are for ``start_task``."""
        prompt = self._prompt
        if prompt is None:
            return attempts
        late: list[Attempt] = []
        now_s, wall_s = self._clock(), time.time()
        while attempts:
            first = attempts[0].call
            try:
                template = first.template if first.feed.trace is None else self._template(first)
            except Exception:  # noqa: BLE001 - a task finds the same, and tells it
                late.append(attempts[0])
                attempts = attempts[1:]
                continue
            # The functions that one call goes through count in a service, where caches are cold.
            alike: Sequence[Attempt] = attempts
            bodies: Sequence[bytes] = (first.body,)
            if len(attempts) > 1:
                alike = _alike(attempts)
                bodies = [attempt.call.body for attempt in alike]
            begun: list[Flight] = []
            try:
                prompt.begin(template, bodies, alike, wall_s, self._on_end_of_flight, begun)
            except Exception:  # noqa: BLE001, S110 - as above
                pass
            except BaseException:  # an interrupt: the others hold permits, and go out all the same
                for attempt in (*late, *attempts[len(begun) :]):
                    self.start_task(attempt)
                raise
            finally:
                if begun:
                    self._flights.update(begun)
                    self._note_sending(attempts[: len(begun)], now_s, wall_s)
            if len(begun) < len(alike):
                late += alike[len(begun) :]
            attempts = attempts[len(alike) :]
        return late

    def _note_sending(self, attempts: Sequence[Attempt], now_s: float, wall_s: float) -> None:
        """What has to be done for each call is done here, while its reply is awaited."""
        started_at = self._timestamp(wall_s)
        fresh = 0
        for attempt in attempts:
            call = attempt.call
            call.attempts += 1
            attempt.sent_s, attempt.sent_wall_s, attempt.started_at = now_s, wall_s, started_at
            if call.first_sent_s == 0.0:
                call.first_sent_s = now_s
                fresh += 1
        if fresh:
            self._retry_budget.on_fresh_calls(fresh)

    def start_task(self, attempt: Attempt) -> None:
        """Send an attempt by a task that waits for one, or by another."""
        sender = self._unpark(attempt)
        if sender is None:
            sender = self._loop.create_task(self._send(attempt))
            self._tasks.add(sender)
            sender.add_done_callback(self._on_done)
        self._starting[sender] = attempt

    def cut_off(self, attempt: Attempt | None = None) -> None:
        """Wait no longer for an attempt, or for all; they may run on. ``settle_replies`` comes before all."""
        if attempt is None:
            for sender in list(self._tasks):
                sender.cancel()
            while self._flights:
                flight = self._flights.pop()
                flight.cut_off()
                self._settlement.abandon(flight.token, asyncio.CancelledError())
            self._note_landing()
        elif attempt.worker is not None:
            attempt.worker.cancel()
        else:  # it is not out yet
            next(sender for sender, starting in self._starting.items() if starting is attempt).cancel()

    async def aclose(self) -> None:
        """Wait until every sender has ended; no call may be left that one would take."""
        while self._unpark(None) is not None:
            pass
        while self._tasks or self._flights:
            if self._tasks:
                await asyncio.wait(list(self._tasks))
            else:
                if self._landed is None or self._landed.done():
                    self._landed = self._loop.create_future()
                await asyncio.wait([self._landed])

    # --- at once -----------------------------------------------------------------------------

    def _on_end(self, flight: Flight, reply: Reply | None, error: Exception | None) -> None:
        """A call came to its end. The first of a turn is settled on the spot, and the next one sent."""
        if self._is_gathering:
            self._ended.append((flight, reply, error))
            return
        self._is_gathering = True
        try:
            # As ``_end`` does it, in place: each call of a service that is not busy comes by here.
            if flight in self._flights:  # else it was cut off just now
                self._flights.remove(flight)
                if self._settle(flight.token, reply, error):
                    attempt = self._schedule.take()
                    if attempt is not None:
                        self.start((attempt,))
                        if self._schedule.has_more_room:
                            self._pump()
                if self._landed is not None:
                    self._note_landing()
        except Exception as unexpected:  # noqa: BLE001 - as of a task
            self._on_broken(unexpected)
        finally:  # after whoever waited for this call was woken
            self._loop.call_soon(self._end_gathered)

    def _end_gathered(self) -> None:
        """End the calls whose replies came together; others that want the loop wait for no more than some."""
        if not self._ended:
            self._is_gathering = False
            return
        self._loop.call_soon(self._end_gathered)
        self._end(CALLS_A_TURN)

    def _end(self, most: int) -> None:
        """Settle calls whose replies wait, and send as many others, if there are."""
        ended = 0
        waiting = self._ended
        try:
            while most > 0 and waiting:
                if (count := self._settle_block(most * _BLOCK_TIMES)) > 0:
                    most -= -(-count // _BLOCK_TIMES)
                    ended += count
                    continue
                # One by one: an interrupt leaves the others, and so does whoever settles them all meanwhile.
                most -= 1
                flight, reply, error = waiting.popleft()
                if flight in self._flights:  # else it was cut off just now
                    self._flights.remove(flight)
                    ended += self._settle(flight.token, reply, error)
        except BaseException:  # an interrupt
            self._loop.call_soon(self._pump)  # in the place of those that were settled
            raise
        attempts: list[Attempt] = []
        try:
            try:
                self._schedule.take_several(attempts, ended)
            finally:
                if attempts:
                    self.start(attempts)
            if attempts and len(attempts) == ended and self._schedule.has_more_room:
                self._pump()
        except Exception as unexpected:  # noqa: BLE001 - as of a task
            self._on_broken(unexpected)
        if self._landed is not None:
            self._note_landing()

    def _settle_block(self, most: int) -> int:
        """Settle the first calls that wait, where several succeeded that belong together; returns how many.

        Until all is known that settling them needs, they wait on: an interrupt leaves them.
        """
        if self._hedges is not None:
            return 0
        feed: Feed | None = None
        on_their_way = self._flights
        ends: list[tuple[Attempt, Reply]] = []
        try:
            for flight, reply, _ in islice(self._ended, most):
                attempt: Attempt = flight.token
                call = attempt.call
                if call.feed is not feed:
                    if feed is not None or call.feed.is_single:
                        break
                    feed = call.feed
                if reply is None or call.batch is not None or flight not in on_their_way:
                    break
                if reply.status >= 300 or classify(reply, call.template) is not SUCCESS:
                    break  # without a look at what a refusal says, as it comes to that once more
                ends.append((attempt, reply))
        except Exception:  # noqa: BLE001, S110 - the end of a call that is settled alone
            pass
        count = len(ends)
        if feed is None or count < 2:
            return 0
        try:
            block = self._settlement.prepare_block(ends)
            if block is None:
                return 0
            # All at once: an interrupt comes before that, or finds them settled.
            on_their_way -= {flight for flight, _, _ in islice(self._ended, count)}
            try:
                for _ in ends:
                    self._ended.popleft()
            finally:
                self._settlement.settle_block(feed, ends, block)
        except Exception as unexpected:  # noqa: BLE001 - as of a task
            self._on_broken(unexpected)
        return count

    def _settle(self, attempt: Attempt, reply: Reply | None, error: Exception | None) -> bool:
        """True unless an unexpected error came."""
        try:
            if reply is not None:
                try:
                    classification = classify(reply, attempt.call.template)
                except Exception as unexpected:  # noqa: BLE001 - whatever is raised is this call's end
                    reply, error = None, unexpected
            if reply is None:
                assert error is not None
                classification = classify_error(error, self._log)
            self._settlement.settle(attempt, reply, classification)
        except Exception as unexpected:  # noqa: BLE001 - as of a task
            self._on_broken(unexpected)
            return False
        return True

    def settle_replies(self) -> None:
        """Settle the calls whose replies wait for a turn of the loop; the schedule gives no other meanwhile.

        To cut them off would be wrong twice: they have run, and their connections may be others' already.
        """
        self._end(len(self._ended))

    def _note_landing(self) -> None:
        if self._landed is not None and not self._flights and not self._landed.done():
            self._landed.set_result(None)

    # --- by tasks ----------------------------------------------------------------------------

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
        send, clock, schedule, prompt = self._transport.send, self._clock, self._schedule, self._prompt
        take, settle = schedule.take, self._settlement.settle
        turns = 0
        while attempt is not None:
            call = attempt.call
            self._note_sending((attempt,), clock(), time.time())
            if self._hedges is not None:
                self._hedges.begin(attempt, sender)
            try:
                template = self._template(call)
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
                if prompt is not None and not self.begin((attempt,)):
                    attempt = None
                if schedule.has_more_room:
                    self._pump()
            if attempt is not None:
                continue
            if len(self._parked) < _PARKED_MOST and not self._completion.is_closing:
                future: asyncio.Future[Attempt | None] = self._loop.create_future()
                self._parked.append((sender, future))
                attempt = await future
                self._starting.pop(sender, None)

    @staticmethod
    def _template(call: Call) -> InvokeTemplate:
        trace = call.feed.trace
        return call.template if trace is None else call.feed.traced(call, call.template, trace)

    def _on_done(self, sender: asyncio.Task[None]) -> None:
        self._tasks.discard(sender)
        attempt = self._starting.pop(sender, None)
        if attempt is not None:  # cancelled before it began
            self._settlement.withdraw(attempt)
        if not sender.cancelled() and (error := sender.exception()) is not None:
            self._on_broken(error)


def _alike(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """The first attempts, as far as their calls have the same template, and none a trace of its own."""
    template = attempts[0].call.template
    if attempts[0].call.feed.trace is not None:
        return attempts[:1]
    for place, attempt in enumerate(attempts):
        if attempt.call.template is not template or attempt.call.feed.trace is not None:
            return attempts[:place]
    return attempts
