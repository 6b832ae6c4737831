"""The part of the account's concurrency that ``--leave`` keeps free for others, read from CloudWatch."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from fanout.aws import AwsSession
from fanout.aws.metrics import claimed_concurrency
from fanout.config import Leave
from fanout.dispatcher.events import EventLog
from fanout.quotas import Quotas
from fanout.quotas.leave import READ_S, Claimed, OwnUse, leave_ceiling


class LeaveWatch:
    """``ceiling`` is how many calls at once are left for this dispatcher; None where ``leave`` cannot hold.

    Before the first call others are not known: nothing but what is to be left is kept free.
    """

    def __init__(self, leave: Leave, quotas: Quotas, *, invocation_type: str, events: EventLog) -> None:
        self._leave = leave
        self._events = events
        self._own_use = OwnUse()
        self.ceiling: int | None = None
        if quotas.reserved is not None or invocation_type != "RequestResponse":
            why = f"Lambda does not limit {invocation_type} calls at once"
            if quotas.reserved is not None:
                why = f"the function's {quotas.reserved:,} calls at once are reserved for it alone"
            events.warning("leave", "--leave has no meaning here: %s", why)
        elif quotas.account is None:
            events.warning("leave", "--leave is not kept: the account's concurrency cannot be read")
        else:
            self.ceiling = leave_ceiling(quotas.account, leave, None, self._own_use)

    async def keep(
        self,
        session: AwsSession,
        *,
        own_calls: Callable[[], int],
        account: Callable[[], int | None],
        on_read: Callable[[], None],
    ) -> None:
        """Read once a minute how much others use, and change the ceiling. Until cancelled.

        ``own_calls`` are those in flight now, ``account`` is the account's concurrency.
        """
        next_at_s, was_told = anyio.current_time(), False
        while True:
            self._own_use.note(own_calls(), time.time())
            if anyio.current_time() >= next_at_s:
                next_at_s = anyio.current_time() + READ_S
                found = await claimed_concurrency(session)
                if isinstance(found, str):
                    if not was_told:
                        was_told = True
                        self._events.warning("leave", "--leave: %s; others are assumed to use nothing", found)
                elif (limit := account()) is not None:
                    self.ceiling = leave_ceiling(limit, self._leave, Claimed(*found), self._own_use)
                    self._events.info(
                        "leave", "--leave: %d calls at once are left for this run", self.ceiling
                    )
                on_read()
            await anyio.sleep(1.0)
