"""``EmulatorProcess``: an emulator as a child process that dies with the program."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Self

from fanout.errors import EmulatorError

START_LIMIT_S = 60.0
_STOP_LIMIT_S = 5.0


class EmulatorProcess:
    """An emulator on a free port of 127.0.0.1, for the length of a ``with`` block.

    It dies with this process, however that ends. ``timeout_s`` and ``concurrency`` are those of the
    function; ``extra`` are further arguments of ``fanout emulate``; ``env`` is the environment that the
    handler finds, by default the program's own. Attributes after ``start``:
    ``endpoint_url``, ``functions`` (their names), ``pid``.
    """

    def __init__(
        self,
        *,
        handler: str | None = None,
        simulate: Sequence[str] = (),
        concurrency: int | None = None,
        timeout_s: float | None = None,
        name: str | None = None,
        extra: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        arguments = [handler] if handler is not None else []
        for spec in simulate:
            arguments += ["--simulate", spec]
        for flag, value in (("--concurrency", concurrency), ("--timeout", timeout_s), ("--name", name)):
            if value is not None:
                arguments += [flag, str(value)]
        if "--port" not in extra:
            arguments += ["--port", "0"]
        self._env = env
        self._arguments = [*arguments, *extra, "--ready-json", "--die-with-parent", "--quiet"]
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self.endpoint_url = ""
        self.functions: list[str] = []
        self.pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it listens; raises EmulatorError with the child's own line if it cannot."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "fanout.emulator", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=self._env,
        )
        try:
            ready = json.loads(self._read_line())
        except ValueError:
            message = self._last_words()
            self.stop()
            raise EmulatorError(message) from None
        except BaseException:
            self.stop()
            raise
        self.endpoint_url = ready["endpoint_url"]
        self.functions = ready["functions"]
        self.pid = ready["pid"]

    def stop(self) -> None:
        """End it, and every environment of it; does nothing when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.terminate()
            try:
                process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def stats(self) -> dict[str, Any]:
        """Read the emulator's counts."""
        return self._ask("GET", "stats", None)

    def reset(self) -> None:
        """Set the counts to nothing and make every environment cold."""
        self._ask("POST", "reset", {})

    def set_limits(self, **limits: Any) -> None:
        """Change limits while it runs.

        ``account_concurrency``, ``reserved_concurrency`` (None: none) and ``timeout_s``, of every function
        or of ``function="name"``; ``deny=["GetFunction", …]`` answers AccessDenied to these operations.
        """
        self._ask("POST", "limits", limits)

    def _ask(self, method: str, what: str, body: dict[str, Any] | None) -> dict[str, Any]:
        import http.client

        connection = http.client.HTTPConnection(self.endpoint_url.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, f"/_fanout/{what}", None if body is None else json.dumps(body))
            reply = connection.getresponse()
            answer: dict[str, Any] = json.loads(reply.read())
        except OSError as error:
            raise EmulatorError(f"the emulator at {self.endpoint_url} does not answer: {error}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise EmulatorError(str(answer.get("message") or answer.get("Message")))
        return answer

    def _read_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        give_up_at_s = time.monotonic() + START_LIMIT_S
        line = b""
        while not line.endswith(b"\n"):
            left_s = give_up_at_s - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                break
            piece = self._process.stdout.read1(4_096)  # type: ignore[attr-defined]
            if not piece:
                break
            line += piece
        return line

    def _last_words(self) -> str:
        assert self._process is not None
        assert self._stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        if self._process.poll() is None:
            return f"the emulator did not start within {START_LIMIT_S:g} seconds"
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        said = lines[-1].removeprefix("fanout: ") if lines else f"exit status {self._process.returncode}"
        return said if lines and lines[-1].startswith("fanout: ") else f"the emulator could not start: {said}"
