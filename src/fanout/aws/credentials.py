"""Temporary credentials: one refresh for all calls, and the old ones as long as they hold."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fanout.aws.faults import credentials_fault
from fanout.errors import FatalRefusal


class FrozenCredentials(NamedTuple):
    """Credentials of one moment."""

    access_key: str
    secret_key: str
    token: str | None
    account_id: str | None = None


# botocore renews what has less than 15 minutes left, and lets every call wait for it below 10.
_RENEW_BELOW_S = 900
_STILL_GOOD_S = 5  # to sign, to travel, and for clocks that differ a little
_PAUSE_S = 60.0
_LEAST_PAUSE_S = 1.0
_VISIBLE = re.compile(r"[!-~]+")  # of ASCII


class StaticCredentials:
    """Credentials that do not expire, with the members that aiobotocore asks for."""

    method = "env"
    account_id = None

    def __init__(self, access_key: str, secret_key: str, token: str | None) -> None:
        self.access_key, self.secret_key, self.token = access_key, secret_key, token

    async def get_frozen_credentials(self) -> FrozenCredentials:
        """The same ones, always."""
        return FrozenCredentials(self.access_key, self.secret_key, self.token)

    def get_account_id(self) -> None:
        """Unknown."""

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """A member that is read later."""
        return lambda: getattr(self, name, None)


class KeptCredentials:
    """aiobotocore's credentials behind one refresh at a time, with a pause after each.

    A source that hands out credentials with five minutes left would otherwise be asked for every call.
    While credentials hold, calls take them and a refresh goes on beside; only when they have run out do
    calls wait for it. After a refresh, failed or not, the next one begins a minute later at the earliest,
    sooner the less time is left. ``now_s`` is of a monotonic clock.
    """

    def __init__(self, source: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._frozen: Any = None
        self._refresh: asyncio.Task[Any] | None = None
        self._next_at_s = float("-inf")
        self._fault: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)  # what else aiobotocore asks of credentials

    async def get_frozen_credentials(self) -> Any:
        """Credentials good for a call now. Raises FatalRefusal or RequestNotSent."""
        if self._frozen is not None and not self._is_needed(_RENEW_BELOW_S):
            return self._frozen
        holds = self._frozen is not None and not self._is_needed(_STILL_GOOD_S)
        if self._refresh is None:
            if self._clock() < self._next_at_s:
                if self._frozen is not None and not self._is_needed(0):
                    return self._frozen
                if self._fault is not None:
                    raise self._fault
            self._refresh = asyncio.create_task(self._renew())
            self._refresh.add_done_callback(self._end)
        if holds:
            return self._frozen
        return await asyncio.shield(self._refresh)

    def replace(self, source: Any) -> None:
        """Go on with other credentials."""
        self._source, self._frozen, self._fault = source, None, None
        self._next_at_s = float("-inf")

    async def aclose(self) -> None:
        """Give up a refresh under way."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)

    def _is_needed(self, below_s: float) -> bool:
        needed: Callable[[float], bool] | None = getattr(self._source, "refresh_needed", None)
        return needed is not None and needed(below_s)  # static ones have none

    async def _renew(self) -> Any:
        try:
            frozen = await self._source.get_frozen_credentials()
        except Exception as error:
            self._fault = credentials_fault(error)
            raise self._fault from error
        check_sendable(frozen)
        self._frozen, self._fault = frozen, None
        return frozen

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._refresh = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; with nobody waiting it is no news either
        self._next_at_s = self._clock() + self._pause_s()

    def _pause_s(self) -> float:
        """A minute, or half of what is left, found without asking for the private expiry."""
        pause_s = _PAUSE_S
        while pause_s > _LEAST_PAUSE_S and self._is_needed(2 * pause_s):
            pause_s /= 2
        return max(pause_s, _LEAST_PAUSE_S)


def check_sendable(frozen: Any) -> None:
    """Both go into headers, where a line feed at the end of a pasted token would begin another header."""
    for name, value in (("access key id", frozen.access_key), ("session token", frozen.token or "x")):
        if not _VISIBLE.fullmatch(value):
            raise FatalRefusal(
                f"the AWS {name} holds a space, a line feed or another character that cannot be in one: "
                "set it again, as it was issued",
                code="InvalidCredentials",
            )
