"""Where jobs come from and where their outcomes go: one call, an iterable, an async iterable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from fanout.dispatcher.job import Job
from fanout.errors import FanoutError, FatalRefusal
from fanout.model import ErrorDetail, InvokeTemplate, OnChunk, Outcome

if TYPE_CHECKING:
    from fanout.dispatcher.engine import Engine


DEADLINE_MESSAGE = "the deadline passed before the record was delivered"
NOTHING: Any = object()  # no payload: None is one


class Feed:
    """One customer of the engine: it holds one place in the queue, and is asked when its turn comes.

    The engine calls ``pull`` only with a permit in hand, and then exactly one of ``deliver`` (the
    record's outcome) and ``give_up`` (stopped first: no outcome, the record stays pending).
    """

    is_single = False  # has one job: it need not be asked for another
    deadline_s: float | None = None  # of the engine's clock
    trace_id: str | None = None  # the caller's trace, where it asked to pass it on
    timer: asyncio.TimerHandle | None = None  # of the deadline

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_queued = False
        self.is_closed = False  # pulls nothing more
        self.outstanding = 0  # pulled, and without an outcome yet
        self.fatal: FatalRefusal | None = None
        self._traced: tuple[InvokeTemplate, InvokeTemplate] | None = None

    def pull(self, now_s: float) -> Job | None:
        """The next job; None when there is none now (the feed queues itself again when there is)."""
        raise NotImplementedError

    def deliver(self, job: Job, outcome: Outcome) -> None:
        """Take the outcome of a job. Must not block; raises nothing."""
        raise NotImplementedError

    def give_up(self, job: Job) -> None:
        """A job that certainly did not run ends without an outcome, as the run was stopped."""

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for outcomes any more: nothing of this feed is sent again."""
        return False

    @property
    def may_repeat(self) -> bool:
        """Whether another attempt may still be made."""
        return True

    def disarm(self) -> None:
        """Nothing waits for the deadline any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def traced(self, template: InvokeTemplate) -> InvokeTemplate:
        """The template with the caller's trace; the last one is kept, for feeds of many records."""
        kept = self._traced
        if kept is None or kept[0] is not template:
            kept = self._traced = (template, msgspec.structs.replace(template, trace_id=self.trace_id))
        return kept[1]

    def settled(self) -> None:
        """A job of this feed came to its end (after ``deliver`` or ``give_up``)."""

    def on_fatal(self, error: FatalRefusal) -> None:
        """Every record would be refused alike: stop pulling."""
        if self.fatal is None:
            self.fatal = error
        self.close()

    def close(self) -> None:
        """Pull nothing more; what is out comes back."""
        self.is_closed = True

    def on_broken(self, error: BaseException) -> None:
        """The engine cannot go on: a defect, or its task was cancelled."""

    def chunk_writer(self, job: Job) -> OnChunk | None:  # noqa: ARG002 - for those that want chunks
        """Where a streamed reply's chunks go; None joins them."""
        return None


class CallFeed(Feed):
    """One call of ``Dispatcher.invoke``: its outcome goes to a future."""

    is_single = True

    def __init__(self, engine: Engine, make_job: Callable[[Feed], Job]) -> None:
        super().__init__(engine)
        self._make_job: Callable[[Feed], Job] | None = make_job
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def pull(self, now_s: float) -> Job | None:  # noqa: ARG002
        make_job, self._make_job = self._make_job, None
        if make_job is None or self.future.done():  # the caller was cancelled before its turn came
            return None
        return make_job(self)

    @property
    def is_abandoned(self) -> bool:
        return self.future.cancelled()

    def deliver(self, job: Job, outcome: Outcome) -> None:  # noqa: ARG002
        if not self.future.done():
            self.future.set_result(outcome)

    def give_up(self, job: Job) -> None:
        self.deliver(
            job, self.engine.undelivered(job, "Stopped", "the dispatcher was closed before the call")
        )

    def close(self) -> None:
        super().close()
        make_job, self._make_job = self._make_job, None
        if make_job is not None and not self.future.done():  # its turn never came
            self.give_up(make_job(self))

    def on_broken(self, error: BaseException) -> None:
        if not self.outstanding and not self.future.done():
            self.future.set_exception(FanoutError(f"the dispatcher stopped: {error!r}"))

    def expire(self) -> None:
        """The deadline has passed: a call that is not out, or waits for another attempt, is undelivered."""
        make_job, self._make_job = self._make_job, None
        if make_job is not None and not self.future.done():
            job = make_job(self)
            self.deliver(job, self.engine.undelivered(job, "DeadlineExceeded", DEADLINE_MESSAGE))
        self.engine.give_up_retries(self, error=ErrorDetail("DeadlineExceeded", DEADLINE_MESSAGE))


class PullFeed(Feed):
    """A feed over an iterator or an async iterator of payloads; ``make_job`` turns one into a job.

    An async iterator is read by ``fetch``, one element ahead at the most, and only after a turn of
    the feed came up empty, so that nothing is pulled without a permit free for it.
    """

    def __init__(
        self,
        engine: Engine,
        source: Iterator[Any] | AsyncIterator[Any],
        make_job: Callable[[Feed, int, Any], Job],
    ) -> None:
        super().__init__(engine)
        self.make_job = make_job
        self.pulled = 0
        self.failure: BaseException | None = None  # what the source raised
        self._sync = None if isinstance(source, AsyncIterator) else source
        self._async = source if isinstance(source, AsyncIterator) else None
        self.at_hand: deque[Any] = deque()
        self._is_wanted = asyncio.Event()
        self._fetching: anyio.CancelScope | None = None
        self.has_ended = False  # the source has no more

    @property
    def needs_fetching(self) -> bool:
        """Whether ``fetch`` must run as a task for this feed."""
        return self._async is not None

    @property
    def is_finished(self) -> bool:
        """No job of this feed is out, and none will come."""
        return self.outstanding == 0 and (self.is_closed or (self.has_ended and not self.at_hand))

    def has_room(self) -> bool:
        """Whether the consumer keeps up; without room nothing is pulled."""
        return True

    def on_finished(self) -> None:
        """No more jobs will come and none is out."""
        self.disarm()

    def pull(self, now_s: float) -> Job | None:  # noqa: ARG002
        if self.is_closed or not self.has_room():
            return None
        if self.at_hand:
            payload = self.at_hand.popleft()
        elif self.has_ended:
            return None
        elif self._sync is None:
            self._is_wanted.set()
            return None
        elif (payload := self.next_payload()) is NOTHING:
            return None
        seq = self.pulled
        self.pulled = seq + 1
        return self.make_job(self, seq, payload)

    def next_payload(self) -> Any:
        """The next of an iterator; NOTHING at its end, or when it fails: ``failure`` says how."""
        assert self._sync is not None
        try:
            return next(self._sync)
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001 - whatever the user's iterator raises
            self.failure = error
        self._end()
        return NOTHING

    def stock(self, payload: Any) -> None:
        """Put what the async iterator yielded where ``pull`` finds it."""
        self.at_hand.append(payload)

    async def fetch(self) -> None:
        """Read the async iterator while it is wanted. Ends with it, or at once when the feed is closed."""
        source = self._async
        assert source is not None
        with anyio.CancelScope() as self._fetching:
            if self.is_closed:
                self._fetching.cancel()
            try:
                while True:
                    await self._is_wanted.wait()
                    payload = await anext(source)
                    self._is_wanted.clear()
                    self.stock(payload)
                    self.engine.queue(self)
            except StopAsyncIteration:
                self._end()
            except Exception as error:  # noqa: BLE001 - as in next_payload
                self.failure = error
                self._end()
        if not self.has_ended and (aclose := getattr(source, "aclose", None)) is not None:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await aclose()  # a generator's own ``finally``, now and not when it is collected

    def close(self) -> None:
        self.is_closed = True
        if self._fetching is not None:
            self._fetching.cancel()
        self._check_finished()

    def settled(self) -> None:
        if self.outstanding == 0:
            self._check_finished()

    def _end(self) -> None:
        self.has_ended = True
        self._check_finished()

    def _check_finished(self) -> None:
        if self.is_finished:
            self.on_finished()
