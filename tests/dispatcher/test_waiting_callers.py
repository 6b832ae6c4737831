"""Callers who wait for a batch: those who leave, those who are too late, and what they all get at an end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fanout.dispatcher.record import InputRecord
from fanout.dispatcher.thread_reader import ThreadReader
from fanout.dispatcher.waiting_callers import WaitingCallers
from fanout.errors import FanoutError, FatalRefusal
from fanout.model import ErrorDetail, Outcome


class _Feed:
    """Stands for the feed of the callers: nothing of it is out."""

    fatal: FatalRefusal | None = None
    stopped = ErrorDetail("Stopped", "the dispatcher was closed")

    def withdraw(self, record: InputRecord) -> bool:
        return record.seq == 7

    def undelivered(self, record: InputRecord, error: ErrorDetail) -> Outcome:
        return Outcome(seq=record.seq, status="undelivered", attempts=0, throttles=0, error=error)

    def wake(self) -> None:
        """Nobody sleeps."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def _callers() -> tuple[WaitingCallers, _Feed]:
    feed = _Feed()
    return WaitingCallers(lambda *_: cast(Any, feed)), feed


async def test_a_caller_who_left_gets_no_place_in_a_batch() -> None:
    """Whether before the batch was formed or while it waited to be."""
    callers, _ = _callers()
    first, second = InputRecord(0, b"1"), InputRecord(1, b"2")
    left, stays = callers.ask(first), callers.ask(second)
    left.cancel()
    assert callers.next(0.0) is second
    assert not callers.withdraw(first)
    assert not callers.withdraw(second), "it is out"
    late = SimpleNamespace(feed=SimpleNamespace(fatal=None))
    outcome = Outcome(seq=1, status="succeeded", attempts=1, throttles=0)
    callers.deliver(cast(Any, late), [outcome, outcome])
    assert await stays is outcome


async def test_a_deadline_ends_what_is_not_out() -> None:
    """A caller who was cancelled in the meantime has no use for the answer."""
    callers, _ = _callers()
    records = [InputRecord(seq, b"1") for seq in (0, 1, 7)]
    futures = [callers.ask(record) for record in records]
    futures[1].cancel()
    for record in records:
        callers.expire(record)
        callers.expire(record)
    assert (await futures[0]).status == "undelivered"
    assert (await futures[2]).error is not None


async def test_a_defect_is_told_to_all_who_wait() -> None:
    """None of them waits for ever."""
    callers, _ = _callers()
    futures = [callers.ask(InputRecord(seq, b"1")) for seq in range(3)]
    futures[2].cancel()
    callers.break_off(RuntimeError("a defect"))
    for future in futures[:2]:
        with pytest.raises(FanoutError, match="the dispatcher stopped: RuntimeError"):
            await future


async def test_an_iterators_own_cancelled_error_is_an_error() -> None:
    """It must not look like the cancelling of who waits; at its end a reader says so."""

    def elements() -> Any:
        yield 1
        raise asyncio.CancelledError

    reader = ThreadReader(elements())
    assert await reader.next() == 1
    with pytest.raises(RuntimeError, match="CancelledError"):
        await reader.next()
    waiting = asyncio.ensure_future(reader.next())
    await asyncio.sleep(0)
    waiting.cancel()
    reader.stop()
