"""One execution environment: a process that serves one call at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from fanout.emulator.call import Call, Result
from fanout.emulator.function_errors import describe_exit, died, error_type_of
from fanout.emulator.logs import TAIL_BYTES, Measures, render, timeout_line
from fanout.emulator.runtime_api import Connection
from fanout.emulator.settings import FunctionSettings, environment_variables
from fanout.emulator.spawner import Spawner

INIT_LIMIT_S = 10.0
"""How long an initialisation may take on Lambda before it counts against the call."""
_PIPE_BYTES = 65_536
_MAX_SHOWN_LOG_BYTES = 262_144


class EnvironmentGone(Exception):
    """An idle environment died before it took the call."""


class Environment:
    """One process. Its runtime client drives it: what it asks and says comes in by the ``on_`` methods."""

    def __init__(
        self,
        settings: FunctionSettings,
        version: str,
        spawner: Spawner,
        *,
        show_log: Callable[[bytes], None] | None,
    ) -> None:
        self.version = version
        self.is_dead = False
        self._settings = settings
        self._spawner = spawner
        self._show_log = show_log
        self._loop = asyncio.get_running_loop()
        self.initialised: asyncio.Future[Result | None] = self._loop.create_future()
        self._id = 0
        self._server: asyncio.Server | None = None
        self._log_fd = -1
        self._output = bytearray()
        self._waiting: Connection | None = None
        self._call: Call | None = None
        self._done: asyncio.Future[Result] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spawned_at_s = 0.0
        self._delivered_at_s: float | None = None
        self._init_ms: float | None = None
        self._init_error: Result | None = None
        self._has_timed_out = False
        self._chunks: list[bytes] = []

    async def start(self) -> None:
        """Open the Runtime API and start the process; does not wait for its initialisation."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=16)
        port = listening.getsockname()[1]
        self._server = await self._loop.create_server(lambda: Connection(self), sock=listening)
        self._log_fd, log_end = os.pipe()
        os.set_blocking(self._log_fd, False)
        self._loop.add_reader(self._log_fd, self._read_log)
        environ = environment_variables(self._settings, self.version, f"127.0.0.1:{port}")
        self._spawned_at_s = time.perf_counter()
        self._id = self._spawner.spawn(environ, log_end, self._on_exit)

    async def run(self, call: Call) -> Result:
        """Run one call; EnvironmentGone if the process died idle. Never two at a time."""
        if self.is_dead:
            raise EnvironmentGone
        self._call, self._delivered_at_s, self._chunks = call, None, []
        self._done = self._loop.create_future()
        if self._waiting is not None and self._waiting.is_open:
            self._deliver(self._waiting)
        else:
            grace_s = 0.0 if self.initialised.done() else INIT_LIMIT_S
            self._timer = self._loop.call_later(grace_s + self._settings.timeout_s, self._on_timeout)
        return await self._done

    def kill(self) -> None:
        """Kill the process; a call in it ends with the exit."""
        self._spawner.kill(self._id)

    def on_next(self, connection: Connection) -> None:
        """Hand over the call that waits, or keep the connection until one comes."""
        if not self.initialised.done():
            self._init_ms = (time.perf_counter() - self._spawned_at_s) * 1000
            self.initialised.set_result(None)
        if self._call is not None and self._delivered_at_s is None:
            self._deliver(connection)
        else:
            self._waiting = connection

    def on_response(self, request_id: str, body: bytes) -> bool:
        """End the call with the function's answer."""
        if self._running(request_id) is None:
            return False
        self._finish(Result(body))
        return True

    def on_chunk(self, request_id: str, body: bytes) -> None:
        """Pass a piece on to a streaming caller, or collect it for the others."""
        call = self._running(request_id)
        if call is not None:
            if call.sink is not None:
                call.sink(body)
            else:
                self._chunks.append(body)

    def on_stream_end(self, request_id: str, error_type: str, error_body: bytes) -> bool:
        """End the call after its last piece."""
        if self._running(request_id) is None:
            return False
        self._finish(Result(error_body or b"".join(self._chunks), error_type=error_type))
        return True

    def on_error(self, request_id: str, body: bytes, error_type: str) -> bool:
        """End the call with the function's error."""
        if self._running(request_id) is None:
            return False
        self._finish(Result(body, error_type=error_type or error_type_of(body)))
        return True

    def on_init_error(self, body: bytes, error_type: str) -> None:
        """Keep the error for the call, and end the process: Lambda starts over with a new one."""
        self._init_error = Result(
            body, error_type=error_type or error_type_of(body), is_environment_lost=True
        )
        self.kill()

    def _running(self, request_id: str) -> Call | None:
        call = self._call
        return (
            call
            if call is not None and call.request_id == request_id and self._delivered_at_s is not None
            else None
        )

    def _deliver(self, connection: Connection) -> None:
        call = self._call
        assert call is not None
        self._waiting = None
        self._stop_timer()
        timeout_s = self._settings.timeout_s
        self._delivered_at_s = time.perf_counter()
        self._timer = self._loop.call_later(timeout_s, self._on_timeout)
        headers = (
            f"Lambda-Runtime-Aws-Request-Id: {call.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {int((time.time() + timeout_s) * 1000)}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {call.function_arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {call.trace_id}\r\n"
        )
        if call.client_context:
            headers += f"Lambda-Runtime-Client-Context: {call.client_context}\r\n"
        if call.tenant_id:
            headers += f"Lambda-Runtime-Aws-Tenant-Id: {call.tenant_id}\r\n"
        connection.reply(200, call.payload, headers)

    def _on_timeout(self) -> None:
        self._has_timed_out = True
        self.kill()

    def _on_exit(self, status: int) -> None:
        self.is_dead = True
        self._read_log()
        call = self._call
        outcome = self._init_error or self._exit_result(status, call)
        if not self.initialised.done():
            outcome.log = bytes(self._output)
            self.initialised.set_result(outcome)
        elif (
            call is not None
            and self._delivered_at_s is None
            and not self._has_timed_out
            and self._done is not None
        ):
            self._call = None
            self._done.set_exception(EnvironmentGone())
        if self._call is not None:
            self._finish(outcome)
        self._stop_timer()
        if self._server is not None:
            self._server.close()
        self._loop.remove_reader(self._log_fd)
        os.close(self._log_fd)
        self._log_fd = -1

    def _exit_result(self, status: int, call: Call | None) -> Result:
        request_id = call.request_id if call is not None else ""
        if self._has_timed_out:
            timeout_s = self._settings.timeout_s
            self._output += timeout_line(request_id, timeout_s)
            return died(
                "Sandbox.Timedout",
                f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds",
            )
        message = f"RequestId: {request_id} Error: {describe_exit(status)}"
        self._output += f"{message}\nRuntime.ExitError\n".encode()
        return died("Runtime.ExitError", message)

    def _finish(self, result: Result) -> None:
        call, done = self._call, self._done
        assert call is not None
        assert done is not None
        self._call = None
        self._stop_timer()
        if call.wants_log or self._show_log is not None:
            self._read_log()
            result.log = render(
                call.request_id,
                call.version,
                bytes(self._output),
                self._measures(result),
                as_json=self._settings.is_log_json,
            )
            if self._show_log is not None:
                self._show_log(result.log)
        self._output.clear()
        self._init_ms = None
        if not done.done():
            done.set_result(result)

    def _measures(self, result: Result) -> Measures:
        now_s = time.perf_counter()
        measures = Measures(
            duration_ms=(now_s - (self._delivered_at_s or now_s)) * 1000,
            memory_mb=self._settings.memory_mb,
            max_memory_mb=self._max_memory_mb(),
            init_ms=self._init_ms
            if self._delivered_at_s is not None
            else (now_s - self._spawned_at_s) * 1000,
        )
        if self._has_timed_out:
            measures.status = "timeout"
            measures.duration_ms = self._settings.timeout_s * 1000
        elif result.is_environment_lost:
            measures.status, measures.error_type = "error", result.error_type
        return measures

    def _max_memory_mb(self) -> int | None:
        pid = self._spawner.pid(self._id)
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return max(1, int(line.split()[1]) // 1024)
        return None

    def _read_log(self) -> None:
        if self._log_fd < 0:
            return
        while True:
            try:
                data = os.read(self._log_fd, _PIPE_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._loop.remove_reader(self._log_fd)
                return
            self._output += data
            keep = TAIL_BYTES if self._show_log is None else _MAX_SHOWN_LOG_BYTES
            if len(self._output) > 2 * keep:
                del self._output[:-keep]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
