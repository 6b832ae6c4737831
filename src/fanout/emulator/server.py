"""Start, readiness and end of the emulator, and of its environments with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fanout.emulator.app import App
from fanout.emulator.command import Command
from fanout.emulator.settings import Settings
from fanout.emulator.spawner import Spawner
from fanout.errors import EmulatorError

_BACKLOG = 4_096
_HANDLES = 32  # of the listening socket
_KEEP_ALIVE_S = 75
_PARENT_CHECK_S = 1.0


class _Protocol(HttpToolsProtocol):
    """Gives the application its connection, for the faults that end one without an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["fanout.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


class _Server(uvicorn.Server):
    """Leaves the signals to us, and ends at once: calls under way are cut off, as on a machine that fails."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # keeps the Date header right
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 1.0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen through several handles of each socket.

        uvloop takes one connection for each handle and turn of its loop: with one handle, a loaded emulator
        leaves new connections unanswered for a minute and more.
        """
        shared = [each.dup() for each in sockets or () for _ in range(_HANDLES - 1)]
        await super().startup(sockets=[*(sockets or ()), *shared])

    async def go_away(self, seconds: float) -> None:
        """Break every connection and refuse new ones for a while, then listen again on the same port."""
        listening = self.servers[0].sockets[0]
        family, address = listening.family, listening.getsockname()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        held = socket.socket(family)  # bound, not listening: refuses, and keeps the port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            with contextlib.suppress(OSError):
                held.bind(address)
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(seconds)
        held.listen(_BACKLOG)
        if not self.should_exit:
            await self.startup(sockets=[held])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        for server in self.servers:
            server.close()

    def end(self) -> None:
        """Stop serving; what this cuts off is nothing to log."""
        logging.getLogger("uvicorn.error").disabled = True
        self.should_exit = True
        self._ended.set()


def serve(settings: Settings) -> int:
    """Serve until SIGINT, SIGTERM or, with ``die_with_parent``, the end of stdin; returns 0.

    With a command: until that has ended, and returns its exit code. Raises EmulatorError.
    """
    if not hasattr(os, "fork"):
        raise EmulatorError("the emulator needs a system that forks: Linux, macOS or WSL")
    command = None if not settings.command else Command(settings.command, region=settings.region or "")
    files = _raise_file_limit()
    listening = _bind(settings)
    try:
        import uvloop
    except ImportError:
        run: Callable[[Coroutine[Any, Any, int]], int] = asyncio.run
    else:
        run = uvloop.run
    with contextlib.suppress(asyncio.CancelledError):
        return run(_serve(settings, listening, files, command))
    return 0


async def _serve(
    settings: Settings, listening: socket.socket, files: tuple[int, int], command: Command | None
) -> int:
    loop = asyncio.get_running_loop()
    spawner = Spawner(bootstrap=settings.bootstrap, files=files, environ=dict(os.environ))
    show_log = None if settings.quiet or settings.command else _show_log
    absence: list[asyncio.Task[None]] = []
    server: _Server

    def go_away(seconds: float) -> None:
        absence.append(loop.create_task(server.go_away(seconds)))

    app = App(settings, spawner, show_log, go_away)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=_BACKLOG,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a client's bad HTTP is answered, not logged
    server = _Server(config)
    if command is None:
        _watch_signals(loop, server, settings)
    else:
        command.watch_signals(loop)
    code = 0
    try:
        if settings.handler is not None:
            spawner.start()
            await spawner.ready
            if settings.init_check:
                await _check_handler(app, settings)
        if not server.should_exit:
            announcing = loop.create_task(_announce(server, settings, listening, command))
            await server.serve(sockets=[listening])
            code = await announcing
    finally:
        spawner.close()
    return code


async def _check_handler(app: App, settings: Settings) -> None:
    """Initialise one environment; raises EmulatorError with one line if that fails."""
    assert settings.handler is not None
    function = app.registry.functions[settings.functions[0].name]
    assert function.pool is not None
    result = await function.pool.check()
    if result is None:
        return
    error = json.loads(result.payload)
    path, _, attribute = settings.handler.rpartition(":")
    what = " ".join(str(error.get("errorMessage", "")).removeprefix("RequestId:  Error: ").split())
    kind = str(error.get("errorType", ""))
    advice = "fix it, or start with --no-init-check to see the error in the first call"
    if kind == "Runtime.HandlerNotFound":
        advice = f"name a function of {path}"
        what = f"it has no function {attribute!r}"
    elif kind == "Runtime.ExitError":
        said = [line for line in result.log.decode("utf-8", "replace").splitlines() if line][:-2]
        what += f" ({said[-1].strip()})" if said else ""
        if settings.bootstrap:
            raise EmulatorError(f"cannot start --bootstrap {settings.bootstrap!r}: {what}; try it by hand")
    elif kind == "Runtime.ImportModuleError":
        what = what.partition(": ")[2] or what
        advice = f"install what it needs where fanout runs ({sys.prefix}), or fix the import"
    elif not kind.startswith("Runtime."):
        what = f"{kind}: {what}"
        trace = error.get("stackTrace") or []
        what += f" ({' '.join(trace[-1].split()[:4]).rstrip(',')})" if trace else ""
    raise EmulatorError(f"cannot import {path}: {what}; {advice}")


async def _announce(
    server: _Server, settings: Settings, listening: socket.socket, command: Command | None
) -> int:
    """Say where it listens, or run the command and end the server after it; returns the exit code."""
    while not server.started:
        if server.should_exit:
            return 0
        await asyncio.sleep(0.002)
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    names = [function.name for function in settings.functions]
    if settings.ready_json:
        sys.stdout.write(json.dumps({"endpoint_url": url, "functions": names, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
    if command is not None:
        try:
            return await command.run(url)
        finally:
            server.end()
    if not settings.quiet:
        _greet(url, names, settings)
    return 0


def _greet(url: str, names: list[str], settings: Settings) -> None:
    """Write two lines that work when they are pasted into a fresh shell, with no AWS account set up."""
    variables = {
        "AWS_ENDPOINT_URL_LAMBDA": url,
        "AWS_REGION": settings.region or "",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    exports = " ".join(f"{name}={value}" for name, value in variables.items())
    sys.stderr.write(
        f"Lambda on this machine: {url}  ({', '.join(names)})\n"
        f"In another shell: export {exports}\n"
        f"and then: echo '{{\"id\": 1}}' | fanout run {names[0]} - --out -\n"
    )
    sys.stderr.flush()


def _watch_signals(loop: asyncio.AbstractEventLoop, server: _Server, settings: Settings) -> None:
    starting = asyncio.current_task()

    def end() -> None:
        server.end()
        if not server.started and starting is not None:
            starting.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    if not settings.die_with_parent:
        loop.add_signal_handler(signal.SIGINT, end)
        return
    # A Ctrl-C goes to the whole foreground group: the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def read() -> None:
        if not os.read(0, 4_096):
            loop.remove_reader(0)
            end()

    def check(parent: int) -> None:
        # A fork of the parent may hold the other end of the pipe open when the parent itself is gone.
        if os.getppid() == parent:
            loop.call_later(_PARENT_CHECK_S, check, parent)
        else:
            end()

    loop.add_reader(0, read)
    check(os.getppid())


def _show_log(log: bytes) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.buffer.write(log)
        sys.stderr.buffer.flush()


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        what = os.strerror(error.errno).lower() if error.errno else str(error)
        raise EmulatorError(
            f"cannot listen on {settings.host}:{settings.port}: {what}; choose another --port"
        ) from error


def _raise_file_limit() -> tuple[int, int]:
    """Allow as many open files as the system lets us; tells what it was, for the environments."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before
