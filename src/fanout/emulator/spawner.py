"""Link to the process that forks environments: starts, kills and exits."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_KILLED = 9  # the wait status of a process killed by SIGKILL
_RECEIVE_BYTES = 65_536

OnExit = Callable[[int], None]


class Spawner:
    """Starts, kills and watches environments. Must be made on the event loop's thread."""

    def __init__(
        self, *, bootstrap: str | None = None, files: tuple[int, int], environ: dict[str, str]
    ) -> None:
        self._bootstrap = bootstrap
        self._files = files
        self._environ = environ
        self._ids = itertools.count(1)
        self._on_exit: dict[int, OnExit] = {}
        self._pids: dict[int, int] = {}
        self._socket: socket.socket | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._unsent: collections.deque[tuple[bytes, int | None]] = collections.deque()
        self._buffer = b""

    def start(self) -> None:
        """Start the template process; does not wait for it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        config = {"fd": theirs.fileno(), "bootstrap": self._bootstrap, "files": self._files}
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-P", str(Path(__file__).parent / "runtime" / "zygote.py"), json.dumps(config)],
            stdin=subprocess.DEVNULL,
            env=self._environ,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C on the terminal is the emulator's to handle
        )
        theirs.close()
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._receive)

    def spawn(self, environ: dict[str, str], log: int, on_exit: OnExit) -> int:
        """Start one environment that writes to the descriptor ``log``, which is closed here.

        ``on_exit`` is called once, with the wait status. Returns the environment's id.
        """
        if self._socket is None:
            self.start()
        environment_id = next(self._ids)
        self._on_exit[environment_id] = on_exit
        self._send({"id": environment_id, "env": environ}, log)
        return environment_id

    def kill(self, environment_id: int) -> None:
        """Kill an environment and its children with SIGKILL."""
        if environment_id in self._on_exit:
            self._send({"kill": environment_id}, None)

    def pid(self, environment_id: int) -> int | None:
        """Tell an environment's process id, once it is known."""
        return self._pids.get(environment_id)

    def close(self) -> None:
        """End the template process, and with it every environment."""
        self._on_exit.clear()
        self._pids.clear()  # the template process kills them itself
        self._disconnect()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    def _send(self, message: dict[str, object], descriptor: int | None) -> None:
        data = json.dumps(message).encode()
        self._unsent.append((struct.pack("!I", len(data)) + data, descriptor))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        while self._unsent:
            data, descriptor = self._unsent[0]
            try:
                if descriptor is None:
                    sent = self._socket.send(data)
                else:
                    sent = socket.send_fds(self._socket, [data], [descriptor])
                    os.close(descriptor)
            except BlockingIOError:
                loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                return  # the template process has died: _receive will see it
            if sent < len(data):
                self._unsent[0] = (data[sent:], None)
            else:
                self._unsent.popleft()
        loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "ready" in message:
                if not self.ready.done():
                    self.ready.set_result(None)
            elif "pid" in message:
                self._pids[message["id"]] = message["pid"]
            else:
                self._left(message["id"], message["exit"])

    def _left(self, environment_id: int, status: int) -> None:
        self._pids.pop(environment_id, None)
        on_exit = self._on_exit.pop(environment_id, None)
        if on_exit is not None:
            on_exit(status)

    def _disconnect(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for _, descriptor in self._unsent:
            if descriptor is not None:
                os.close(descriptor)
        self._unsent.clear()
        if not self.ready.done():
            self.ready.set_result(None)  # nobody may wait for a process that has died
        for pid in self._pids.values():
            # The template process died alone: the kernel kills what it forked, but not their children.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for environment_id in list(self._on_exit):
            self._left(environment_id, _KILLED)
