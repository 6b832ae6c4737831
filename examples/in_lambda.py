"""A function that calls another function for each record: fanout inside Lambda.

    fanout emulate examples/in_lambda.py:handler --simulate name=worker,latency=50ms --port 9001

``handler`` gets the records in its event, ``handle_file`` the place of an input (``s3://…``). Both stop
before Lambda does. What has no outcome by then is the caller's to send again (a queue, a state machine);
some of it may have run: the worker must be idempotent.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import fanout

WORKER = os.environ.get("WORKER", "worker")
SPARE_S = 5.0

# In the initialisation, which has a whole CPU: what would else be imported in the first event's time.
fanout.preload("Dispatcher")
# For the life of the environment: limits are read once, and connections are open when the next event comes.
_loop = asyncio.new_event_loop()
_dispatcher = fanout.Dispatcher(WORKER, concurrency=50, retries=2)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Call the worker for each of ``event["records"]``."""
    return _loop.run_until_complete(_call_all(event["records"], _seconds(context)))


async def _call_all(records: list[Any], seconds: float) -> dict[str, Any]:
    done: dict[int, str] = {}
    try:
        async with asyncio.timeout(seconds):
            await _dispatcher.open()  # the first time; then it is
            async for outcome in _dispatcher.map(records):
                done[outcome.seq] = outcome.status
    except TimeoutError:
        pass
    left = [record for seq, record in enumerate(records) if seq not in done]
    return {"succeeded": sum(status == "succeeded" for status in done.values()), "left": left}


def handle_file(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Call the worker for each record of ``event["input"]``; outcomes go to ``event["results"]``, if given.

    /tmp is the only place that can be written, and is kept for the next event: so what was left there goes.
    """
    out = Path("/tmp/run")
    shutil.rmtree(out, ignore_errors=True)
    report = fanout.run(
        WORKER,
        event["input"],
        out=out,
        concurrency=50,
        retries=2,
        deadline=_seconds(context),
        results=event.get("results"),
        report=False,
    )
    return {"state": report.state, "counts": report.counts, "pending": report.pending}


def _seconds(context: Any) -> float:
    return max(1.0, context.get_remaining_time_in_millis() / 1000 - SPARE_S)
