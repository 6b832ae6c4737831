"""Template process: forks environments, and outlives none of them.

A script of its own, standard library only: the emulator starts it once, with a Unix socket on a
file descriptor. A fork costs about a millisecond where a new interpreter costs thirty.

From the emulator: a 4-byte length, then JSON ``{"id": n, "env": {...}}`` with the log pipe's
descriptor beside it, or ``{"kill": n}``. To the emulator, a line of JSON each: ``{"ready": true}``,
``{"id": n, "pid": p}``, ``{"id": n, "exit": wait_status}``. When the socket ends, however the emulator
died, every environment is killed with its children; when this process is killed, the kernel does it
(Linux).
"""

from __future__ import annotations

import base64 as _base64  # noqa: F401 - imported here so that handlers find it loaded
import collections
import contextlib
import ctypes
import datetime as dt  # noqa: F401
import decimal as _decimal  # noqa: F401
import gc
import importlib
import importlib.util
import json
import logging as _logging  # noqa: F401
import os
import random as _random  # noqa: F401
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
import uuid as _uuid  # noqa: F401
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1


def _die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; Linux only."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:
            os._exit(1)


class Zygote:
    """Forks on request, reports which children have exited."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self._control = control
        self._config = config
        self._pids: dict[int, int] = {}  # environment id -> pid
        self._ids: dict[int, int] = {}  # pid -> environment id
        self._buffer = b""
        self._descriptors: collections.deque[int] = collections.deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def serve(self) -> None:
        """Work until the emulator is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()
        self._send({"ready": True})
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wake_read], [], [])
            if self._wake_read in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4_096)
                self._reap()
            if self._control.fileno() in readable and not self._receive():
                self._kill_all()
                return

    def _receive(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65_536, 64)
        except OSError:
            return False
        if not data:
            return False
        self._descriptors.extend(descriptors)
        self._buffer += data
        while len(self._buffer) >= 4:
            (length,) = struct.unpack_from("!I", self._buffer)
            if len(self._buffer) < 4 + length:
                break
            message = json.loads(self._buffer[4 : 4 + length])
            self._buffer = self._buffer[4 + length :]
            if "kill" in message:
                self._kill(message["kill"])
            else:
                self._fork(message, self._descriptors.popleft())
        return True

    def _fork(self, message: dict[str, Any], log: int) -> None:
        parent_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            os.close(log)
            self._send({"id": message["id"], "exit": 1 << 8})
            return
        if pid == 0:
            try:
                _die_with(parent_pid)
                self._become(message["env"], log)
            except SystemExit as leaving:
                _exit(leaving.code)
            except BaseException:  # noqa: BLE001 - the end of a forked process: nothing above may see it
                traceback.print_exc()
                _exit(1)
            _exit(0)
        os.close(log)
        self._pids[message["id"]] = pid
        self._ids[pid] = message["id"]
        self._send({"id": message["id"], "pid": pid})

    def _become(self, environ: dict[str, str], log: int) -> None:
        """Turn this forked process into an environment and serve in it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._control.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for other in self._descriptors:
            os.close(other)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.environ.update(environ)
        time.tzset()
        os.chdir(environ["LAMBDA_TASK_ROOT"])
        command = self._config.get("bootstrap")
        if command:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execv("/bin/sh", ["/bin/sh", "-c", f"exec {command}"])  # noqa: S606 - the user's own command
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.argv = ["bootstrap"]
        _BOOTSTRAP.serve()

    def _reap(self) -> None:
        while self._pids:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            environment_id = self._ids.pop(pid, None)
            if environment_id is not None:
                del self._pids[environment_id]
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # children that the handler left behind
                self._send({"id": environment_id, "exit": status})

    def _kill(self, environment_id: int) -> None:
        if environment_id in self._pids:
            self._kill_group(self._pids[environment_id])

    def _kill_all(self) -> None:
        for pid in list(self._ids):
            self._kill_group(pid)

    @staticmethod
    def _kill_group(pid: int) -> None:
        for kill in (os.killpg, os.kill):  # the group is not there yet in a child that has just been forked
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _exit(code: object) -> NoReturn:
    """Leave as the interpreter would, with what is buffered written, but without the parent's clean-up."""
    import atexit
    import threading

    with contextlib.suppress(Exception):
        if isinstance(code, str):
            sys.stderr.write(code + "\n")
        # What the interpreter does at its end, in this order.
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _load_bootstrap() -> Any:
    # Under a name of our own, and by its file: handlers may have a module called bootstrap.
    here = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        "_lambda_runtime", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None
    sys.modules["_lambda_runtime"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("_lambda_runtime.bootstrap")


if __name__ == "__main__":
    _CONFIG = json.loads(sys.argv[1])
    _BOOTSTRAP = _load_bootstrap()
    _CONTROL = socket.socket(fileno=_CONFIG["fd"])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(_CONFIG["files"]))
    Zygote(_CONTROL, _CONFIG).serve()
