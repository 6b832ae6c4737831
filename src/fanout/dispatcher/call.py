"""Calls, their attempts, and the feeds that they belong to: what the loop carries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from fanout.dispatcher.record import InputRecord
from fanout.errors import ConfigError, FatalRefusal, OutageError
from fanout.model import AttemptEnd, Classification, ErrorDetail, InvokeTemplate, OnChunk, Outcome, Reply
from fanout.stats import CallTrace

HISTORY_KEPT = 5
CALLS_A_TURN = 16  # of the event loop, that begin, end or are given up: others on it wait for no more
CLOSED = ErrorDetail("Stopped", "the dispatcher was closed before the call")


class Feed:
    """One customer of the engine: it holds one place in the queue, and is asked when its turn comes.

    The engine calls ``pull`` only with a permit in hand, and then exactly one of ``deliver`` (an outcome
    for each record of the call) and ``give_up`` (stopped first: no outcome, the records stay pending).

    Lower numbers of ``priority`` go first. ``waits_out_outages``: its calls wait while nothing is
    answered, and spend no attempts. ``trace`` is the caller's, where it asked to pass it on.
    ``deadline_s`` is of the engine's clock: no attempt is made that would begin later.
    """

    is_single = False  # has one call: it need not be asked for another
    is_abandoned = False  # nobody waits for outcomes any more: nothing of this feed is sent again
    may_repeat = True  # another attempt may still be made
    has_input_ended = False  # no record follows those that are out
    records_read = 0  # of its input
    copies = 0  # that were sent of late calls
    has_several = False  # ``pull_several`` may have calls
    outage: OutageError | None = None  # what stopped it, if an outage did
    stopped = CLOSED  # the error of calls that are given up unsent
    is_queued = False
    is_closed = False  # pulls nothing more
    outstanding = 0  # records pulled, and without an outcome yet
    fatal: FatalRefusal | None = None
    _timer: asyncio.TimerHandle | None = None  # of the deadline
    _traced: tuple[InvokeTemplate, InvokeTemplate] | None = None

    waits_out_outages = False
    trace: CallTrace | None = None
    deadline_s: float | None = None

    def __init__(
        self,
        *,
        priority: int = 0,
        waits_out_outages: bool = False,
        trace: CallTrace | None = None,
        deadline_s: float | None = None,
    ) -> None:
        self.priority = checked_priority(priority)
        self.waits_out_outages = waits_out_outages
        self.trace = trace
        self.deadline_s = deadline_s

    def pull(self, now_s: float) -> Call | None:
        """The next call; None when there is none now (the feed queues itself again when there is)."""
        raise NotImplementedError

    def pull_several(self, most: int, most_bytes: int, now_s: float) -> list[Call]:
        """Calls that nothing speaks against, up to ``most``; none where ``pull`` has to be asked.

        It ends with the one whose payload brings theirs to ``most_bytes``.
        """
        raise NotImplementedError

    def deliver(self, call: Call, outcomes: list[Outcome]) -> None:
        """Take the outcomes of a call's records. Must not block; raises nothing."""
        raise NotImplementedError

    def deliver_block(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes of calls of one record each that ended together, as ``deliver`` does."""
        raise NotImplementedError

    def give_up(self, call: Call) -> None:
        """A call that certainly did not run ends without an outcome, as the run was stopped."""
        raise NotImplementedError

    def settled(self) -> None:
        """The last call that was out came to its end (after ``deliver`` or ``give_up``)."""

    def set_deadline(self, deadline_s: float) -> None:
        """Another deadline, for attempts from now on. Whoever set it expires the feed."""
        self.deadline_s = deadline_s

    def expire(self) -> None:
        """The deadline has passed: pull nothing more, and end what is not out as undelivered."""
        raise NotImplementedError

    def expire_at_deadline(self, loop: asyncio.AbstractEventLoop) -> None:
        """Expire when the deadline comes, if there is one, unless disarmed before."""
        if self.deadline_s is not None:
            self._timer = loop.call_at(self.deadline_s, self.expire)

    def disarm(self) -> None:
        """Nothing waits for the deadline any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def traced(self, call: Call, template: InvokeTemplate, trace: CallTrace) -> InvokeTemplate:
        """The template with the call's span, or with the caller's: that one is kept, for many records."""
        if call.span is None and (begun := trace.begin()) is not None:
            call.span = begun
        if call.span is not None:
            return msgspec.structs.replace(template, trace_id=call.span[1])
        kept = self._traced
        if kept is None or kept[0] is not template:
            kept = self._traced = (template, msgspec.structs.replace(template, trace_id=trace.header))
        return kept[1]

    def on_fatal(self, error: FatalRefusal) -> None:
        """Every record would be refused alike: stop pulling."""
        if self.fatal is None:
            self.fatal, self.stopped = error, ErrorDetail("Stopped", str(error))
        self.close()

    def on_outage(self, error: OutageError) -> None:
        """An outage lasted longer than the patience with it: stop pulling."""
        self.outage, self.stopped = error, ErrorDetail("Stopped", str(error))
        self.close()

    def close(self) -> None:
        """Pull nothing more; what is out comes back."""
        self.is_closed = True

    def on_broken(self, error: BaseException) -> None:
        """The engine cannot go on: an unexpected error, or its task was cancelled."""

    def chunk_writer(self, call: Call) -> OnChunk | None:  # noqa: ARG002 - for those that want chunks
        """The writer of a streamed reply's chunks; None joins them."""
        return None


def checked_priority(priority: Any) -> int:
    """A priority; ConfigError for what is no whole number, which would end the turns of all others too."""
    if not isinstance(priority, int):
        raise ConfigError(f"priority is {priority!r}: give a whole number")
    return priority


class Batch(msgspec.Struct, frozen=True):
    """The elements of a call that carries a batch, so that it can be taken apart."""

    id: str
    elements: tuple[bytes, ...]
    identifiers: tuple[str, ...]  # messageIds, for shape sqs


class Call(msgspec.Struct):
    """One Invoke: a payload, its parameters and the records it carries. It has one or more attempts.

    ``attempts`` are those that counted, without throttled ones. Times ending in ``_s`` are of the
    engine's monotonic clock.
    """

    feed: Feed
    records: tuple[InputRecord, ...]
    body: bytes
    template: InvokeTemplate
    pulled_s: float
    attempts: int = 0
    throttles: int = 0
    function_error_retries: int = 0
    first_sent_s: float = 0.0
    last: Attempt | None = None  # the one that ended last, while another is to come
    last_end: Classification | None = None  # and how it ended
    last_http_status: int | None = None
    may_have_run: bool = False  # some attempt ended without a reply
    history: list[AttemptEnd] | None = None
    is_waiting: bool = False  # among the retries
    batch: Batch | None = None  # None: the payload is the record's
    spared: int = 0  # attempts that count for no retry: those of batches it was a part of
    span: tuple[Any, str] | None = None  # OpenTelemetry's, and the header that names it
    ran: tuple[Reply, ErrorDetail | None] | None = None  # the last function error, while it is repeated
    copies: int = 0  # second attempts that were sent beside a late one

    @property
    def deadline_s(self) -> float | None:
        """The feed's deadline, or the earliest of the records' own, as they share attempts."""
        deadline_s = self.feed.deadline_s
        if deadline_s is None and self.records[0].deadline_s is not None:
            return min(record.deadline_s for record in self.records if record.deadline_s is not None)
        return deadline_s

    @property
    def has_own_target(self) -> bool:
        """True if a refusal may be of a record's own parameters: its fault, not the run's."""
        own = self.records[0].own
        return own is not None and bool(own.qualifier or own.tenant_id)

    def note_attempt(self, end: AttemptEnd) -> None:
        """Keep how an attempt ended; the last five stay."""
        if self.history is None:
            self.history = []
        elif len(self.history) >= HISTORY_KEPT:
            del self.history[0]
        self.history.append(end)


class Attempt(msgspec.Struct):
    """One sending of a call: it holds a permit, and ends with a reply or a failure."""

    call: Call
    n_bytes: int
    is_probe: bool = False  # the breaker's
    is_outage_probe: bool = False
    sent_s: float = 0.0
    sent_wall_s: float = 0.0  # Unix time; 0 before it is sent
    started_at: str | None = None  # the same in words, where that was done while the reply was awaited
    is_copy: bool = False  # of a late attempt, its twin
    twin: Attempt | None = None  # the other one, while either's end decides about both
    end: tuple[Reply | None, Classification] | None = None  # how it ended, while its copy is awaited
    ended_s: float | None = None  # and when
    is_superseded: bool = False  # its twin has succeeded
    worker: asyncio.Task[None] | None = None  # that sends it, where calls are hedged
