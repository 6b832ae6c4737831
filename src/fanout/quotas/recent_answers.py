"""Recent answers of Lambda's APIs: one process asks about one function once a minute.

However many dispatchers it opens; Lambda answers fifteen such requests a second, for all of an account.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

import msgspec

from fanout.quotas.replies import Replies

KEPT_S = 55.0  # below the minute after which a run asks again
_KEPT_AT_MOST = 256


class _Kept(msgspec.Struct):
    replies: Replies
    asked_at_s: float


class _Asking(msgspec.Struct):
    is_done: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    replies: Replies | None = None

    async def wait(self) -> Replies | None:
        await self.is_done.wait()
        return self.replies


class RecentAnswers(msgspec.Struct):
    """Replies of the last minute, by endpoint, identity and function."""

    clock: Callable[[], float] = time.monotonic
    _kept: dict[Hashable, _Kept] = msgspec.field(default_factory=dict)
    _asking: dict[Hashable, _Asking] = msgspec.field(default_factory=dict)

    def scoped(self, *scope: Hashable) -> ScopedAnswers:
        """The part of them that holds for one endpoint and identity."""
        return ScopedAnswers(self, scope)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    async def recall(self, key: Hashable, ask: Callable[[], Awaitable[Replies]]) -> Replies:
        """Replies of less than a minute ago, else those that ``ask`` brings; asked once for all who wait."""
        kept = self._kept.get(key)
        if kept is not None and self.clock() - kept.asked_at_s < KEPT_S:
            return kept.replies
        here = (asyncio.get_running_loop(), key)
        if (asking := self._asking.get(here)) is not None:
            replies = await asking.wait()
            if replies is not None and replies.is_worth_keeping:
                return replies
            return await ask()  # whoever asked has left, or its own connection failed
        asking = self._asking[here] = _Asking()
        try:
            asking.replies = replies = await ask()
        finally:
            del self._asking[here]
            asking.is_done.set()
        if replies.is_worth_keeping:
            if len(self._kept) >= _KEPT_AT_MOST:
                self._kept.clear()
            self._kept[key] = _Kept(replies, self.clock())
        return replies


class ScopedAnswers(msgspec.Struct, frozen=True):
    """Recent answers about functions of one endpoint and identity."""

    answers: RecentAnswers
    scope: tuple[Hashable, ...]

    async def recall(self, key: Hashable, ask: Callable[[], Awaitable[Replies]]) -> Replies:
        """See ``RecentAnswers.recall``."""
        return await self.answers.recall((self.scope, key), ask)


RECENT_ANSWERS = RecentAnswers()
