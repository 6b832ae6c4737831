"""Durable executions: one for each name and payload, kept for the retention after its end."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from fanout.emulator.call import Call, Result
from fanout.emulator.function_errors import encodable, error_object
from fanout.emulator.replies import Refusal, invalid

DAY_S = 86_400.0
PAGE = 1_000
_STATUSES = {"RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"}


@dataclass(frozen=True, slots=True)
class DurableSettings:
    """A durable function's configuration; the retention may be shorter than Lambda's day."""

    execution_timeout_s: float
    retention_s: float = 14 * DAY_S

    def as_json(self) -> dict[str, int]:
        """Describe it as DurableConfig."""
        days = max(1, round(self.retention_s / DAY_S))
        return {"ExecutionTimeout": round(self.execution_timeout_s), "RetentionPeriodInDays": days}


@dataclass(slots=True, kw_only=True)
class Execution:
    """One execution. ``ended`` has its result; who waits for it must shield it."""

    arn: str
    name: str
    function_arn: str
    version: str
    payload: bytes
    settings: DurableSettings
    started_at_s: float
    ended: asyncio.Future[Result]
    ended_at_s: float | None = None
    status: str = "RUNNING"
    digest: bytes = field(default=b"")

    def end(self, result: Result) -> None:
        """Take the result; the first one counts."""
        if self.ended.done():
            return
        self.ended_at_s = time.time()
        if not result.error_type:
            self.status = "SUCCEEDED"
        else:
            self.status = "TIMED_OUT" if result.error_type == "Sandbox.Timedout" else "FAILED"
        self.ended.set_result(result)

    def summary(self) -> dict[str, Any]:
        """Describe it as an element of a list."""
        described: dict[str, Any] = {
            "DurableExecutionArn": self.arn,
            "DurableExecutionName": self.name,
            "FunctionArn": self.function_arn,
            "Status": self.status,
            "StartTimestamp": self.started_at_s,
        }
        if self.ended_at_s is not None:
            described["EndTimestamp"] = self.ended_at_s
        return described

    def describe(self) -> dict[str, Any]:
        """Describe it in full, with what it was given and what came of it."""
        described = self.summary() | {
            "InputPayload": self.payload.decode("utf-8", "replace"),
            "Version": self.version,
            "DurableConfig": self.settings.as_json(),
            "ExecutionDataIncluded": True,
        }
        if self.ended.done() and not self.ended.cancelled():
            result = self.ended.result()
            body = result.payload.decode("utf-8", "replace")
            if result.error_type:
                described["Error"] = _error_object(result)
            else:
                described["Result"] = body
        return described


class DurableExecutions:
    """All executions of the emulator, by function and name and by ARN."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], Execution] = {}
        self._by_arn: dict[str, Execution] = {}
        self._loop = asyncio.get_running_loop()

    def find(self, function: str, name: str, payload: bytes) -> Execution | None:
        """Find the execution of this name; refuses another payload with 409."""
        execution = self._by_name.get((function, name))
        if execution is None:
            return None
        ended_at_s = execution.ended_at_s
        if ended_at_s is not None and time.time() - ended_at_s > execution.settings.retention_s:
            del self._by_name[function, name]
            del self._by_arn[execution.arn]
            return None
        if execution.digest != _digest(payload):
            raise Refusal(
                409,
                "DurableExecutionAlreadyStartedException",
                f"Durable execution already started: {execution.arn}",
                member="Message",
            )
        return execution

    def start(self, function: str, name: str, call: Call, settings: DurableSettings) -> Execution:
        """Begin the execution of a call under a name that is free."""
        base = call.function_arn.split(":function:")[0]
        arn = f"{base}:function:{function}:{call.version}/durable-execution/{name}/{uuid.uuid4()}"
        execution = Execution(
            arn=arn,
            name=name,
            function_arn=f"{base}:function:{function}:{call.version}",
            version=call.version,
            payload=call.payload,
            settings=settings,
            started_at_s=time.time(),
            ended=self._loop.create_future(),
            digest=_digest(call.payload),
        )
        self._by_name[function, name] = execution
        self._by_arn[arn] = execution
        return execution

    def get(self, arn: str) -> Execution:
        """Find one by its ARN; raises Refusal."""
        execution = self._by_arn.get(arn)
        if execution is None:
            raise Refusal(
                404, "ResourceNotFoundException", f"Durable execution not found: {arn}", member="Message"
            )
        return execution

    def page(
        self,
        function: str,
        *,
        name: str = "",
        statuses: list[str],
        started_after_s: float,
        started_before_s: float,
        is_reversed: bool,
        marker: str,
        limit: int,
    ) -> tuple[list[Execution], str | None]:
        """List a function's executions in order of their start, and the marker of the page that follows."""
        unknown = set(statuses) - _STATUSES
        if unknown:
            raise invalid(
                f"Statuses {', '.join(sorted(unknown))}: must be among {', '.join(sorted(_STATUSES))}"
            )
        if marker and not (marker.isascii() and marker.isdigit()):
            raise invalid("Marker: not one that a page has ended with")
        found = [
            execution
            for (owner, own_name), execution in self._by_name.items()
            if owner == function
            and (not name or own_name == name)
            and (not statuses or execution.status in statuses)
            and started_after_s <= execution.started_at_s <= started_before_s
        ]
        if is_reversed:
            found.reverse()
        start = int(marker or 0)
        end = start + min(limit, PAGE)
        return found[start:end], str(end) if end < len(found) else None


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def _error_object(result: Result) -> dict[str, Any]:
    error = error_object(result.payload)
    if error is None:
        return {"ErrorType": result.error_type, "ErrorMessage": result.payload.decode("utf-8", "replace")}
    described: dict[str, Any] = {
        "ErrorType": encodable(error.get("errorType", result.error_type)),
        "ErrorMessage": encodable(error.get("errorMessage", "")),
    }
    trace = error.get("stackTrace")
    if isinstance(trace, list) and trace:
        described["StackTrace"] = [encodable(line) for line in trace]
    return described
