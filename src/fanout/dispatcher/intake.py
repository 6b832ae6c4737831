"""Intakes: the sources of an engine's records, which hand them out and know their end.

The Protocol is what a feed asks for; an iterable, an input file, an earlier run's failures, a queue and a
coordinator all implement it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from fanout.dispatcher.nothing import Nothing
from fanout.dispatcher.record import InputRecord, record_of
from fanout.dispatcher.supply import Supply


class EngineIntake(Protocol):
    """Hands out records. ``next`` is called only when a permit is free for what it returns."""

    @property
    def has_ended(self) -> bool:
        """No further record will come. It is the end of the input, not the stopping of a run."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the input before its end, if any did."""
        ...

    @property
    def records_read(self) -> int:
        """The number of records handed out or passed over: one more than the highest seq so far."""
        ...

    def next(self, now_s: float) -> InputRecord | None:
        """The next record; None when none is ready now, or none will come. Never waits, never raises."""
        ...

    async def fill(self, on_ready: Callable[[], None]) -> None:
        """Run beside the engine, and call ``on_ready`` when ``next`` has something, or has ended.

        Returns at the end of the input; cancelled when the feed is closed.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the input, read to its end or not."""
        ...


@runtime_checkable
class SeveralIntake(Protocol):
    """An intake that has several records at once, where they can be sent as they stand."""

    def next_several(self, most: int, most_bytes: int) -> list[InputRecord]:
        """Records in order that have no fault, no parameters of their own, and never may have run.

        Up to ``most``, and none after the one that brings them to ``most_bytes``. None where the next one
        needs more than that, or is not ready: then ``next`` is asked. Never waits, never raises.
        """
        ...


class PayloadIntake:
    """The intake of ``Dispatcher.map``: payloads of any kind, numbered from 0, made records by ``make``."""

    def __init__(self, supply: Supply[Any], make: Callable[[int, Any], InputRecord] = record_of) -> None:
        self._supply = supply
        self._next = supply.next
        self._make = make
        self.records_read = 0

    @property
    def has_ended(self) -> bool:
        return self._supply.has_ended

    @property
    def failure(self) -> BaseException | None:
        return self._supply.failure

    def next(self, now_s: float) -> InputRecord | None:  # noqa: ARG002 - for those with a clock
        payload = self._next()
        if payload is Nothing.NOTHING:
            return None
        seq = self.records_read
        self.records_read = seq + 1
        return self._make(seq, payload)

    async def fill(self, on_ready: Callable[[], None]) -> None:
        await self._supply.fill(on_ready)

    async def aclose(self) -> None:
        await self._supply.aclose()
