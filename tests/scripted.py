"""A transport that answers what a test scripted: Lambda's side of the Transport Protocol, with no network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import looptime

from fanout.errors import ConnectFailed, ReplyLost
from fanout.model import InvokeTemplate, OnChunk, Reply
from fanout.transports.prompt import Flight, OnEnd

CONCURRENCY_REASON = "ReservedFunctionConcurrentInvocationLimitExceeded"
RATE_REASON = "CallerRateLimitExceeded"

Answer = Reply | BaseException
# How often a virtual loop looks for events before it lets time pass; by default it looks 42 times, in vain.
LOOKS = 2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call as Lambda saw it. ``number`` counts calls from 0, ``attempt`` those of this body from 1."""

    number: int
    attempt: int
    body: bytes
    template: InvokeTemplate

    def json(self) -> Any:
        """The payload."""
        return json.loads(self.body)


class Scripted:
    """Answers each call as ``script`` says: a function of the call, or answers in order, then successes.

    ``latency_s`` is a number or a function of the call; None answers without giving the loop a turn.
    Counts what is in flight itself, so that a test judges by the server's side.
    """

    def __init__(
        self,
        script: Callable[[Call], Answer] | Iterable[Answer] = (),
        *,
        latency_s: float | Callable[[Call], float] | None = 0.0,
        keeps_calls: bool = True,
    ) -> None:
        answers = iter(()) if callable(script) else iter(script)
        self._script = script if callable(script) else lambda call: next(answers, None) or ok(call.body)
        self._latency_s = latency_s
        self._keeps_calls = keeps_calls
        self._attempts: dict[bytes, int] = {}
        self.calls: list[Call] = []
        self.count = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = 0
        self.read_timeout_s: float | None = None

    @property
    def bodies(self) -> list[Any]:
        """The payloads in the order of their arrival."""
        return [call.json() for call in self.calls]

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        """Answer as scripted."""
        return await self._answered(self._arrived(template, body), on_chunk)

    def _arrived(self, template: InvokeTemplate, body: bytes) -> Call:
        attempt = 1
        if self._keeps_calls:
            attempt = self._attempts[body] = self._attempts.get(body, 0) + 1
        call = Call(self.count, attempt, body, template)
        self.count += 1
        if self._keeps_calls:
            self.calls.append(call)
        return call

    async def _answered(self, call: Call, on_chunk: OnChunk | None = None) -> Reply:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._latency_s is not None:
                latency_s = self._latency_s(call) if callable(self._latency_s) else self._latency_s
                await asyncio.sleep(latency_s)
            answer = self._script(call)
            if isinstance(answer, BaseException):
                raise answer
            if call.template.streaming and on_chunk is not None and answer.function_error is None:
                for at in range(len(answer.body)):
                    await on_chunk(answer.body[at : at + 1])
                return Reply(200)
            return answer
        finally:
            self.in_flight -= 1

    def set_read_timeout(self, seconds: float) -> None:
        """Remember it."""
        self.read_timeout_s = seconds

    async def aclose(self) -> None:
        """Count it."""
        self.closed += 1


class PromptScripted(Scripted):
    """The same, over connections: a call that finds one free is out at once, and its reply acts at once.

    ``kept`` of them come free one after the other, as calls end that waited for theirs.
    """

    def __init__(self, *args: Any, kept: int = 1_000, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free = 0
        self._kept = kept
        self.begun = 0

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        """Answer as scripted, over a new connection, which is kept."""
        return await self._answered(self._arrived(template, body), on_chunk)

    async def _answered(self, call: Call, on_chunk: OnChunk | None = None) -> Reply:
        reply = await super()._answered(call, on_chunk)
        self._free = min(self._kept, self._free + 1)
        return reply

    def begin(
        self,
        template: InvokeTemplate,
        bodies: Sequence[bytes],
        tokens: Sequence[Any],
        wall_s: float,
        on_end: OnEnd,
        begun: list[Flight],
    ) -> None:
        """See ``PromptTransport.begin``."""
        for body, token in zip(bodies, tokens, strict=True):
            if template.streaming or not self._free:
                return
            self._free -= 1
            self.begun += 1
            flight = _ScriptedFlight(token)
            begun.append(flight)
            call = self._arrived(template, body)  # it is out, though it be cut off at once
            flight.task = asyncio.get_running_loop().create_task(self._fly(flight, call, on_end))

    async def _fly(self, flight: _ScriptedFlight, call: Call, on_end: OnEnd) -> None:
        try:
            reply = await self._answered(call)
        except Exception as error:
            on_end(flight, None, error)
        else:
            on_end(flight, reply, None)


class _ScriptedFlight:
    def __init__(self, token: Any) -> None:
        self.token = token
        self.task: asyncio.Task[None] | None = None

    def cut_off(self) -> None:
        assert self.task is not None
        self.task.cancel()


def ok(body: bytes = b"null") -> Reply:
    """A success."""
    return Reply(200, body, executed_version="$LATEST", request_id="r")


def throttled(reason: str = CONCURRENCY_REASON, retry_after: str | None = None) -> Reply:
    """A 429 with a Reason."""
    body = json.dumps({"Reason": reason, "Type": "User", "message": "Rate Exceeded."}).encode()
    return Reply(429, body, error_type="TooManyRequestsException", retry_after=retry_after)


def function_error(error_type: str = "ValueError", message: str = "bad") -> Reply:
    """A function that raised."""
    body = json.dumps({"errorType": error_type, "errorMessage": message}).encode()
    return Reply(200, body, function_error="Unhandled", request_id="r", executed_version="$LATEST")


def refused(status: int, code: str, message: str = "no") -> Reply:
    """An error of Lambda's own."""
    return Reply(status, json.dumps({"message": message}).encode(), error_type=code)


def lost() -> ReplyLost:
    """The request went out, and no reply came."""
    return ReplyLost("the connection was cut")


def unreached() -> ConnectFailed:
    """No connection."""
    return ConnectFailed("no connection: connection refused")


MISSING = refused(404, "ResourceNotFoundException", "Function not found: f")
UNAVAILABLE = refused(503, "ServiceException", "try again")


def run_virtual(main: Coroutine[Any, Any, T], *, at_most_s: float = 200_000.0) -> T:
    """Run in an event loop of its own, in virtual time, for tests that need one for each example.

    What takes longer than ``at_most_s`` is taken for hanging. Fails when a task is left over.
    """
    loop = looptime.new_event_loop(start=1000.0, noop_cycles=LOOKS)
    try:
        result = loop.run_until_complete(asyncio.wait_for(main, at_most_s))
        loop.run_until_complete(asyncio.sleep(0))
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks are left over: {left}"
        return result
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
