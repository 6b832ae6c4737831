"""The connection of a worker to the scheduler, slow, standing still or cut: by way of a proxy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fanout.emulator import EmulatorProcess
from tests.workers.dask_cluster import Cluster, outcomes_of, wait_for
from tests.workers.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
FANOUT = Path(sys.executable).with_name("fanout")
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}
CONCURRENCY = 30
RECORDS = 2500


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    """A function of 120 ms that takes more at once than the run may have in flight."""
    function = "name=f,latency=120ms,concurrency=1000,timeout=2s"
    with EmulatorProcess(extra=["--simulate", function, "--count-by", "id"]) as running:
        yield running


class Spread:
    """A run over two workers: one at the scheduler, the other by way of a proxy."""

    def __init__(self, folder: Path, emulator: EmulatorProcess) -> None:
        self.folder, self.emulator = folder, emulator
        self.environment = {**os.environ, **KEYS, "AWS_ENDPOINT_URL_LAMBDA": emulator.endpoint_url}
        self.cluster = Cluster(folder)
        self.address = self.cluster.address
        port = urlsplit(self.address).port
        assert port is not None
        with socket.create_server(("127.0.0.1", 0)) as free:
            far_port = free.getsockname()[1]
        self.link = [Proxy(port), Proxy(far_port)]  # from the far worker to the scheduler, and back
        own = ["--nthreads", "1", "--no-nanny"]
        self.cluster.start("worker", self.environment, *own, "--host", "127.0.0.1")
        to, back = (f"tcp://127.0.0.1:{proxy.port}" for proxy in self.link)
        listen = ["--listen-address", f"tcp://127.0.0.1:{far_port}", "--contact-address", back]
        self.cluster.start_worker_at(to, self.environment, *own, *listen)
        self.front = Proxy(port)  # from the command to the scheduler
        self.run_dir = folder / "r"
        source = folder / "in.jsonl"
        source.write_text("".join(f'{{"id":{number}}}\n' for number in range(RECORDS)))
        self._source = source
        self.errors = folder / "err"

    def start(self, *words: object) -> subprocess.Popen[str]:
        command = [str(FANOUT), *map(str, words), "--scheduler", self.address, "--json"]
        with self.errors.open("a") as stderr:
            return subprocess.Popen(
                command,
                env=self.environment,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def begin(self, *words: object) -> subprocess.Popen[str]:
        """Start the run, and wait until both work."""
        self.wait_for(lambda: self.link[0].connections > 0)
        time.sleep(1.5)
        run = self.start(
            "run", "f", self._source, "--out", self.run_dir, "-j", CONCURRENCY,
            "--function-timeout", "2s", *words,
        )  # fmt: skip
        self.wait_for(lambda: len(self.outcomes()) > 300)
        return run

    def end(self, process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
        out, _ = process.communicate(timeout=120)
        return process.returncode, json.loads(out)

    def outcomes(self) -> list[dict[str, Any]]:
        return outcomes_of(self.run_dir)

    def wait_for(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        wait_for(holds, self.errors, seconds)

    def check(self) -> Counter[str]:
        """One outcome each; no record ran twice; never more at once than the budget; no traceback."""
        outcomes, stats = self.outcomes(), self.emulator.stats()
        assert sorted(each["seq"] for each in outcomes) == list(range(RECORDS))
        assert stats["max_in_flight"] <= CONCURRENCY
        executions = {int(key): count for key, count in stats["executions_by_key"].items()}
        assert max(executions.values()) == 1
        assert all(executions[each["seq"]] == 1 for each in outcomes if each["status"] == "succeeded")
        assert "Traceback" not in self.errors.read_text()
        return Counter(each["status"] for each in outcomes)

    def close(self) -> None:
        for proxy in (*self.link, self.front):
            proxy.close()
        self.cluster.close()


@pytest.fixture
def spread(tmp_path: Path, emulator: EmulatorProcess) -> Iterator[Spread]:
    spread = Spread(tmp_path, emulator)
    try:
        yield spread
    finally:
        spread.close()


def test_a_slow_connection(spread: Spread) -> None:
    """A quarter of a second on the way of each message: both work on, and all succeed."""
    run = spread.begin()
    for proxy in spread.link:
        proxy.delay_s = 0.25
    code, summary = spread.end(run)
    assert (code, spread.check()) == (0, {"succeeded": RECORDS})
    assert len(summary["workers"]) == 2
    assert all(each["records"] > 100 for each in summary["workers"])


@pytest.mark.parametrize("seconds", [4.0, 40.0])
def test_a_connection_that_stands_still(spread: Spread, seconds: float) -> None:
    """Past the lease: the worker starts nothing. Past what is waited for it: it counts as lost."""
    run = spread.begin()
    for proxy in spread.link:
        proxy.flows.clear()
        threading.Timer(seconds, proxy.flows.set).start()
    code, summary = spread.end(run)
    counts = spread.check()
    assert counts["succeeded"] + counts["unknown"] == RECORDS
    assert code == (1 if counts["unknown"] else 0)
    assert counts["unknown"] == sum(each["lost_records"] for each in summary["workers"])
    assert counts["unknown"] < 200


def test_a_connection_that_is_cut(spread: Spread) -> None:
    """The worker is lost with its window; the other ends the run."""
    run = spread.begin()
    for proxy in spread.link:
        proxy.cut()
    code, summary = spread.end(run)
    counts = spread.check()
    assert counts["succeeded"] + counts["unknown"] == RECORDS
    assert code == (1 if counts["unknown"] else 0)
    assert counts["unknown"] < 200
    assert sum(each["records"] for each in summary["workers"]) == RECORDS


def test_the_command_is_cut_off_from_the_scheduler(spread: Spread) -> None:
    """All workers are lost at once: exit 5, and a resume sends nothing again that may have run."""
    reached, spread.address = spread.address, f"tcp://127.0.0.1:{spread.front.port}"
    run = spread.begin()
    spread.front.close()
    code, summary = spread.end(run)
    assert (code, summary["halted_by"]) == (5, "workers")
    spread.address = reached
    code, _ = spread.end(spread.start("resume", spread.run_dir, "--may-have-run", "skip"))
    counts = spread.check()
    assert code == 1
    assert counts["succeeded"] + counts["unknown"] == RECORDS
    assert counts["unknown"] < 400
