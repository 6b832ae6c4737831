"""What a user may ask of a run that goes on, asked of two real workers of a cluster: as of one process."""

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

import pytest

from fanout.emulator import EmulatorProcess
from tests.workers.dask_cluster import Cluster, outcomes_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
FANOUT = Path(sys.executable).with_name("fanout")
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}
FUNCTIONS = [
    "name=f,latency=100ms,concurrency=40,timeout=2s",
    "name=slow,latency=500ms,concurrency=40,timeout=2s",
    "name=bad,latency=100ms,error_rate=1",
]
CALL_USD = 2e-7 + 0.1 * 0.125 * 1.66667e-5


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    simulated = [word for function in FUNCTIONS for word in ("--simulate", function)]
    with EmulatorProcess(extra=[*simulated, "--count-by", "id"]) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    environment = {**os.environ, **KEYS, "AWS_ENDPOINT_URL_LAMBDA": emulator.endpoint_url}
    try:
        for _ in range(2):
            cluster.start("worker", environment, "--nthreads", "1", "--host", "127.0.0.1", "--no-nanny")
        yield cluster
    finally:
        cluster.close()


class Session:
    """Commands about one run directory."""

    def __init__(self, folder: Path, address: str, endpoint_url: str) -> None:
        self.folder = folder
        self.run_dir = folder / "r"
        self.address = address
        self.environment = {**os.environ, **KEYS, "AWS_ENDPOINT_URL_LAMBDA": endpoint_url}

    def write(self, count: int) -> Path:
        path = self.folder / "in.jsonl"
        path.write_text("".join(f'{{"id":"{self.folder.name}-{number}"}}\n' for number in range(count)))
        return path

    def start(self, *words: object, has_workers: bool = True) -> subprocess.Popen[str]:
        where = ["--scheduler", self.address] if has_workers else []
        command = [str(FANOUT), *map(str, words), *where, "--json"]
        with (self.folder / "err").open("a") as stderr:
            return subprocess.Popen(
                command,
                env=self.environment,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
        out, _ = process.communicate(timeout=90)
        return process.returncode, json.loads(out) if out else {}

    def run(self, *words: object, has_workers: bool = True) -> tuple[int, dict[str, Any]]:
        return self.end(self.start(*words, has_workers=has_workers))

    def tune(self, *words: object) -> dict[str, Any]:
        code, in_force = self.run("tune", self.run_dir, *words, has_workers=False)
        assert code == 0, (self.folder / "err").read_text()
        return in_force

    def outcomes(self) -> list[dict[str, Any]]:
        return outcomes_of(self.run_dir)

    def wait_for(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        wait_for(holds, self.folder / "err", seconds)

    def wait_for_outcomes(self, count: int) -> None:
        self.wait_for(lambda: len(self.outcomes()) >= count)


@pytest.fixture
def session(tmp_path: Path, cluster: Cluster, emulator: EmulatorProcess) -> Session:
    return Session(tmp_path, cluster.address, emulator.endpoint_url)


def _executions(emulator: EmulatorProcess, session: Session) -> Counter[str]:
    counts: dict[str, int] = emulator.stats()["executions_by_key"]
    mine = session.folder.name + "-"
    return Counter({key: count for key, count in counts.items() if key.startswith(mine)})


def _most_in_flight(emulator: EmulatorProcess) -> int:
    """Within the next second or so."""
    seen = []
    for _ in range(20):
        seen.append(int(emulator.stats()["in_flight"]))
        time.sleep(0.05)
    return max(seen)


def _both_worked(summary: dict[str, Any]) -> bool:
    return len(summary["workers"]) == 2 and all(each["records"] for each in summary["workers"])


def test_concurrency_is_tuned(session: Session, emulator: EmulatorProcess) -> None:
    """Down to 6 within a second, as the server counts, and up again."""
    process = session.start("run", "slow", session.write(1500), "--out", session.run_dir)
    session.wait_for_outcomes(200)
    session.tune("-j", 6)
    time.sleep(1.0)
    assert 3 <= _most_in_flight(emulator) <= 6
    session.tune("-j", 30)
    time.sleep(2.0)
    assert 20 <= _most_in_flight(emulator) <= 30
    code, summary = session.end(process)
    assert code == 0
    assert summary["counts"]["succeeded"] == 1500
    assert _both_worked(summary)
    assert set(_executions(emulator, session).values()) == {1}


def test_a_pause_stops_every_worker(session: Session, emulator: EmulatorProcess) -> None:
    """No execution begins while it lasts; then all go on."""
    process = session.start("run", "slow", session.write(800), "--out", session.run_dir)
    session.wait_for_outcomes(100)
    session.tune("--pause")
    time.sleep(1.0)
    before = len(_executions(emulator, session))
    time.sleep(1.5)
    assert len(_executions(emulator, session)) == before
    assert before < 800
    session.tune("--continue")
    code, summary = session.end(process)
    assert (code, summary["counts"]["succeeded"]) == (0, 800)


def test_a_deadline_is_tuned(session: Session, emulator: EmulatorProcess) -> None:
    """Exit 5; nothing is left unknown, and a resume sends each of the rest once."""
    process = session.start("run", "slow", session.write(1200), "--out", session.run_dir)
    session.wait_for_outcomes(100)
    session.tune("--deadline", "1s")
    code, summary = session.end(process)
    assert code == 5
    done = summary["counts"].get("succeeded", 0)
    assert summary["counts"]["succeeded"] == sum(summary["counts"].values())
    assert 100 <= done < 1200
    assert len(_executions(emulator, session)) == done
    code, summary = session.run("resume", session.run_dir, "--deadline", "5m")
    assert (code, summary["counts"]["succeeded"]) == (0, 1200)
    assert set(_executions(emulator, session).values()) == {1}
    assert _both_worked(summary)


def test_thresholds(session: Session) -> None:
    """Told at the end with exit 3; or the run stops at once, all workers with it."""
    source = session.write(400)
    code, summary = session.run("run", "f", source, "--out", session.run_dir, "--threshold", "p95<50ms")
    assert (code, summary["counts"]["succeeded"]) == (3, 400)
    again = session.folder / "abort"
    abort = ["--threshold", "p95<50ms", "--threshold-abort"]
    code, summary = session.run("run", "f", source, "--out", again, *abort)
    assert code == 3
    assert 100 <= sum(summary["counts"].values()) < 400


@pytest.mark.parametrize("has_workers", [True, False])
def test_failures_stop_all(session: Session, has_workers: bool) -> None:
    """Beyond what is in flight, at most 0.4 s of the rate: windows, and what no report had told yet."""
    words = ["run", "bad", session.write(2000), "--out", session.run_dir, "-j", 40]
    code, summary = session.run(*words, "--tolerated-failure-count", 50, has_workers=has_workers)
    assert code == 3
    assert 50 < summary["counts"]["function_error"] <= 50 + 40 + 0.4 * 400


@pytest.mark.parametrize("has_workers", [True, False])
def test_enough_is_no_more_than_in_flight(
    session: Session, emulator: EmulatorProcess, has_workers: bool
) -> None:
    """As on one process: what runs when the last one of them succeeds ends too."""
    words = ["run", "f", session.write(1500), "--out", session.run_dir, "--enough", 400]
    code, summary = session.run(*words, has_workers=has_workers)
    assert code == 0
    assert 400 <= summary["counts"]["succeeded"] <= 400 + 40
    assert len(_executions(emulator, session)) == summary["counts"]["succeeded"]


@pytest.mark.parametrize("has_workers", [True, False])
def test_the_spending_cap_holds(session: Session, emulator: EmulatorProcess, has_workers: bool) -> None:
    """No more calls than it pays; the resume with more goes on."""
    cap = ["--max-cost", f"{300 * CALL_USD:.9f}"]
    words = ["run", "f", session.write(1000), "--out", session.run_dir, *cap]
    code, summary = session.run(*words, has_workers=has_workers)
    assert code == 5
    assert 200 <= len(_executions(emulator, session)) <= 300
    assert sum(summary["counts"].values()) == len(_executions(emulator, session))
    code, summary = session.run("resume", session.run_dir, "--max-cost", 1, has_workers=has_workers)
    assert (code, summary["counts"]["succeeded"]) == (0, 1000)
    assert set(_executions(emulator, session).values()) == {1}


def test_a_signal_drains_every_worker(session: Session, emulator: EmulatorProcess) -> None:
    """Of a cluster too; nothing is unknown, and the workers are free for the resume at once."""
    process = session.start("run", "slow", session.write(800), "--out", session.run_dir)
    session.wait_for_outcomes(100)
    process.send_signal(signal.SIGTERM)
    code, summary = session.end(process)
    assert code == 143
    assert summary["counts"]["succeeded"] == sum(summary["counts"].values())
    assert len(_executions(emulator, session)) == summary["counts"]["succeeded"]
    code, summary = session.run("resume", session.run_dir)
    assert (code, summary["counts"]["succeeded"]) == (0, 800)
    assert set(_executions(emulator, session).values()) == {1}
    assert _both_worked(summary)


def test_a_redrive_sends_the_failures_again(session: Session, emulator: EmulatorProcess) -> None:
    """By both workers, from the journal; the input is gone."""
    source = session.write(300)
    code, summary = session.run("run", "bad", source, "--out", session.run_dir)
    assert (code, summary["counts"]["function_error"]) == (1, 300)
    source.unlink()
    code, summary = session.run("redrive", session.run_dir)
    assert (code, summary["counts"]["function_error"]) == (1, 300)
    assert set(_executions(emulator, session).values()) == {2}
    assert _both_worked(summary)


def test_throttles_on_one_worker_cut_for_all(tmp_path: Path, emulator: EmulatorProcess) -> None:
    """One worker's Lambda takes five at once, the other's forty: no record fails, and none starves."""
    small = "name=f,latency=100ms,concurrency=5,timeout=2s"
    with EmulatorProcess(extra=["--simulate", small, "--count-by", "id"]) as other:
        cluster = Cluster(tmp_path)
        try:
            for endpoint_url in (emulator.endpoint_url, other.endpoint_url):
                environment = {**os.environ, **KEYS, "AWS_ENDPOINT_URL_LAMBDA": endpoint_url}
                cluster.start("worker", environment, "--nthreads", "1", "--host", "127.0.0.1", "--no-nanny")
            session = Session(tmp_path, cluster.address, emulator.endpoint_url)
            code, summary = session.run("run", "f", session.write(1200), "--out", session.run_dir, "-j", 40)
            assert (code, summary["counts"]["succeeded"]) == (0, 1200)
            assert _both_worked(summary)
            throttles = sum(each["throttles"] for each in session.outcomes())
            assert 0 < throttles < 1200
            assert other.stats()["max_in_flight"] <= 5
        finally:
            cluster.close()
