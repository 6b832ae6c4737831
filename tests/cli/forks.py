"""The command as a process of its own, without the start of an interpreter: forked where all is imported.

``run_command`` asks a server, ``python -m tests.cli.forks``, which has imported ``fanout`` and forks for each
command; it has no threads and no event loop of its own. One server for a pytest process.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

_VERBS = ("run", "resume", "redrive", "plan", "report", "export", "limits", "invoke", "collect", "tune")
_NEEDED = (*(f"fanout.cli.{verb}" for verb in _VERBS), "fanout.commands.restart", "fanout.commands.collect")
_server: subprocess.Popen[bytes] | None = None


def run_command(
    *words: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``fanout`` with these words to its end. Raises TimeoutExpired, after killing it."""
    with tempfile.TemporaryDirectory(prefix="fanout-forks-") as folder:
        files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin)
        order = {
            "words": list(map(str, words)),
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "files": list(map(str, files)),
            "timeout_s": timeout_s,
        }
        server = _started()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(order).encode() + b"\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        out, err = files[1].read_bytes(), files[2].read_bytes()
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(list(map(str, words)), timeout_s, out, err)
        return subprocess.CompletedProcess(words, code, out, err)


def _started() -> subprocess.Popen[bytes]:
    global _server  # noqa: PLW0603 - one for the process
    if _server is None or _server.poll() is not None:
        _server = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forks"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        atexit.register(_end, _server)
    return _server


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


def _serve(orders: IO[str]) -> None:
    import importlib

    import fanout
    from tests.service_models import read_ahead

    fanout.preload()
    read_ahead()
    for name in _NEEDED:
        importlib.import_module(name)
    sys.path.pop(0)  # the tests' own directory, which the command has not
    replies = os.dup(1)
    for line in orders:
        order = json.loads(line)
        child = os.fork()
        if not child:
            os.close(replies)
            _become(order)
        os.write(replies, b"%d\n" % os.waitpid(child, 0)[1])


def _become(order: dict[str, object]) -> NoReturn:
    os.setsid()
    signal.setitimer(signal.ITIMER_REAL, float(str(order["timeout_s"])))
    names = order["files"]
    assert isinstance(names, list)
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)):
        opened = os.open(names[number], flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False, encoding="utf-8") for number, mode in enumerate("rww")
    )
    os.chdir(str(order["cwd"]))
    environment = order["env"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    words = order["words"]
    assert isinstance(words, list)
    sys.argv = ["fanout", *words]
    from fanout.cli import main

    code: object = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(str(code or 0)))


if __name__ == "__main__":
    _serve(sys.stdin)
