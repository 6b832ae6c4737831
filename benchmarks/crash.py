"""Is anything lost? Kill runs at random moments, resume them, and compare with what the function counted.

    python -m benchmarks.crash --rounds 200

The emulator, which is never killed, counts the executions of each record. A round is one run of 5,000
records, broken off and resumed until it is finished, in one of these ways:

* ``kill``: SIGKILL of the whole process group.
* ``term``: SIGTERM, which drains; in half of the rounds a second one, which cuts off.
* ``disk``: the disk fills up (a small tmpfs where there is root, else a limit on the file's size).
* ``verbs``: plan, run, resume and redrive, each killed at any moment, also with batches; 600 records.
* ``queue``: run and resume over a queue, likewise.

Half of the rounds go on with ``--may-have-run send`` (at least once), half with ``skip`` (at most once).
After every break and at the end the round is checked; the first wrong figure ends the benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from itertools import product
from math import inf
from pathlib import Path

from tests.queues.queue_process import QueueProcess

from benchmarks.crash_tally import COUNT_BY, ENVIRONMENT, Tally, Wrong, check, settled_counts
from benchmarks.crash_verbs import SIMULATE, VerbsRound
from fanout.emulator import EmulatorProcess
from fanout.journal import iter_lines, replay

CONCURRENCY = 50
LATENCY_MS = 20
FLUSH_S = 0.05  # the longest an outcome may wait for its line
LINE_BYTES = 300  # of the journal, about
DISK_BYTES = 1_200_000  # of it 1 MiB is the journal's reserve
FILE_BYTES = 150_000
VERB_RECORDS = 600
KINDS = ["kill", "term", "disk", "verbs", "queue"]


class Round:
    """One run of the command, broken off and resumed until it is finished."""

    def __init__(
        self,
        emulator: EmulatorProcess,
        folder: Path,
        records: int,
        tally: Tally,
        *,
        kind: str,
        transport: str,
        resends: bool,
        seed: int,
    ) -> None:
        self.emulator = emulator
        self.folder = folder
        self.run_dir = folder / "disk" / "run" if kind == "disk" else folder / "run"
        self.records = records
        self.tally = tally
        self.kind = kind
        self.transport = transport
        self.resends = resends
        self.random = random.Random(seed)
        self.allowed_repeats = 0
        self.breaks = 0

    def go(self) -> None:
        self.emulator.reset()
        shutil.rmtree(self.run_dir, ignore_errors=True)
        is_mounted = self.kind == "disk" and mount(self.folder / "disk")
        try:
            limit = None if self.kind != "disk" or is_mounted else FILE_BYTES
            code = self.start(limit)
            while code not in (0, 1):
                self.breaks += 1
                check(self.breaks < 100, "a run that is never finished")
                self.check_break(code)
                if is_mounted:
                    subprocess.run(["mount", "-o", "remount,size=64m", str(self.folder / "disk")], check=True)
                code = self.start(None)
            self.check_end()
        finally:
            if is_mounted:
                subprocess.run(["umount", "-l", str(self.folder / "disk")], check=True)

    def start(self, limit: int | None) -> int:
        """Run or resume, break it off or not; returns the exit code, negative for a signal."""
        command = [sys.executable, "-m", "fanout"]
        if (self.run_dir / "run.json").exists():
            command += ["resume", str(self.run_dir), "--may-have-run", "send" if self.resends else "skip"]
        else:
            shutil.rmtree(self.run_dir, ignore_errors=True)  # killed before it had begun
            check(not self.executions(), "calls before there was a run directory")
            command += ["run", "crash", str(self.folder / "input.jsonl"), "--out", str(self.run_dir)]
            command += ["-j", str(CONCURRENCY), "--transport", self.transport, "--no-report"]
            command += ["--endpoint-url", self.emulator.endpoint_url]
        with (self.folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "--quiet"],
                env=ENVIRONMENT,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                # This program has no threads that a function run before exec could trip over.
                preexec_fn=None if limit is None else partial(limit_files, limit),  # noqa: PLW1509
            )
            try:
                if self.kind != "disk":
                    self.break_off(process)
                code = process.wait(timeout=120)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        self.tally.exit_codes[code] += 1
        words = (self.folder / "stderr").read_text(errors="replace")
        check("Traceback" not in words, f"a traceback:\n{words}")
        check(code in self.expected_codes(), f"exit code {code}: {words}")
        return code

    def expected_codes(self) -> set[int]:
        if self.kind == "kill":
            return {0, 1, -signal.SIGKILL}
        if self.kind == "term":
            return {0, 1, 143, -signal.SIGTERM}  # the last: before the command could listen
        return {0, 1, 5}

    def break_off(self, process: subprocess.Popen[bytes]) -> None:
        """Send the signal, at any moment from start-up to the last line, or never if the run is quicker."""
        if self.random.random() < 0.25:
            if wait_for(process, self.random.uniform(0.05, 1.5)):
                return
        elif self.has_ended_before(process, self.random.uniform(0, 1.3)):
            return
        os.killpg(process.pid, signal.SIGKILL if self.kind == "kill" else signal.SIGTERM)
        is_cut_off = self.kind == "term" and self.random.random() < 0.5
        if is_cut_off and not wait_for(process, self.random.uniform(0, 1.5 * LATENCY_MS / 1000)):
            os.killpg(process.pid, signal.SIGTERM)

    def has_ended_before(self, process: subprocess.Popen[bytes], share: float) -> bool:
        """Wait until this share of the outcomes that are missing is there, and a moment more."""
        size = size_of(self.run_dir / "outcomes.jsonl")
        if size > 0.98 * self.records * LINE_BYTES:
            return wait_for(process, 60)  # nothing is missing, or hardly anything
        wanted = size + share * (self.records * LINE_BYTES - size)
        while size_of(self.run_dir / "outcomes.jsonl") < wanted:
            if wait_for(process, 0.005):
                return True
        return wait_for(process, self.random.uniform(0, 2 * FLUSH_S))

    def executions(self) -> dict[str, int]:
        """How often each record ran, once the calls of a process that is gone have ended."""
        return settled_counts(self.emulator)

    def check_break(self, code: int) -> None:
        """What ran has a line or is known as what may have run; the rest are few."""
        self.tally.breaks += 1
        if not (self.run_dir / "run.json").exists():
            return
        known = replay(self.run_dir)
        executed = {int(key) for key in self.executions()}
        unjournaled = {seq for seq in executed if seq not in known.finished}
        for seq in unjournaled:
            check(known.may_have_run(seq), f"record {seq} ran, and is taken for one that never started")
        is_clean = code == 5 and self.kind == "disk" and self.run_dir.parent.is_mount()
        check(not (is_clean and unjournaled), f"{len(unjournaled)} outcomes lost to a full disk")
        if self.resends:
            self.allowed_repeats += len(unjournaled)
        self.tally.most_unjournaled = max(self.tally.most_unjournaled, len(unjournaled))
        if self.kind != "disk":  # there the file refuses lines for as long as calls are in flight
            most_per_s = CONCURRENCY / LATENCY_MS * 1000
            most = CONCURRENCY + FLUSH_S * most_per_s
            check(len(unjournaled) <= most, f"{len(unjournaled)} executions without a line")

    def check_end(self) -> None:
        """One outcome each, and as many executions as the outcomes say."""
        executions = self.executions()
        statuses: dict[int, str] = {}
        for head, _ in iter_lines(self.run_dir, latest=False):
            check(head.seq not in statuses, f"record {head.seq} has two outcomes")
            statuses[head.seq] = head.status
        check(set(statuses) == set(range(self.records)), "records without an outcome")
        repeated = 0
        for seq, status in statuses.items():
            count = executions.get(str(seq), 0)
            repeated += max(0, count - 1)
            if status == "succeeded":
                check(count >= 1, f"record {seq} is succeeded and never ran")
            else:
                check(status == "unknown", f"record {seq} is {status}")
                check(not self.resends, f"record {seq} is unknown, though it was to be sent again")
        if not self.resends:
            check(repeated == 0, f"at most once, and {repeated} executions were repeated")
        check(
            repeated <= self.allowed_repeats,
            f"{repeated} repeated executions for {self.allowed_repeats} unknown",
        )
        state = json.loads((self.run_dir / "run.json").read_text())
        check(state["state"] == "finished", f"state {state['state']}")
        check(state["counts"] == dict(Counter(statuses.values())), f"run.json counts {state['counts']}")
        self.tally.rounds += 1
        self.tally.executions_repeated += repeated
        self.tally.records_unknown += sum(status == "unknown" for status in statuses.values())


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait; returns whether the process ended by itself."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def size_of(path: Path) -> int:
    """Bytes of a file, none if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def mount(folder: Path) -> bool:
    """A disk that is soon full. False without the right to mount one."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        return False
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    return subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0


def limit_files(limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def crash(
    *,
    rounds: int,
    records: int,
    transports: list[str],
    kinds: list[str],
    seed: int,
    within_s: float = inf,
) -> dict[str, Tally]:
    """All rounds, or those that begin in time; a tally by transport and way of breaking off. Raises Wrong."""
    tallies: dict[str, Tally] = {}
    with (
        tempfile.TemporaryDirectory(prefix="fanout-crash-") as name,
        QueueProcess() as queue,
        EmulatorProcess(
            simulate=[f"name=crash,latency={LATENCY_MS}ms", SIMULATE],
            extra=["--count-by", COUNT_BY, "--no-limits"],
        ) as emulator,
    ):
        folder = Path(name)
        few = min(records, VERB_RECORDS)
        for file_name, count in (("input.jsonl", records), ("few.jsonl", few)):
            with (folder / file_name).open("w") as file:
                file.writelines(f'{{"id":{seq},"text":"{"x" * (seq % 100)}"}}\n' for seq in range(count))
        end_s = time.monotonic() + within_s
        for number, transport in product(range(rounds), transports):
            if time.monotonic() < end_s:
                kind = kinds[number % len(kinds)]
                tally = tallies.setdefault(f"{transport} {kind}", Tally())
                one: Round | VerbsRound
                if kind in {"verbs", "queue"}:
                    one = VerbsRound(
                        emulator,
                        folder,
                        few,
                        tally,
                        number=seed + number,
                        transport=transport,
                        seed=seed + number,
                        queue=queue if kind == "queue" else None,
                    )
                else:
                    one = Round(
                        emulator,
                        folder,
                        records,
                        tally,
                        kind=kind,
                        transport=transport,
                        resends=number // len(kinds) % 2 == 0,
                        seed=seed + number,
                    )
                try:
                    one.go()
                except Wrong as wrong:
                    kept = Path(tempfile.mkdtemp(prefix="fanout-crash-wrong-"))
                    shutil.copytree(one.run_dir, kept / "run", dirs_exist_ok=True)
                    if isinstance(one, VerbsRound):
                        print("\n".join(one.typed))
                    raise Wrong(
                        f"seed {seed + number}, {transport}, {kind}, kept in {kept}: {wrong}"
                    ) from wrong
    return tallies


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a few rounds of 500 records, unless said")
    parser.add_argument("--rounds", type=int, default=None, help="of each transport; default: 200, quick: 3")
    parser.add_argument("--records", type=int, default=None, help="default: 5000, quick: 500")
    parser.add_argument("--transport", action="append", choices=["direct", "sdk"], help="default: both")
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: kill")
    parser.add_argument("--within", type=float, default=inf, help="seconds in which rounds begin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there")
    chosen = parser.parse_args(arguments)
    began_s = time.monotonic()
    tallies = crash(
        rounds=chosen.rounds or (3 if chosen.quick else 200),
        records=chosen.records or (500 if chosen.quick else 5_000),
        transports=chosen.transport or ["direct", "sdk"],
        kinds=chosen.kind or ["kill"],
        seed=chosen.seed,
        within_s=chosen.within,
    )
    for name, tally in tallies.items():
        print(
            f"{name:12} {tally.rounds} rounds, {tally.breaks} breaks: "
            f"{tally.executions_repeated} executions repeated, {tally.records_unknown} records unknown, "
            f"at most {tally.most_unjournaled} executions without a line at a break; "
            f"exit codes {dict(sorted(tally.exit_codes.items()))}"
        )
    print(f"nothing lost, nothing doubled; {time.monotonic() - began_s:.0f} s")
    if chosen.json is not None:
        figures = {
            name: vars(tally) | {"exit_codes": dict(tally.exit_codes)} for name, tally in tallies.items()
        }
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
