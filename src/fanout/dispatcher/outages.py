"""The outages of an engine: which calls wait one out, how it ends, and when a feed is stopped for it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fanout.breaker import Breaker
from fanout.dispatcher.call import Attempt, Call, Feed
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.repeats import Repeats
from fanout.dispatcher.retry_queue import RetryQueue
from fanout.dispatcher.schedule import Schedule
from fanout.dispatcher.waiting_room import WaitingRoom
from fanout.errors import FatalRefusal, OutageError
from fanout.model import Classification, Reply, Verdict
from fanout.outage import Outage


class Outages:
    """Lets the outage policy learn from ends, and moves calls and feeds between schedule and waiting room.

    ``feeds``: those that last for more than one call, which it stops when the patience is used up.
    ``on_refusal`` is called when calls that were accepted are refused. ``wake`` pumps soon.
    """

    def __init__(
        self,
        outage: Outage,
        *,
        waiting_room: WaitingRoom,
        schedule: Schedule,
        retries: RetryQueue,
        repeats: Repeats,
        completion: Completion,
        breaker: Breaker | None,
        feeds: Collection[Feed],
        on_refusal: Callable[[], object],
        wake: Callable[[], object],
        clock: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._outage = outage
        self._waiting_room = waiting_room
        self._schedule = schedule
        self._retries = retries
        self._repeats = repeats
        self._completion = completion
        self._breaker = breaker
        self._feeds = feeds
        self._on_refusal = on_refusal
        self._wake = wake
        self._clock = clock
        self._log = log
        self._streak: list[Call] = []  # of the attempts that failed since the last answer, once each

    def on_progress(self) -> None:
        """A call ran, or was refused for a reason of its own: an outage is over."""
        if self._streak:
            self._streak.clear()
        if self._outage.on_progress():
            self._end()

    def on_probe_cut_off(self, now_s: float) -> None:
        """The probe ends without a word."""
        self._outage.on_probe_over(now_s)

    def hold(
        self,
        attempt: Attempt,
        reply: Reply | None,
        end: Classification,
        now_s: float,
        *,
        has_answered: bool,
        has_succeeded: bool,
    ) -> bool:
        """Learn from an end that is no success. Returns whether its call waits for the outage's end now.

        ``has_answered``: any reply ever came, whatever it said.
        """
        outage, call, verdict = self._outage, attempt.call, end.verdict
        is_like_every_other = verdict is Verdict.FATAL and has_succeeded and not call.has_own_target
        if verdict is not Verdict.TRANSIENT and not is_like_every_other:
            if verdict is Verdict.AMBIGUOUS:
                if attempt.is_outage_probe:
                    outage.on_probe_over(now_s)
                    if outage.is_exhausted(now_s):
                        self._stop()
                return False
            self._streak.clear()
            if outage.on_answer() if verdict is Verdict.THROTTLED else outage.on_progress():
                self._end()
            return False
        if not call.feed.waits_out_outages or not has_answered:
            return False
        was_on = outage.is_on
        record = (id(call.feed), call.records[0].seq)
        if not outage.on_failure(record, end, now_s, is_probe=attempt.is_outage_probe):
            self._streak.append(call)
            return False
        for earlier in self._streak:  # theirs were of the outage too
            earlier.attempts -= 1
        self._streak.clear()
        if verdict is Verdict.FATAL and (not was_on or attempt.is_outage_probe):
            self._on_refusal()
        if outage.announces_pause(now_s):
            text = "pausing, as nothing is answered: %s"
            self._log.warning("outage_began", text, outage.cause, cause=outage.cause)
        call.attempts -= 1  # nothing ran: it spends no attempt
        self._repeats.note_end(call, attempt, reply, end, now_s)
        if attempt.is_probe and self._breaker is not None:
            self._breaker.on_silent_probe()
            attempt.is_probe = False
        if self._completion.is_stopped(call):
            self._completion.give_up(call, now_s)
        else:
            self._waiting_room.calls.append(call)
            if outage.is_exhausted(now_s):
                self._stop()
            else:
                self._schedule.arm(now_s)
        return True

    def _end(self) -> None:
        """Something answered: what waited goes on."""
        now_s = self._clock()
        if self._outage.announces_end(now_s):
            self._log.warning("outage_ended", "going on: there is an answer again")
        for call in self._waiting_room.take(None):
            self._retries.add(call, now_s)
        self._schedule.resume_feeds()
        self._wake()

    def _stop(self) -> None:
        """The patience is used up, or a refusal was confirmed: stop whoever waits."""
        outage = self._outage
        waiting = [feed for feed in self._feeds if feed.waits_out_outages]
        is_refusal, cause = outage.stops_by_refusal, outage.cause
        outage.on_progress()
        self._schedule.resume_feeds()
        for feed in waiting:
            if is_refusal:
                feed.on_fatal(FatalRefusal(cause, code=cause.partition(":")[0]))
            else:
                feed.on_outage(OutageError(f"nothing was answered for too long ({cause})"))
            self._completion.give_up_retries(feed)
        self._wake()
