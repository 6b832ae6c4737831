"""A Dask scheduler and workers on this machine, as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

DASK = Path(sys.executable).with_name("dask")


def outcomes_of(run_dir: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; none where there is no run yet."""
    try:
        lines = (run_dir / "outcomes.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def wait_for(holds: Callable[[], bool], errors: Path, seconds: float = 60) -> None:
    """Return once it holds; else fail with what was written to ``errors``."""
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, errors.read_text()
        time.sleep(0.02)


class Cluster:
    """A scheduler, and workers as they are asked for."""

    def __init__(self, folder: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self._file = folder / "scheduler.json"
        self._options = [*options, "--scheduler-file", str(self._file), "--no-dashboard"]
        self._running: list[subprocess.Popen[bytes]] = []
        self.start("scheduler", environment or dict(os.environ), "--host", "127.0.0.1", "--port", "0")
        end_s = time.monotonic() + 60
        while True:
            with suppress(OSError, ValueError):  # not there yet, or not whole
                self.address: str = json.loads(self._file.read_text())["address"]
                return
            assert time.monotonic() < end_s
            time.sleep(0.05)

    def start(self, kind: str, environment: dict[str, str], *options: str) -> None:
        self._start([str(DASK), kind, *self._options, *options], environment)

    def start_worker_at(self, address: str, environment: dict[str, str], *options: str) -> None:
        """A worker that reaches the scheduler by another address."""
        self._start([str(DASK), "worker", address, "--no-dashboard", *options], environment)

    def _start(self, words: list[str], environment: dict[str, str]) -> None:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._running.append(subprocess.Popen(words, env=environment, **quiet))

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
            process.wait()
