"""Runs with workers, broken off again and again by SIGKILL of workers and of the coordinator.

    python -m benchmarks.crash_workers --rounds 100

Every other round reads JSON Lines, the others Parquet, whose rows the workers read for themselves.

Each round is one run of its own records over workers of its own (``--workers 2``) or of a Dask cluster that
goes on from round to round (``--scheduler``), resumed until it is finished. Workers and the coordinator are
killed at random moments, also while they start. Then every record must have one outcome; every success must
have been executed, and once, unless the round has an idempotent function; what was executed more often, or is
unknown, must be no more than the windows and the calls in flight of what was killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.crash_tally import Wrong, check, settled_counts
from fanout.emulator import EmulatorProcess

CONCURRENCY = 30
RECORDS = 400
TIMEOUT_S = 1.0
LEASE_S = 1.0
MOST_KILLS = 4
# What one worker may have out: permits, and a window of 0.2 s of its rate, which may be twice that at first.
MOST_OUT = CONCURRENCY + 2 * 60
FANOUT = Path(sys.executable).with_name("fanout")
DASK = Path(sys.executable).with_name("dask")


class Cluster:
    """A scheduler and two workers whose nannies replace them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        file = folder / "scheduler.json"
        place = ["--host", "127.0.0.1", "--scheduler-file", str(file), "--no-dashboard"]
        self.processes = [
            subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for words in (
                [DASK, "scheduler", *place, "--port", "0"],
                [DASK, "worker", *place, "--nworkers", "2", "--nthreads", "1"],
            )
        ]
        end_s = time.monotonic() + 60
        while not file.exists() or len(self.workers()) < 2:
            check(time.monotonic() < end_s, "the cluster starts")
            time.sleep(0.1)
        self.address = str(json.loads(file.read_text())["address"])

    def workers(self) -> list[int]:
        return children_of(self.processes[1].pid)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait()


