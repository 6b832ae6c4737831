"""Execution of an admitted call, and the release of its place after the reply and a linger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from fanout.emulator.call import Call, Result
from fanout.emulator.counters import Counters
from fanout.emulator.environments import Environment
from fanout.emulator.functions import Function
from fanout.emulator.logs import Measures, render, timeout_line
from fanout.emulator.model import Account, Grant
from fanout.emulator.record_faults import Verdict
from fanout.emulator.simulation import Draw, Fault

MAX_RESPONSE_BYTES = 6_291_556
_FINE = Verdict()
_SIMULATED_MEMORY_MB = 64
_TOO_LARGE = msgspec.json.encode(
    {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size "
        f"({MAX_RESPONSE_BYTES} bytes).",
    }
)


class Executor:
    """Runs calls; shared by synchronous and asynchronous invocations."""

    def __init__(self, account: Account, counters: Counters, linger_s: float) -> None:
        self._account = account
        self._counters = counters
        self._linger_s = linger_s
        self._loop = asyncio.get_running_loop()

    async def run(self, function: Function, call: Call, grant: Grant, draw: Draw | None) -> Result:
        """Run one call to its end. Releases the grant later, when Lambda would."""
        self._counters.count_execution(function.settings.name, call.payload)
        if function.pool is not None:
            environment = None
            is_lost = True
            try:
                result, environment = await function.pool.run(call)
                is_lost = result.is_environment_lost
            finally:
                self._release_after(self._linger_s, grant, function, environment, is_lost=is_lost)
        else:
            assert draw is not None
            result = await self._simulate(function, call, grant, draw)
        if not result.error_type and call.sink is None and len(result.payload) > MAX_RESPONSE_BYTES:
            result.payload, result.error_type = _TOO_LARGE, "Function.ResponseSizeTooLarge"
        return result

    async def _simulate(self, function: Function, call: Call, grant: Grant, draw: Draw) -> Result:
        simulation = function.settings.simulation
        assert simulation is not None
        timeout_s = function.settings.timeout_s
        if function.durable is not None:
            timeout_s = function.durable.execution_timeout_s
        has_timed_out = draw.latency_s > timeout_s
        run_s = min(draw.latency_s, timeout_s)
        init_s = simulation.init_s if grant.is_cold else 0.0
        runs_on_s = simulation.runs_on_s if draw.fault is Fault.LOST else 0.0
        try:
            if call.sink is not None and simulation.chunks > 1 and not has_timed_out:
                await self._simulate_stream(
                    call.sink, simulation.output or call.payload, simulation.chunks, init_s + run_s
                )
            elif run_s + init_s > 0:
                await asyncio.sleep(run_s + init_s)
        finally:
            self._release_after(self._linger_s + runs_on_s, grant, function, None, is_lost=has_timed_out)
        error_type, payload = "", simulation.output or call.payload
        verdict = _FINE if function.record_faults is None else function.record_faults.judge(call.payload)
        if has_timed_out:
            error_type = "Sandbox.Timedout"
            message = f"RequestId: {call.request_id} Error: Task timed out after {timeout_s:.2f} seconds"
            payload = msgspec.json.encode({"errorType": error_type, "errorMessage": message})
        elif draw.fault is Fault.ERROR or verdict.raises:
            error_type = simulation.error_type
            message = simulation.error_message if draw.fault is Fault.ERROR else "poisonous record"
            payload = _simulated_error(error_type, message, call.request_id)
        elif verdict.reply is not None:
            payload = verdict.reply
        elif call.sink is not None and simulation.chunks > 1:
            payload = b""
        result = Result(payload, error_type=error_type)
        if call.wants_log:
            measures = Measures(
                duration_ms=run_s * 1000,
                memory_mb=function.settings.memory_mb,
                max_memory_mb=min(_SIMULATED_MEMORY_MB, function.settings.memory_mb),
                init_ms=init_s * 1000 if grant.is_cold else None,
                status="timeout" if has_timed_out else "",
            )
            output = timeout_line(call.request_id, timeout_s) if has_timed_out else b""
            is_json = function.settings.is_log_json
            result.log = render(call.request_id, call.version, output, measures, as_json=is_json)
        return result

    @staticmethod
    async def _simulate_stream(
        sink: Callable[[bytes], None], output: bytes, chunks: int, seconds: float
    ) -> None:
        size = -(-len(output) // chunks)
        for at in range(0, len(output), size):
            await asyncio.sleep(seconds / chunks)
            sink(output[at : at + size])

    def _release_after(
        self,
        delay_s: float,
        grant: Grant,
        function: Function,
        environment: Environment | None,
        *,
        is_lost: bool,
    ) -> None:
        if delay_s > 0:
            self._loop.call_later(delay_s, self._release, grant, function, environment, is_lost)
        else:
            self._release(grant, function, environment, is_lost)

    def _release(
        self, grant: Grant, function: Function, environment: Environment | None, is_lost: bool
    ) -> None:  # noqa: FBT001, RUF100
        self._account.release(grant, environment_lost=is_lost)
        if environment is not None and function.pool is not None:
            function.pool.give_back(environment)


def _simulated_error(error_type: str, message: str, request_id: str) -> bytes:
    error = {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": []}
    return msgspec.json.encode(error)
