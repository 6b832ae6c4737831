"""The schedule: which call goes out next, with a permit and a token, and when to look again.

Due retries go before fresh calls, and feeds take turns. In an outage one call at a time probes, and the
rest of those who wait it out are set aside.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from fanout.breaker import Breaker
from fanout.dispatcher.call import Attempt, Call, Feed
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.hedges import Hedges
from fanout.dispatcher.retry_queue import RetryQueue
from fanout.dispatcher.turns import Turns
from fanout.dispatcher.waiting_room import WaitingRoom
from fanout.gate import Gate, Release
from fanout.outage import Outage
from fanout.pacer import Pacer

_SYNC_FAULTS = 256  # records rejected unsent before the event loop gets a turn
_LEAST_WAIT_S = 0.001


class Schedule:
    """Feeds and retries that wait for their turn. ``pump`` starts what may go out; the timer calls it."""

    def __init__(
        self,
        *,
        gate: Gate,
        pacer: Pacer,
        outage: Outage,
        breaker: Breaker | None,
        hedges: Hedges | None,
        retries: RetryQueue,
        waiting_room: WaitingRoom,
        completion: Completion,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        pump: Callable[[], None],
        log: EventLog,
    ) -> None:
        self.is_held = False  # no new attempt goes out
        self.has_more_room = False  # there was, when the last call was taken: its sender pumps
        self._queue: deque[Feed] | Turns = deque()  # Turns once a feed has a priority
        self._gate = gate
        self._pacer = pacer
        self._outage = outage
        self._breaker = breaker
        self._hedges = hedges
        self._retries = retries
        self._waiting_room = waiting_room
        self._completion = completion
        self._clock = clock
        self._loop = loop
        self._pump = pump
        self._log = log
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

    def __len__(self) -> int:
        """Feeds that wait for their turn: single calls that are not out, and inputs."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Nothing waits, and nothing is out."""
        return not (self._queue or self._retries or self._waiting_room or self._gate.in_flight)

    def add(self, feed: Feed) -> None:
        """Give a feed its place at the end of the queue; it has none yet."""
        feed.is_queued = True
        if feed.priority and isinstance(self._queue, deque):
            self._queue = Turns(self._queue)
        self._queue.append(feed)

    def resume_feeds(self) -> None:
        """Give the feeds that an outage set aside their places again; closed ones give nothing more."""
        for feed in self._waiting_room.feeds:
            self._queue.append(feed)
        self._waiting_room.feeds.clear()

    def pop_waiting(self) -> Feed | None:
        """Take out a feed that waits for its turn, or for the end of an outage; None when there is none."""
        for feeds in (self._queue, self._waiting_room.feeds):
            if feeds:
                return feeds.popleft()
        return None

    def close(self) -> None:
        """Forget who waits, and look no more."""
        self._queue.clear()
        self._waiting_room.feeds.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self) -> Attempt | None:
        """An attempt of the next call that may go out now, with its permit and its token; else None."""
        if self.is_held:
            return None
        outage, retries = self._outage, self._retries.heap
        if not self._queue and not retries and not outage.is_on and self._hedges is None:
            return None  # as after most single calls: nothing waits, for a moment either
        now_s = self._clock()
        faults = 0
        breaker, gate = self._breaker, self._gate
        while True:
            is_retry_due = bool(retries) and retries[0][0] <= now_s
            is_probing = outage.is_on and outage.admits(now_s) and bool(self._waiting_room)
            if not is_retry_due and not self._queue and not is_probing:
                copy = None if self._hedges is None else self._take_copy(self._hedges, now_s)
                if copy is None:
                    self.arm(now_s)
                return copy
            if breaker is not None and not breaker.admits(now_s):
                self.arm(now_s)
                return None
            if not gate.has_room(now_s) or not self._pacer.try_take():
                self.arm(now_s)
                return None
            gate.acquire(now_s)
            if is_probing:
                call = self._next_probe(now_s)
            elif is_retry_due:
                call = self._due_retry()
            else:
                call = self._next_of(self._queue, now_s)
            if call is None or call.records[0].fault is not None:
                gate.release(Release.IGNORED, 0, now_s, now_s)
                self._pacer.give_back()
                if call is None:
                    continue
                self._completion.reject(call, now_s)
                faults += 1
                if faults >= _SYNC_FAULTS:
                    self._loop.call_soon(self._pump)
                    return None
                continue
            n_bytes = len(call.body)
            self.has_more_room = gate.add_bytes(n_bytes)
            if is_probing:
                outage.on_probe_sent()
                self._waiting_room.on_probe_sent(call)
            return Attempt(call, n_bytes, breaker is not None and breaker.on_sent(), is_probing)

    def take_several(self, attempts: list[Attempt], most: int) -> None:
        """Add to ``attempts`` what ``take`` would return one after another, until there are ``most``."""
        if most > 1:
            self._take_alike(attempts, most)
        while len(attempts) < most and (attempt := self.take()) is not None:
            attempts.append(attempt)

    def _take_alike(self, attempts: list[Attempt], most: int) -> None:
        """Where one feed alone has a turn, and nothing special is on: several of its calls at once."""
        if self.is_held or len(self._queue) != 1 or self._outage.is_on or self._breaker or self._hedges:
            return
        feed = next(iter(self._queue))
        if not feed.has_several:
            return
        now_s, gate, retries = self._clock(), self._gate, self._retries.heap
        if retries and retries[0][0] <= now_s:
            return
        room = self._pacer.take_several(min(most, gate.room(now_s)))
        if not room:
            return
        try:
            calls = feed.pull_several(room, gate.bytes_left, now_s)
        except Exception as error:  # noqa: BLE001 - an unexpected error, reported to the waiter
            self._queue.popleft()
            feed.is_queued = False
            self._break_off(feed, error)
            calls = []
        feed.outstanding += len(calls)
        taken = [Attempt(call, len(call.body)) for call in calls if call.records[0].fault is None]
        if len(taken) < room:
            self._pacer.give_back(room - len(taken))
        if taken:
            n_bytes = sum([attempt.n_bytes for attempt in taken])
            gate.acquire(now_s, len(taken))
            self.has_more_room = gate.add_bytes(n_bytes)
            attempts += taken
        if len(taken) < len(calls):  # after the others have their permits: whoever hears of it may pump
            for call in calls:
                if call.records[0].fault is not None:
                    self._completion.reject(call, now_s)

    def take_at_once(self, feed: Feed) -> Attempt | None:
        """What ``take`` would return for a new feed of one call; None where that has to be queued.

        As in a service that is not busy: where nothing waits and no permit is short, there are no turns.
        """
        if self._queue or self._retries.heap or self.is_held or self._outage.is_on or self._breaker:
            return None
        now_s, gate = self._clock(), self._gate
        if not gate.has_room(now_s) or not self._pacer.try_take():
            return None
        try:
            call = feed.pull(now_s)
        except Exception as error:  # noqa: BLE001 - an unexpected error, reported to the waiter
            self._break_off(feed, error)
            call = None
        if call is None or call.records[0].fault is not None:
            self._pacer.give_back()
            if call is not None:
                feed.outstanding = 1
                self._completion.reject(call, now_s)
            return None  # it is queued, and has nothing more
        feed.outstanding = 1
        gate.acquire(now_s)
        n_bytes = len(call.body)
        gate.add_bytes(n_bytes)
        return Attempt(call, n_bytes)

    def _take_copy(self, hedges: Hedges, now_s: float) -> Attempt | None:
        """A second attempt of a call that is late, with a permit and a token of its own."""
        is_troubled = self._outage.is_on or (self._breaker is not None and self._breaker.is_open)
        if is_troubled or self._completion.is_closing or (late := hedges.late(now_s)) is None:
            return None
        if not self._gate.has_room(now_s) or not self._pacer.try_take():
            return None
        self._gate.acquire(now_s)
        self.has_more_room = self._gate.add_bytes(late.n_bytes)
        return hedges.copy(late)

    def _due_retry(self) -> Call | None:
        call = self._retries.pop()
        if call.feed.is_abandoned:
            self._completion.give_up(call, self._clock())
            return None
        if self._outage.is_on and call.feed.waits_out_outages:
            self._waiting_room.calls.append(call)
            return None
        call.is_waiting = False
        return call

    def _next_probe(self, now_s: float) -> Call | None:
        """The call that probes: another record each time, where there is one."""
        call = self._waiting_room.probe()
        if call is None:
            return self._next_of(self._waiting_room.feeds, now_s)
        if call.feed.is_abandoned:
            self._completion.give_up(call, now_s)
            return None
        call.is_waiting = False
        return call

    def _next_of(self, queue: deque[Feed] | Turns, now_s: float) -> Call | None:
        """One turn of the feed at the head of a queue, which then goes to its end if it may have more."""
        feed = queue.popleft()
        if self._outage.is_on and feed.waits_out_outages and queue is self._queue:
            self._waiting_room.feeds.append(feed)
            return None
        try:
            call = feed.pull(now_s)
        except Exception as error:  # noqa: BLE001 - an unexpected error, reported to the waiter
            self._break_off(feed, error)
            call = None
        if call is None:
            feed.is_queued = False
            return None
        feed.outstanding += len(call.records)
        if feed.is_single:
            feed.is_queued = False
        else:
            queue.append(feed)
        return call

    def _break_off(self, feed: Feed, error: Exception) -> None:
        self._log.unexpected("a record could not be read", error)
        feed.close()
        feed.on_broken(error)

    def arm(self, now_s: float) -> None:
        """Set the timer for the next moment at which the pump may do more without an event."""
        at_s = self._retries.heap[0][0] if self._retries else None
        if self._queue or at_s is not None:
            change_s = self._gate.next_change_s(now_s)
            if change_s is not None and (at_s is None or change_s < at_s or at_s <= now_s):
                at_s = max(change_s, now_s + _LEAST_WAIT_S)
            if self._breaker is not None and not self._breaker.admits(now_s):
                at_s = self._breaker.probe_at_s  # None while a probe is out, whose end pumps
        if self._outage.is_on and self._waiting_room:
            probe_at_s = self._outage.probe_at_s
            if self._breaker is not None and not self._breaker.admits(max(now_s, probe_at_s or now_s)):
                probe_at_s = self._breaker.probe_at_s  # it holds the outage's probe back too
            elif probe_at_s is not None and probe_at_s <= now_s:  # due, and waits for a permit
                change_s = self._gate.next_change_s(now_s)
                probe_at_s = None if change_s is None else max(change_s, now_s + _LEAST_WAIT_S)
            if probe_at_s is not None and (at_s is None or at_s <= now_s or probe_at_s < at_s):
                at_s = probe_at_s
        if self._hedges is not None and not self._queue and (late_s := self._hedges.late_at_s()) is not None:
            if late_s <= now_s:  # it is late, and waits for a permit
                late_s = self._gate.next_change_s(now_s)
            if late_s is not None and (at_s is None or late_s < at_s):
                at_s = late_s
        if at_s is None or at_s <= now_s:
            # Due already and still held back: by a permit or a token, whose coming back pumps.
            return
        # A little later, so that no rounding keeps it from being due at its own moment.
        at_s = max(at_s, now_s + _LEAST_WAIT_S)
        if self._timer is not None:
            if self._timer_at_s <= at_s and self._timer_at_s > now_s:
                return
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._loop.call_at(at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()
