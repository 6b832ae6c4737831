"""A blocking call where a loop runs already, as in a notebook: it works in a thread, which Ctrl-C reaches."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from fanout.commands.event_loop import run_blocking


def _at_the_start(started: threading.Event, signum: signal.Signals) -> None:
    """Send the main thread a signal once the work has begun."""

    def send() -> None:
        assert started.wait(60)
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signum)

    threading.Thread(target=send).start()


def _run_in_a_bare_loop(main: Any) -> Any:
    """A loop that leaves Ctrl-C to Python, as a notebook's."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


@pytest.mark.parametrize("runs", [_run_in_a_bare_loop, asyncio.run])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGUSR1])
def test_an_interrupt_ends_the_work_before_the_call_returns(
    runs: Callable[[Any], Any], signum: signal.Signals
) -> None:
    """No thread goes on alone; whatever else ends the caller does the same."""
    started, ended = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def caller() -> None:
        run_blocking(work)

    def leave(*_: Any) -> None:
        raise SystemExit(3)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        _at_the_start(started, signum)
        with pytest.raises(KeyboardInterrupt if signum is signal.SIGINT else SystemExit):
            runs(caller())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ended.is_set()


def test_an_interrupt_while_the_thread_starts_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to cancel yet: the work is cancelled at its first wait."""
    start, ended = threading.Thread.start, threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "fanout.run":
            raise KeyboardInterrupt

    async def caller() -> None:
        run_blocking(work)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run_in_a_bare_loop(caller())
    assert ended.is_set()


@pytest.mark.parametrize("method", ["__init__", "close"])
@pytest.mark.parametrize("of", range(1, 9))
@pytest.mark.filterwarnings("error")
def test_an_interrupt_as_the_loop_begins_or_ends_to_turn_is_raised_once_it_is_closed(
    monkeypatch: pytest.MonkeyPatch, method: str, of: int
) -> None:
    """uvloop's sockets for signals are the places in it where Python code runs, and with it a handler."""
    before, calls = getattr(socket.socket, method), 0
    loops: list[asyncio.AbstractEventLoop] = []
    real = uvloop.new_event_loop

    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += bool(loops)
        if calls == of:
            calls += 1
            signal.raise_signal(signal.SIGINT)
        return before(*arguments, **named)

    async def work() -> int:
        return 1

    def new_loop() -> asyncio.AbstractEventLoop:
        loops.append(real())
        return loops[0]

    monkeypatch.setattr(uvloop, "new_event_loop", new_loop)
    monkeypatch.setattr(socket.socket, method, called)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_blocking(work)
            assert calls < of
            raise KeyboardInterrupt
    finally:
        monkeypatch.undo()
    assert loops[0].is_closed()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_uvloop_the_loop_is_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on platforms that it is not made for."""

    async def work() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert run_blocking(work) == "uvloop"
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_blocking(work).startswith("asyncio.")


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_an_exit_while_bytes_are_received_ends_the_work(method: str) -> None:
    """A signal's handler may raise there, and uvloop would log it and go on."""

    class Exits(asyncio.Protocol):
        """It is interrupted."""

    def leave(*_: Any) -> None:
        raise SystemExit(143)

    ours, theirs = socket.socketpair()

    async def work() -> None:
        setattr(Exits, method, leave)
        transport, _ = await asyncio.get_running_loop().create_connection(Exits, sock=ours)
        theirs.sendall(b"x")
        theirs.close()
        try:
            await asyncio.sleep(60)
        finally:
            transport.abort()

    with pytest.raises(SystemExit):
        run_blocking(work)
