"""Receives of a queue: how many wait at once, and when they show that it is empty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol

import anyio
import anyio.abc

from fanout.errors import FanoutError
from fanout.queues.hold import VISIBILITY_S
from fanout.queues.message import Message

_AT_FIRST = 2
_MOST = 64
_LONGEST_POLL_S = 20
_LAST_RECEIVES_S = 1.5


class Receiving(Protocol):
    """The client's part that an intake needs. ``lost_receive_s`` is of the loop's clock."""

    arn: str
    region: str

    @property
    def lost_receive_s(self) -> float: ...

    async def receive(
        self, most: int, *, visibility_s: int, wait_s: int, with_attributes: bool = False
    ) -> list[Message]: ...


class Receives:
    """Keeps ``target`` receives waiting: twice as many when messages are short, half as many when none come.

    ``take`` gets what each brought and when it was asked for, and returns whether any of it is to be run.
    """

    def __init__(
        self,
        queue: Receiving,
        *,
        clock: Callable[[], float],
        take: Callable[[list[Message], float], Awaitable[bool]],
        on_end: Callable[[], None],
        on_failure: Callable[[FanoutError], None],
        empty_after_s: float,
        with_attributes: bool,
    ) -> None:
        self.target = _AT_FIRST
        self._queue = queue
        self._clock = clock
        self._take = take
        self._on_end = on_end
        self._on_failure = on_failure
        self._empty_after_s = empty_after_s
        self._with_attributes = with_attributes
        self._under_way = 0
        self._last_new_s = clock()
        self._last_empty_s = -inf  # when the last receive that brought nothing began

    @property
    def are_under_way(self) -> bool:
        """True while any waits for an answer."""
        return self._under_way > 0

    def fill(self, tasks: anyio.abc.TaskGroup, most: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Start what is missing, of ``most`` messages each, unless enough are ``waiting`` to be run."""
        while self._under_way < self.target and waiting() < 10 * self.target:
            self._under_way += 1
            tasks.start_soon(self._receive, most)

    def note_new(self) -> None:
        """Messages to be run came, or are asked for from now on."""
        self._last_new_s = self._clock()

    def grow(self) -> None:
        """The engine waited for messages: more receives, if all were under way."""
        if self._under_way >= self.target:
            self.target = min(_MOST, 2 * self.target)

    def show_empty(self, now_s: float, *, hidden_until_s: float) -> bool:
        """True if nothing came for long enough, and a later receive found nothing that was hidden before."""
        hidden_until_s = max(hidden_until_s, self._queue.lost_receive_s)
        return self._last_empty_s >= hidden_until_s and now_s - self._last_new_s >= self._empty_after_s

    async def last(self) -> None:
        """Wait for those under way, for a while."""
        with anyio.move_on_after(_LAST_RECEIVES_S, shield=True):
            while self._under_way:  # noqa: ASYNC110 - whichever of several ends last
                await anyio.sleep(0.02)

    async def _receive(self, most: Callable[[], int]) -> None:
        asked_s = self._clock()
        try:
            messages = await self._queue.receive(
                most(),
                visibility_s=VISIBILITY_S,
                wait_s=max(1, min(_LONGEST_POLL_S, int(self._empty_after_s))),
                with_attributes=self._with_attributes,
            )
            if not await self._take(messages, asked_s):
                self._last_empty_s = asked_s
                self.target = max(1, self.target // 2)
        except FanoutError as error:
            self._on_failure(error)
        finally:
            self._under_way -= 1
            self._on_end()
