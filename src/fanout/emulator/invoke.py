"""Invoke and InvokeWithResponseStream: checks of a request, and its answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Callable

import msgspec

from fanout.emulator import payloads
from fanout.emulator.call import Call, Result, new_trace_id
from fanout.emulator.counters import Counters
from fanout.emulator.durable import DurableExecutions, Execution
from fanout.emulator.events import EventQueue
from fanout.emulator.eventstream import CONTENT_TYPE, frame, payload_chunks
from fanout.emulator.executor import Executor
from fanout.emulator.functions import Function, Registry
from fanout.emulator.logs import tail
from fanout.emulator.model import Account, Grant, Reason
from fanout.emulator.replies import Headers, Refusal, invalid, simulated_status, throttled
from fanout.emulator.request import Request
from fanout.emulator.simulation import Draw, Fault

MAX_REQUEST_BYTES = 6_291_456
MAX_EVENT_BYTES = 1_048_576
MAX_CLIENT_CONTEXT_BYTES = 3_583
_DURABLE_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_JSON = (b"content-type", b"application/json")


class InvokeApi:
    """Answers Invoke and InvokeWithResponseStream."""

    def __init__(
        self,
        registry: Registry,
        account: Account,
        executor: Executor,
        events: EventQueue,
        counters: Counters,
        executions: DurableExecutions,
        go_away: Callable[[float], None],
    ) -> None:
        self._registry = registry
        self._account = account
        self._executor = executor
        self._events = events
        self._counters = counters
        self._executions = executions
        self._go_away = go_away
        self._called: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def invoke(self, request: Request, reference: str) -> None:
        """Answer Invoke; raises Refusal."""
        kind = request.header(b"x-amz-invocation-type") or "RequestResponse"
        if kind not in {"RequestResponse", "Event", "DryRun"}:
            raise invalid(f"InvocationType {kind}: must be RequestResponse, Event or DryRun")
        function, call = await self._read(request, reference, kind)
        if kind == "DryRun":
            await request.reply(204, b"", [(b"x-amz-executed-version", call.version.encode())])
            return
        self._check_state(function)
        draw = self._draw(function)
        if function.durable is not None:
            await self._invoke_durable(request, function, call, kind, draw)
            return
        headers = self._headers(call, version=kind != "Event")
        if kind == "Event":
            self._events.submit(function, call)
            await request.reply(202, b"", headers)
            return
        grant = self._admit(function, call, draw)
        result = await self._executor.run(function, call, grant, draw)
        await self._reply(request, call, result, draw, headers)

    async def _invoke_durable(
        self, request: Request, function: Function, call: Call, kind: str, draw: Draw | None
    ) -> None:
        """Start an execution, or find the one of this name, and answer with what became of it."""
        assert function.durable is not None
        if not call.qualifier:
            raise invalid("You cannot invoke a durable function using an unqualified ARN.")
        name = call.durable_name or call.request_id
        execution = self._executions.find(function.settings.name, name, call.payload)
        if execution is None:
            grant = None if kind == "Event" else self._admit(function, call, draw)
            execution = self._executions.start(function.settings.name, name, call, function.durable)
            if grant is None:
                self._events.submit(function, call, execution)
            else:
                task = asyncio.ensure_future(self._execute(function, call, grant, draw, execution))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        headers = self._headers(call, version=kind != "Event")
        headers.append((b"x-amz-durable-execution-arn", execution.arn.encode()))
        if kind == "Event":
            await request.reply(202, b"", headers)
            return
        result = await asyncio.shield(execution.ended)
        await self._reply(request, call, result, draw, headers)

    async def _execute(
        self, function: Function, call: Call, grant: Grant, draw: Draw | None, execution: Execution
    ) -> None:
        execution.end(await self._executor.run(function, call, grant, draw))

    @staticmethod
    async def _reply(
        request: Request, call: Call, result: Result, draw: Draw | None, headers: Headers
    ) -> None:
        if draw is not None and draw.fault in (Fault.LOST, Fault.RESET):
            await request.hang_up(reset=draw.fault is Fault.RESET)
            return
        headers.append(_JSON)
        if result.error_type:
            headers.append((b"x-amz-function-error", b"Unhandled"))
        if call.wants_log:
            headers.append((b"x-amz-log-result", tail(result.log)))
        await request.reply(200, result.payload, headers)

    async def invoke_stream(self, request: Request, reference: str) -> None:
        """Answer InvokeWithResponseStream; raises Refusal."""
        kind = request.header(b"x-amz-invocation-type") or "RequestResponse"
        if kind not in {"RequestResponse", "DryRun"}:
            raise invalid(f"InvocationType {kind}: must be RequestResponse or DryRun")
        function, call = await self._read(request, reference, kind)
        if kind == "DryRun":
            await request.reply(204, b"", [(b"x-amz-executed-version", call.version.encode())])
            return
        self._check_state(function)
        draw = self._draw(function)
        headers = self._headers(call)
        grant = self._admit(function, call, draw)
        chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        call.sink = chunks.put_nowait
        running = asyncio.ensure_future(self._executor.run(function, call, grant, draw))
        running.add_done_callback(lambda _: chunks.put_nowait(None))
        await request.start_stream([*headers, (b"content-type", CONTENT_TYPE)])
        breaks = draw is not None and draw.fault in (Fault.LOST, Fault.RESET)
        while (chunk := await chunks.get()) is not None:
            await request.send_chunk(payload_chunks(chunk))
        result = running.result()
        if breaks:
            await request.hang_up(reset=draw is not None and draw.fault is Fault.RESET)
            return
        await request.send_chunk(self._stream_end(result, call), is_last=True)

    async def _read(self, request: Request, reference: str, kind: str) -> tuple[Function, Call]:
        """Check a request, in the order in which Lambda is known to, and make the call of it."""
        limit = MAX_EVENT_BYTES if kind == "Event" else MAX_REQUEST_BYTES
        body = await request.body(limit)
        query = request.query("Qualifier") if request.scope["query_string"] else ""
        function, qualifier, version = self._registry.find(reference, query)
        if body is None:
            size = request.header(b"content-length") or f"more than {limit}"
            message = f"{size} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
            raise Refusal(413, "RequestTooLargeException", message)
        if body:
            try:
                payloads.check(body)
            except ValueError as error:
                message = f"Could not parse request body into json: {error}"
                raise Refusal(400, "InvalidRequestContentException", message) from error
        call = Call(
            request_id=request.request_id,
            payload=body or b"{}",
            function_arn=function.arn(qualifier),
            version=version,
            qualifier=qualifier,
        )
        headers = request.headers
        if b"x-amz-log-type" in headers:
            self._read_log_type(request.header(b"x-amz-log-type"), kind, call)
        if b"x-amz-client-context" in headers:
            if kind == "Event":
                raise invalid("ClientContext is not supported for the Event invocation type")
            call.client_context = _client_context(headers[b"x-amz-client-context"])
        if b"x-amz-tenant-id" in headers:
            call.tenant_id = request.header(b"x-amz-tenant-id")
            if not 1 <= len(call.tenant_id) <= 256:
                raise invalid("TenantId must have 1 to 256 characters")
            self._counters.tenants[call.tenant_id] += 1
        if b"x-amz-durable-execution-name" in headers:
            call.durable_name = request.header(b"x-amz-durable-execution-name")
            if not _DURABLE_NAME.fullmatch(call.durable_name):
                raise invalid("DurableExecutionName must have 1 to 64 letters, digits, hyphens, underscores")
        if function.pool is not None:
            call.trace_id = request.header(b"x-amzn-trace-id") or new_trace_id(time.time())
        return function, call

    @staticmethod
    def _read_log_type(log_type: str, kind: str, call: Call) -> None:
        if log_type not in {"None", "Tail"}:
            raise invalid(f"LogType {log_type}: must be None or Tail")
        call.wants_log = log_type == "Tail"
        if call.wants_log and kind == "Event":
            raise invalid("LogType Tail is not supported for the Event invocation type")

    def _check_state(self, function: Function) -> None:
        """Refuse calls of a function that is not active, or away; the first call starts its windows."""
        if function.settings.name not in self._called:
            self._called.add(function.settings.name)
            loop = asyncio.get_running_loop()
            for window in function.refusals:
                loop.call_later(window.start_s, self._go_away, window.length_s)
        now_s = time.monotonic()
        state = function.lifecycle.on_call(now_s)
        if state.name != "Active":
            raise Refusal(
                409,
                "ResourceConflictException",
                "The operation cannot be performed at this time. "
                f"The function is currently in the following state: {state.name}",
                member="Message",
            )
        if function.lifecycle.is_out(now_s):
            raise simulated_status(503)

    def _draw(self, function: Function) -> Draw | None:
        """Throw the dice of a simulated function; a fault that keeps it from running is raised."""
        if function.dice is None:
            return None
        draw = function.dice.draw()
        if draw.fault is Fault.STATUS:
            raise simulated_status(draw.status)
        return draw

    def _admit(self, function: Function, call: Call, draw: Draw | None) -> Grant:
        if draw is not None and draw.fault is Fault.THROTTLED:
            raise throttled(self._account.refuse_stray(function.load))
        grant = self._account.admit(function.load, time.monotonic(), qualifier=call.qualifier)
        if isinstance(grant, Reason):
            raise throttled(grant)
        return grant

    @staticmethod
    def _headers(call: Call, *, version: bool = True) -> Headers:
        headers = []
        if version:
            headers.append((b"x-amz-executed-version", call.version.encode()))
        if call.trace_id:
            headers.append((b"x-amzn-trace-id", call.trace_id.encode("latin-1")))
        return headers

    @staticmethod
    def _stream_end(result: Result, call: Call) -> bytes:
        complete: dict[str, str] = {}
        rest = result.payload
        if result.error_type:
            complete = {"ErrorCode": result.error_type, "ErrorDetails": rest.decode("utf-8", "replace")}
            rest = b""
        if call.wants_log:
            complete["LogResult"] = tail(result.log).decode()
        return payload_chunks(rest) + frame(
            "InvokeComplete", "application/json", msgspec.json.encode(complete)
        )


def _client_context(encoded: bytes) -> str:
    if len(encoded) > MAX_CLIENT_CONTEXT_BYTES:
        raise invalid(f"Client context must be no more than {MAX_CLIENT_CONTEXT_BYTES} bytes")
    try:
        decoded = msgspec.json.decode(base64.b64decode(encoded, validate=True))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
        decoded = None
    if not isinstance(decoded, dict):
        raise Refusal(
            400,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.",
        )
    return json.dumps(decoded)
