"""Queue of Event calls: tries, retries, and the record of how each ended."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from fanout.emulator.call import Call, Result
from fanout.emulator.counters import Counters
from fanout.emulator.destinations import Destinations, Message
from fanout.emulator.durable import Execution
from fanout.emulator.executor import Executor
from fanout.emulator.function_errors import error_message_of
from fanout.emulator.functions import Function
from fanout.emulator.model import Account, Grant, Reason
from fanout.emulator.payloads import check

RETRY_WAITS_S = (60.0, 120.0)
MAX_EVENT_AGE_S = 21_600.0
MAX_QUEUE_WAIT_S = 300.0
_MIN_WAIT_S = 0.005
_MAX_ERROR_MESSAGE_BYTES = 1_024
_NEVER_RAN = b'{"errorType":"NotStarted","errorMessage":"The execution was never started."}'


class EventQueue:
    """The internal queue. ``wait_scale`` multiplies every wait, and the age at which an event is dropped."""

    def __init__(
        self,
        account: Account,
        executor: Executor,
        counters: Counters,
        destinations: Destinations,
        wait_scale: float,
    ) -> None:
        self._account = account
        self._executor = executor
        self._counters = counters
        self._destinations = destinations
        self._wait_scale = wait_scale
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """Events accepted and not yet ended."""
        return len(self._tasks)

    def submit(self, function: Function, call: Call, execution: Execution | None = None) -> None:
        """Take an event; it runs soon, and has been answered already."""
        task = self._loop.create_task(self._process(function, call, execution))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _process(self, function: Function, call: Call, execution: Execution | None) -> None:
        condition, attempts, result = await self._try(function, call, is_durable=execution is not None)
        if execution is not None:
            execution.end(result or Result(_NEVER_RAN, error_type=condition))
        self._report(function, call, condition, attempts, result)

    async def _try(
        self, function: Function, call: Call, *, is_durable: bool
    ) -> tuple[str, int, Result | None]:
        """Try until it is over; returns the condition, the number of attempts and the last result.

        A durable execution runs once: it has retries of its own.
        """
        config = function.event_config(call.qualifier) or {}
        retries = 0 if is_durable else config.get("MaximumRetryAttempts", len(RETRY_WAITS_S))
        max_age_s = config.get("MaximumEventAgeInSeconds", MAX_EVENT_AGE_S) * self._wait_scale
        accepted_at_s = time.monotonic()
        attempts, queue_wait_s = 0, 1.0
        while True:
            if function.load.reserved == 0:
                return "ZeroReservedConcurrency", attempts, None
            grant = self._admit(function, call)
            if grant is None:
                if time.monotonic() - accepted_at_s > max_age_s:
                    return "EventAgeExceeded", attempts, None
                await self._wait(queue_wait_s)
                queue_wait_s = min(2 * queue_wait_s, MAX_QUEUE_WAIT_S)
                continue
            attempts += 1
            draw = function.dice.draw() if function.dice is not None else None
            result = await self._executor.run(function, call, grant, draw)
            if not result.error_type:
                return "Success", attempts, result
            if attempts > retries:
                return "RetriesExhausted", attempts, result
            wait_s = RETRY_WAITS_S[min(attempts, len(RETRY_WAITS_S)) - 1]
            if time.monotonic() + wait_s * self._wait_scale - accepted_at_s > max_age_s:
                return "EventAgeExceeded", attempts, result
            await self._wait(wait_s)

    def _admit(self, function: Function, call: Call) -> Grant | None:
        """Admit one try; None while throttled, pending or away: the event stays in the queue."""
        now_s = time.monotonic()
        if function.lifecycle.on_call(now_s).name != "Active" or function.lifecycle.is_out(now_s):
            return None
        grant = self._account.admit(function.load, now_s, qualifier=call.qualifier, is_metered=False)
        return None if isinstance(grant, Reason) else grant

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(max(_MIN_WAIT_S, seconds * self._wait_scale))

    def _report(
        self, function: Function, call: Call, condition: str, attempts: int, result: Result | None
    ) -> None:
        record = _record(function, call, condition, attempts, result)
        self._counters.event_conditions[condition] += 1
        self._counters.event_results.append(record)
        succeeded = condition == "Success"
        if function.durable is None:
            config = (function.event_config(call.qualifier) or {}).get("DestinationConfig", {})
            side = config.get("OnSuccess" if succeeded else "OnFailure") or {}
            if side.get("Destination"):
                body = msgspec.json.encode(record).decode("utf-8", "replace")
                self._destinations.send(side["Destination"], Message(body, {}))
        if function.dead_letter and not succeeded:
            self._destinations.send(function.dead_letter, _dead_letter(call, result))


def _record(
    function: Function, call: Call, condition: str, attempts: int, result: Result | None
) -> dict[str, Any]:
    now_s = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s))
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": f"{stamp}.{int(now_s * 1000) % 1000:03d}Z",
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
    return record


def _dead_letter(call: Call, result: Result | None) -> Message:
    """Make the dead letter: the event as it came, and three attributes."""
    code, text = "429", "Rate Exceeded."
    if result is not None:
        code, text = "200", error_message_of(result.payload)
    return Message(
        call.payload.decode("utf-8", "replace"),
        {
            "RequestID": {"DataType": "String", "StringValue": call.request_id},
            "ErrorCode": {"DataType": "Number", "StringValue": code},
            "ErrorMessage": {"DataType": "String", "StringValue": _first_kilobyte(text) or "Unhandled"},
        },
    )


def _first_kilobyte(text: str) -> str:
    return text.encode("utf-8", "replace")[:_MAX_ERROR_MESSAGE_BYTES].decode("utf-8", "ignore")


def _as_json(payload: bytes) -> Any:
    try:
        check(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
    return msgspec.Raw(payload)
