"""Queue of Event calls: tries, retries, and the record of how each ended."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from fanout.emulator.call import Call, Result
from fanout.emulator.counters import Counters
from fanout.emulator.executor import Executor
from fanout.emulator.functions import Function
from fanout.emulator.model import Account, Reason
from fanout.emulator.payloads import check

RETRY_WAITS_S = (60.0, 120.0)
MAX_EVENT_AGE_S = 21_600.0
MAX_QUEUE_WAIT_S = 300.0
_MIN_WAIT_S = 0.005


class EventQueue:
    """The internal queue. ``wait_scale`` multiplies every wait, and the age at which an event is dropped."""

    def __init__(self, account: Account, executor: Executor, counters: Counters, wait_scale: float) -> None:
        self._account = account
        self._executor = executor
        self._counters = counters
        self._wait_scale = wait_scale
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """Events accepted and not yet ended."""
        return len(self._tasks)

    def submit(self, function: Function, call: Call) -> None:
        """Take an event; it runs soon, and has been answered already."""
        task = self._loop.create_task(self._process(function, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _process(self, function: Function, call: Call) -> None:
        config = function.event_config or {}
        retries = config.get("MaximumRetryAttempts", len(RETRY_WAITS_S))
        max_age_s = config.get("MaximumEventAgeInSeconds", MAX_EVENT_AGE_S) * self._wait_scale
        accepted_at_s = time.monotonic()
        attempts, queue_wait_s = 0, 1.0
        while True:
            if function.load.reserved == 0:
                self._tell(function, call, "ZeroReservedConcurrency", attempts, None)
                return
            grant = self._account.admit(
                function.load, time.monotonic(), qualifier=call.qualifier, is_metered=False
            )
            if isinstance(grant, Reason):
                if time.monotonic() - accepted_at_s > max_age_s:
                    self._tell(function, call, "EventAgeExceeded", attempts, None)
                    return
                await self._wait(queue_wait_s)
                queue_wait_s = min(2 * queue_wait_s, MAX_QUEUE_WAIT_S)
                continue
            attempts += 1
            draw = function.dice.draw() if function.dice is not None else None
            result = await self._executor.run(function, call, grant, draw)
            if not result.error_type:
                self._tell(function, call, "Success", attempts, result)
                return
            if attempts > retries:
                self._tell(function, call, "RetriesExhausted", attempts, result)
                return
            wait_s = RETRY_WAITS_S[min(attempts, len(RETRY_WAITS_S)) - 1]
            if time.monotonic() + wait_s * self._wait_scale - accepted_at_s > max_age_s:
                self._tell(function, call, "EventAgeExceeded", attempts, result)
                return
            await self._wait(wait_s)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(max(_MIN_WAIT_S, seconds * self._wait_scale))

    def _tell(
        self, function: Function, call: Call, condition: str, attempts: int, result: Result | None
    ) -> None:
        now_s = time.time()
        record: dict[str, Any] = {
            "version": "1.0",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s))
            + f".{int(now_s * 1000) % 1000:03d}Z",
            "requestContext": {
                "requestId": call.request_id,
                "functionArn": function.arn(call.qualifier or call.version),
                "condition": condition,
                "approximateInvokeCount": attempts,
            },
            "requestPayload": msgspec.Raw(call.payload),
        }
        if result is not None:
            record["responseContext"] = {"statusCode": 200, "executedVersion": call.version}
            if result.error_type:
                record["responseContext"]["functionError"] = "Unhandled"
            record["responsePayload"] = _as_json(result.payload)
        self._counters.event_conditions[condition] += 1
        self._counters.event_results.append(record)


def _as_json(payload: bytes) -> Any:
    try:
        check(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
    return msgspec.Raw(payload)
