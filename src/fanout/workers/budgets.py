"""The budgets of a run with workers: the coordinator reads the limits, a worker has what its lease says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from fanout.config import Options
from fanout.dispatcher.budget import CONNECTIONS_AT_MOST, Budget
from fanout.dispatcher.engine import Engine
from fanout.transports.open_files import most_connections
from fanout.workers.leased_limit import LeasedLimit, LeasedPacer


class CoordinatorBudget(Budget):
    """The budget of the run; the calls, and so the connections, are the workers'.

    ``in_use``: permits in use on all of them.
    """

    def __init__(self, options: Options, *, must_ask: bool, in_use: Callable[[], int]) -> None:
        super().__init__(options, must_ask=must_ask)
        self._in_use = in_use

    def own_calls(self, engine: Engine) -> int:  # noqa: ARG002 - it makes none itself
        """Calls of the workers that run, or may run on."""
        return self._in_use()

    @property
    def connections(self) -> int:
        """For reading limits, and for a check of whether the function may be called."""
        return 16


class LeasedBudget(Budget):
    """A budget that asks Lambda nothing: a lease says what it is. The credentials are the worker's own."""

    limit: LeasedLimit  # type: ignore[assignment]
    pacer: LeasedPacer

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.limit = LeasedLimit()
        self.pacer = LeasedPacer(self.limit)
        return self

    @property
    def connections(self) -> int:
        """As many as this machine allows: what a lease grants is not known yet."""
        return max(16, min(CONNECTIONS_AT_MOST, most_connections()))

    @property
    def _asks_nothing(self) -> bool:
        return True

    async def check_credentials(self) -> None:
        """Raise FatalRefusal where this worker finds no credentials."""
        if self._http is not None:
            await self._http.credentials(time.time())
        elif self._session is not None:
            await self._session.frozen_credentials()
