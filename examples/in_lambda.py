"""A function that calls another function for each record: fanout inside Lambda.

    fanout emulate examples/in_lambda.py:handler --simulate name=worker,latency=50ms --port 9001

One dispatcher for the life of the environment: it reads the limits once, and its connections are open
when the next event comes. What has no outcome when the time is nearly up is returned, so that the caller
(a queue, a state machine) can send it again; some of it may have run: the worker must be idempotent.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import fanout

SPARE_S = 5.0

_loop = asyncio.new_event_loop()
_open: list[fanout.Dispatcher] = []


async def _ready() -> fanout.Dispatcher:
    if not _open:
        dispatcher = fanout.Dispatcher(os.environ.get("WORKER", "worker"), concurrency=50, retries=2)
        _open.append(await dispatcher.__aenter__())
    return _open[0]


async def _call_all(records: list[Any], seconds: float) -> dict[str, Any]:
    dispatcher = await _ready()
    done: dict[int, str] = {}
    try:
        async with asyncio.timeout(seconds):
            async for outcome in dispatcher.map(records):
                done[outcome.seq] = outcome.status
    except TimeoutError:
        pass
    left = [record for seq, record in enumerate(records) if seq not in done]
    return {"succeeded": sum(status == "succeeded" for status in done.values()), "left": left}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Call the worker for each of ``event["records"]``."""
    seconds = context.get_remaining_time_in_millis() / 1000 - SPARE_S
    return _loop.run_until_complete(_call_all(event["records"], seconds))
