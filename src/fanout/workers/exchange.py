"""The exchange of an order for a report with one worker, over whatever carries it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import msgspec

from fanout.workers.crew import Link
from fanout.workers.messages import Order, Report

_log = logging.getLogger("fanout")

SILENT_S = 25.0  # a worker that does not answer for so long is lost
_TRIES = 3
_TRY_AGAIN_S = 0.2


async def exchange(name: str, link: Link, order: Order, clock: Callable[[], float]) -> Report | None:
    """The report to an order; None when the worker is lost. Sent again, an order has one effect."""
    encoded = msgspec.msgpack.encode(order)
    deadline_s = clock() + SILENT_S
    tries = 0
    while True:
        try:
            with anyio.fail_after(max(0.0, deadline_s - clock())):
                answer = await link.exchange(encoded)
            return msgspec.msgpack.decode(answer, type=Report)
        except TimeoutError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever the carrier raises
            tries += 1
            _log.info("worker %s: %s", name, error)
            if tries >= _TRIES:
                return None
            await anyio.sleep(_TRY_AGAIN_S)
