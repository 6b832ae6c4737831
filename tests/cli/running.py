"""The installed command as a subprocess, against an emulator of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.forks import run_command

FANOUT = Path(sys.executable).with_name("fanout")
HANDLER = """
import os, time


def handler(event, context):
    if isinstance(event, dict) and event.get("fail"):
        raise ValueError(f"bad record {event['n']}")
    if isinstance(event, dict) and event.get("sleep_s"):
        time.sleep(event["sleep_s"])
    return {"got": event}
"""


def environment(**more: str) -> dict[str, str]:
    """No AWS settings but dummy credentials and a Region."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **clean,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        **more,
    }


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def assert_one_line(self, code: int, *parts: str) -> None:
        """A refusal: this exit code, nothing on stdout, one line on stderr that has these parts."""
        assert (self.code, self.out) == (code, ""), self
        assert "Traceback" not in self.err
        assert self.err.startswith("fanout: ")
        assert self.err.count("\n") == 1, self.err
        for part in parts:
            assert part in self.err


class Shell:
    """Runs ``fanout`` in a directory; ``endpoint`` is added to what makes calls."""

    def __init__(self, directory: Path, emulator: EmulatorProcess | None = None) -> None:
        self.directory = directory
        self.emulator = emulator
        self.environment = environment()
        if emulator is not None:
            self.environment["AWS_ENDPOINT_URL_LAMBDA"] = emulator.endpoint_url

    def run(
        self, *words: str | Path, stdin: bytes | None = None, timeout_s: float = 100, **more: str
    ) -> Ended:
        """Run to the end."""
        done = run_command(
            *words,
            cwd=self.directory,
            env={**self.environment, **more},
            stdin=b"" if stdin is None else stdin,
            timeout_s=timeout_s,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *words: str | Path, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start in a process group of its own."""
        return subprocess.Popen(
            [FANOUT, *words],
            cwd=self.directory,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def write(self, name: str, records: int, /, **members: Any) -> Path:
        """An input of so many records, ``{"n": 0}`` and so on."""
        path = self.directory / name
        path.write_text(
            "".join(json.dumps({"n": n, **members}, ensure_ascii=False) + "\n" for n in range(records))
        )
        return path

    def outcomes(self, run_dir: str = "run") -> list[dict[str, Any]]:
        """Every line of the journal."""
        return [
            json.loads(line)
            for line in (self.directory / run_dir / "outcomes.jsonl").read_bytes().splitlines()
        ]

    def state(self, run_dir: str = "run") -> dict[str, Any]:
        """run.json."""
        state: dict[str, Any] = json.loads((self.directory / run_dir / "run.json").read_text())
        return state

    def wait_for_outcomes(self, at_least: int, run_dir: str = "run") -> None:
        """Until the journal has so many lines."""
        path = self.directory / run_dir / "outcomes.jsonl"
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= at_least)

    def executions(self) -> dict[str, int]:
        """How often each record was run, by the emulator's own count."""
        assert self.emulator is not None
        by_key: dict[str, int] = self.emulator.stats()["executions_by_key"]
        return by_key


def wait_until(is_true: Callable[[], bool], within_s: float = 100) -> None:
    """Look again and again."""
    give_up_at_s = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < give_up_at_s, "it never came"
        time.sleep(0.01)


def end(process: subprocess.Popen[bytes], within_s: float = 100) -> Ended:
    """Wait for it, and read what it wrote."""
    out, err = process.communicate(timeout=within_s)
    return Ended(process.returncode, out.decode(), err.decode())


@contextmanager
def interrupted(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process if the test fails."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[EmulatorProcess]:
    """Simulated functions of every temper; executions are counted by the member ``n``."""
    simulate = [
        "name=fast,latency=1ms",
        "name=steady,latency=50ms,concurrency=20",
        "name=slow,latency=1s",
        "name=errors,latency=1ms,error_rate=1,error_type=Boom,error_message=went off",
        "name=sometimes,latency=1ms,error_rate=0.3,error_type=Boom",
        "name=shy,latency=1ms,status_503_rate=1",
        "name=mixed,latency=5ms,error_rate=0.2,status_503_rate=0.2",
        "name=off,latency=1ms,concurrency=0",
    ]
    with EmulatorProcess(
        simulate=simulate, extra=["--count-by", "n", "--account-concurrency", "950"]
    ) as emulator:
        yield emulator


@pytest.fixture
def shell(tmp_path: Path, shared_emulator: EmulatorProcess) -> Shell:
    """A directory, the shared emulator behind it, and counts at nothing."""
    shared_emulator.reset()
    return Shell(tmp_path, shared_emulator)
