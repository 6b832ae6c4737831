"""Real schedulers, real worker processes, and what happens when some of them end or stand still."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from fanout.emulator import EmulatorProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
CONCURRENCY = 40
RECORDS = 2000
FANOUT = Path(sys.executable).with_name("fanout")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    """A function of 120 ms that counts executions by record."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with EmulatorProcess(
        extra=["--simulate", f"name=f,latency=120ms,concurrency={CONCURRENCY},timeout=2s", "--count-by", "id"]
    ) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", running.endpoint_url)
        yield running


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """The input."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id":{number}}}\n' for number in range(RECORDS)))
    return path


def _begin(tmp_path: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [str(FANOUT), *map(str, arguments), "--quiet"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, start_new_session=True)


def _wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def _outcomes(run_dir: Path) -> list[dict[str, Any]]:
    try:
        lines = (run_dir / "outcomes.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def _workers_of(process: subprocess.Popen[str]) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True, check=True
    )
    return [int(line) for line in found.stdout.split()]


def _stats(emulator: EmulatorProcess) -> dict[str, Any]:
    with urlopen(f"{emulator.endpoint_url}/_fanout/stats") as reply:
        stats: dict[str, Any] = json.load(reply)
    return stats


def _check(run_dir: Path, emulator: EmulatorProcess) -> Counter[str]:
    """One outcome each, every success executed exactly once, and never more at once than allowed."""
    outcomes = _outcomes(run_dir)
    assert sorted(outcome["seq"] for outcome in outcomes) == list(range(RECORDS))
    stats = _stats(emulator)
    assert stats["max_in_flight"] <= CONCURRENCY
    executions = {int(key): count for key, count in stats["executions_by_key"].items()}
    for outcome in outcomes:
        if outcome["status"] == "succeeded":
            assert executions[outcome["seq"]] == 1
    assert max(executions.values()) == 1
    return Counter(outcome["status"] for outcome in outcomes)


def test_two_workers_share_one_budget(tmp_path: Path, records: Path, emulator: EmulatorProcess) -> None:
    """The server sees no more at once than one process would send, and all of it."""
    run_dir = tmp_path / "r"
    assert _begin(tmp_path, "run", "f", records, "--out", run_dir, "--workers", 2).wait() == 0
    assert _check(run_dir, emulator) == {"succeeded": RECORDS}
    assert _stats(emulator)["max_in_flight"] > CONCURRENCY * 0.75
    began = [
        line for line in (run_dir / "timeline.jsonl").read_text().splitlines() if '"begins":true' in line
    ]
    assert len(began) == 2  # once more when the workers are ready: their start is no running time


def test_a_killed_worker_costs_its_window(tmp_path: Path, records: Path, emulator: EmulatorProcess) -> None:
    """What it may have sent is unknown; everything else goes on, under the same budget."""
    run_dir = tmp_path / "r"
    process = _begin(tmp_path, "run", "f", records, "--out", run_dir, "--workers", 2)
    _wait_until(lambda: len(_outcomes(run_dir)) > 300)
    os.kill(_workers_of(process)[0], signal.SIGKILL)
    assert process.wait() == 1
    counts = _check(run_dir, emulator)
    assert counts["succeeded"] + counts["unknown"] == RECORDS
    assert 0 < counts["unknown"] < 400


def test_a_stopped_worker_starts_nothing_after_its_lease(
    tmp_path: Path, records: Path, emulator: EmulatorProcess
) -> None:
    """SIGSTOP past the lease and the function's timeout, then SIGCONT: its share went to others meanwhile."""
    run_dir = tmp_path / "r"
    process = _begin(tmp_path, "run", "f", records, "--out", run_dir, "--workers", 2)
    _wait_until(lambda: len(_outcomes(run_dir)) > 300)
    stopped = _workers_of(process)[0]
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(4)
    os.kill(stopped, signal.SIGCONT)
    assert process.wait() in (0, 1)
    counts = _check(run_dir, emulator)
    assert counts["succeeded"] + counts["unknown"] == RECORDS


def test_a_killed_coordinator_is_resumed(tmp_path: Path, records: Path, emulator: EmulatorProcess) -> None:
    """Its workers end; a resume inherits --workers, and sends nothing again that may have run."""
    run_dir = tmp_path / "r"
    process = _begin(tmp_path, "run", "f", records, "--out", run_dir, "--workers", 2)
    _wait_until(lambda: len(_outcomes(run_dir)) > 300)
    process.kill()
    process.wait()
    time.sleep(2.5)
    assert _begin(tmp_path, "resume", run_dir, "--may-have-run", "skip").wait() == 1
    counts = _check(run_dir, emulator)
    assert counts["succeeded"] + counts["unknown"] == RECORDS
    assert json.loads((run_dir / "run.json").read_text())["format"] == 2


def test_ctrl_c_drains_every_worker(tmp_path: Path, records: Path, emulator: EmulatorProcess) -> None:
    """A terminal sends it to every process of the group: the workers leave it to the coordinator."""
    run_dir = tmp_path / "r"
    process = _begin(tmp_path, "run", "f", records, "--out", run_dir, "--workers", 2)
    _wait_until(lambda: len(_outcomes(run_dir)) > 300)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert {outcome["status"] for outcome in _outcomes(run_dir)} == {"succeeded"}
    assert _begin(tmp_path, "resume", run_dir, "--workers", 0).wait() == 0
    assert _check(run_dir, emulator) == {"succeeded": RECORDS}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_a_closed_terminal_leaves_the_tracker_of_resources() -> None:
    """Python's own process ignores SIGINT and SIGTERM alone; where SIGHUP ended it, it left tracebacks."""
    code = (
        "from multiprocessing import resource_tracker\n"
        "from fanout.workers.dask_crew import _signals_kept_from_children\n"
        "with _signals_kept_from_children():\n"
        "    print(resource_tracker._resource_tracker._pid)\n"
        "    input()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        status = Path(f"/proc/{int(process.stdout.readline())}/status").read_text()
        process.communicate("\n")
    blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
    assert blocked & 1 << (signal.SIGHUP - 1)


def test_a_scheduler_and_two_workers(tmp_path: Path, records: Path, emulator: EmulatorProcess) -> None:
    """A cluster that is there already, by its address."""
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(address)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *common], **quiet)]
    try:
        _wait_until(address.exists)
        worker = [*dask, "worker", "--nthreads", "1", "--no-dashboard", *common]
        running.extend(subprocess.Popen(worker, **quiet) for _ in range(2))
        where = json.loads(address.read_text())["address"]
        run_dir = tmp_path / "r"
        time.sleep(4)
        assert _begin(tmp_path, "run", "f", records, "--out", run_dir, "--scheduler", where).wait() == 0
        assert _check(run_dir, emulator) == {"succeeded": RECORDS}
        assert "scheduler" not in json.loads((run_dir / "run.json").read_text())["options"]
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()