class Round:
    """One run, broken off up to four times, and resumed."""

    def __init__(self, number: int, folder: Path, emulator: EmulatorProcess, cluster: Cluster) -> None:
        self.rng = random.Random(number)
        self.number = number
        self.emulator = emulator
        self.cluster = cluster if self.rng.random() < 0.6 else None
        self.is_idempotent = self.rng.random() < 0.5
        self.input = folder / f"{number}.{'parquet' if number % 2 else 'jsonl'}"
        names = [f"{number}-{each}" for each in range(RECORDS)]
        if number % 2:  # read by the workers themselves
            pq.write_table(pa.table({"id": names}), self.input, row_group_size=50)
        else:
            self.input.write_text("".join(f'{{"id":"{name}"}}\n' for name in names))
        self.run_dir = folder / f"run-{number}"
        self.killed: Counter[str] = Counter()

    def go(self) -> Counter[str]:
        process = self.start("run", "f", self.input, "--out", self.run_dir)
        while True:
            if sum(self.killed.values()) < MOST_KILLS and not self.has_ended_before_a_kill(process):
                process = self.kill_something(process)
                continue
            check(ended_within(process, 60), "the run ends")
            state = self.state()
            if state.get("state") == "finished":
                break
            check(process.returncode != 0, f"a run that is {state.get('state')} does not exit 0")
            process = self.resume()
        self.check_end()
        return self.killed

    def has_ended_before_a_kill(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the moment of the next kill: now and then while it starts, mostly while it works."""
        if self.rng.random() < 0.3:
            return ended_within(process, self.rng.uniform(0.1, 4.0))
        before, end_s = self.journaled_bytes(), time.monotonic() + 30
        while self.journaled_bytes() == before and time.monotonic() < end_s:
            if ended_within(process, 0.02):
                return True
        return ended_within(process, self.rng.uniform(0.0, 1.2))

    def journaled_bytes(self) -> int:
        with suppress(OSError):
            return (self.run_dir / "outcomes.jsonl").stat().st_size
        return 0

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        workers = ["--workers", "2"] if self.cluster is None else ["--scheduler", self.cluster.address]
        command = [str(FANOUT), *map(str, words), *workers, "--quiet"]
        if words[0] == "run" and self.is_idempotent:
            command.append("--idempotent")
        return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)

    def resume(self) -> subprocess.Popen[bytes]:
        if self.state().get("state") is None:  # nothing was begun
            return self.start("run", "f", self.input, "--out", self.run_dir)
        return self.start("resume", self.run_dir, "--may-have-run", "send" if self.is_idempotent else "skip")

    def kill_something(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        workers = children_of(process.pid) if self.cluster is None else self.cluster.workers()
        if workers and self.rng.random() < 0.6:
            for worker in workers if self.rng.random() < 0.2 else [self.rng.choice(workers)]:
                self.killed["worker"] += 1
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            return process
        self.killed["coordinator"] += 1
        process.kill()
        process.wait()
        time.sleep(TIMEOUT_S + LEASE_S + 0.2)  # what was in flight must not count against the next session
        return self.resume()

    def state(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.run_dir / "run.json").read_text())
            return found
        return {}

    def check_end(self) -> None:
        lines = (self.run_dir / "outcomes.jsonl").read_bytes().split(b"\n")
        check(lines.pop() == b"", "the journal ends with a whole line")
        outcomes = [json.loads(line) for line in lines]
        check(sorted(each["seq"] for each in outcomes) == list(range(RECORDS)), "one outcome for each record")
        counts = settled_counts(self.emulator)
        executions = {each: counts.get(f"{self.number}-{each}", 0) for each in range(RECORDS)}
        for outcome in outcomes:
            count = executions[outcome["seq"]]
            if outcome["status"] == "succeeded":
                check(count >= 1, f"record {outcome['seq']} succeeded and was executed")
            else:
                check(outcome["status"] == "unknown", f"no status {outcome['status']}")
                check(not self.is_idempotent, "an idempotent function leaves nothing unknown")
        most_out = (self.killed["worker"] + 2 * self.killed["coordinator"]) * MOST_OUT
        unknown = sum(outcome["status"] == "unknown" for outcome in outcomes)
        repeated = sum(count > 1 for count in executions.values())
        check(unknown <= most_out, f"{unknown} unknown of at most {most_out}")
        check(repeated <= (most_out if self.is_idempotent else 0), f"{repeated} executed more than once")
        self.killed.update(unknown=unknown, repeated=repeated)


def children_of(pid: int) -> list[int]:
    """Worker processes that this one has started."""
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four rounds, unless said")
    parser.add_argument("--rounds", type=int, default=None, help="default: 100, quick: 4")
    parser.add_argument("--first", type=int, default=0, help="the number of the first round, which seeds it")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further round after so long")
    chosen = parser.parse_args()
    rounds = chosen.rounds or (4 if chosen.quick else 100)
    total: Counter[str] = Counter()
    began_s = time.monotonic()
    simulate = f"name=f,latency=120ms,concurrency={CONCURRENCY},timeout={TIMEOUT_S:g}s"
    with (
        tempfile.TemporaryDirectory() as folder,
        EmulatorProcess(extra=["--simulate", simulate, "--count-by", "id"]) as emulator,
    ):
        os.environ.update(AWS_ENDPOINT_URL_LAMBDA=emulator.endpoint_url, AWS_REGION="us-east-1")
        os.environ.update(AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local")
        cluster = Cluster(Path(folder), dict(os.environ))
        try:
            for number in range(chosen.first, chosen.first + rounds):
                if time.monotonic() - began_s > chosen.seconds:
                    break
                try:
                    total.update(Round(number, Path(folder), emulator, cluster).go())
                except Wrong as error:
                    raise SystemExit(f"round {number}: {error}") from None
                total["rounds"] += 1
                print(f"round {number}: {dict(total)}", flush=True)
            stats = emulator.stats()
            check(stats["max_in_flight"] <= CONCURRENCY, f"at most {stats['max_in_flight']} in flight")
        finally:
            cluster.close()
    print(f"{dict(total)}, at most {stats['max_in_flight']} of {CONCURRENCY} calls in flight at the server")


if __name__ == "__main__":
    main()
