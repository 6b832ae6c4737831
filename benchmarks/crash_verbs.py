"""Rounds in which every verb is killed: plan, run, resume and redrive, over a file or over a queue.

A round takes each verb to its end, however often it is killed on the way: SIGKILL or SIGTERM at any moment
since the process began, or both. What it goes on with is what a person might type. The function fails by
chance in a fifth of its calls, so that there is something to redrive. Counted by the emulator:

* each execution has a line that says so, or is of a record that was known as one that may have run;
* a record that never started is never taken for one that ran, nor the other way round;
* ``report`` and ``export`` work on whatever a kill left, and the records read are outcomes and pending ones;
* the directory is gone on with, or redriven, within a few commands.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tests.queues.queue_process import QueueProcess

from benchmarks.crash_tally import ENVIRONMENT, Tally, check, settled_counts
from fanout.cli import main
from fanout.emulator import EmulatorProcess
from fanout.journal import iter_lines, replay

CONCURRENCY = 20
FUNCTION = "falters"
SIMULATE = f"name={FUNCTION},latency=20ms,error_rate=0.2,item_error_rate=0.2"
_MOST_TRIES = 60
_SPARED_SHARE = 0.3
_GUESS_S = {True: 2.5, False: 0.9}  # how long a verb takes, over a queue and over a file, until that is seen
_LIMIT_S = 120.0
_BATCHES: tuple[tuple[str, ...], ...] = (
    (),
    ("--batch", "7"),
    ("--batch", "5", "--batch-shape", "sqs"),
    (),
)
pace = dict(_GUESS_S)
_CONTEXT = multiprocessing.get_context("fork")


class Command:
    """One ``fanout`` command in a process group of its own.

    Most are forked from this program, whose modules are there already, so that the kills meet the work and
    not the imports; a ``fresh`` one is a new interpreter.
    """

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str], *, fresh: bool) -> None:
        self._files = [folder / "stdout", folder / "stderr"]
        if fresh:
            with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
                self._fresh: subprocess.Popen[bytes] | None = subprocess.Popen(
                    [sys.executable, "-m", "fanout", *words],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            self.pid = self._fresh.pid
            return
        self._fresh = None
        self._forked = _CONTEXT.Process(target=_become, args=(words, folder, environment, self._files))
        self._forked.start()
        assert self._forked.pid is not None
        self.pid = self._forked.pid

    def has_ended_within(self, seconds: float) -> bool:
        """Wait at most so long."""
        if self._fresh is None:
            self._forked.join(seconds)
            return self._forked.exitcode is not None
        try:
            self._fresh.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        """Signal the whole group, which may have ended, or not have begun."""
        for kill in (os.killpg, os.kill):
            try:
                kill(self.pid, number)
                return
            except ProcessLookupError:
                continue

    @property
    def code(self) -> int:
        """The exit code, negative for a signal. Ends what never ends."""
        if not self.has_ended_within(_LIMIT_S):
            self.send(signal.SIGKILL)
            self.has_ended_within(10)
            check(False, f"a command that never ends: {self.words}")
        found = self._forked.exitcode if self._fresh is None else self._fresh.returncode
        assert found is not None
        return found

    @property
    def out(self) -> str:
        return self._files[0].read_text(errors="replace")

    @property
    def words(self) -> str:
        return self._files[1].read_text(errors="replace")


def _become(words: list[str], folder: Path, environment: dict[str, str], files: list[Path]) -> NoReturn:
    os.setsid()
    for number, path in ((1, files[0]), (2, files[1])):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, number)
        os.close(target)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["fanout", *words]
    main()


class VerbsRound:
    """One run directory, from a plan or a run over kills of every verb to its last redrive."""

    def __init__(
        self,
        emulator: EmulatorProcess,
        folder: Path,
        records: int,
        tally: Tally,
        *,
        number: int,
        transport: str,
        seed: int,
        queue: QueueProcess | None = None,
    ) -> None:
        self.emulator, self.folder, self.tally, self.queue = emulator, folder, tally, queue
        self.run_dir = folder / "run"
        self.random = random.Random(seed)
        self.resends = number % 2 == 0
        self.is_planned_again = False  # plan goes on without --may-have-run: what is suspect is skipped
        self.batch = _BATCHES[number // 2 % len(_BATCHES)]
        self.is_planned = queue is None and number % 3 == 0
        self.stops_before_redrive = number % 5 == 1
        self.redrives = 2 if number % 4 == 0 else 1
        self.records = records
        self.transport = transport
        self.is_queue = queue is not None
        self.typed: list[str] = []
        self.allowed: Counter[str] = Counter()  # executions without a line that may be, by key
        self.environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL_LAMBDA": emulator.endpoint_url}
        if queue is not None:
            self.environment["AWS_ENDPOINT_URL_SQS"] = queue.url

    def go(self) -> None:
        """All of it. Raises Wrong."""
        self.emulator.reset()
        shutil.rmtree(self.run_dir, ignore_errors=True)
        if self.queue is not None:
            self.queue.fill(self.records)
        if self.is_planned:
            self.until(lambda: self.state.get("records_read", 0) > 0 and not self.is_running, self.plan)
        self.until(
            lambda: self.is_finished or (self.stops_before_redrive and self.was_stopped_early), self.run
        )
        if self.queue is None:
            for generation in range(1, self.redrives + 1):
                self.until(partial(self.has_redriven, generation), self.redrive)
        self.until(lambda: self.is_finished, self.run)
        self.check_end()

    # What a person types next.

    def plan(self) -> list[str]:
        words = ["plan", FUNCTION, self.input, "--out", "run", "--canary", "40", "--yes", *self.how]
        return self.random.choice([words, self.resume()]) if self.state else words

    def run(self) -> list[str]:
        words = ["run", FUNCTION, self.input, "--out", "run", *self.how]
        restart = [*words, "--resume", *self.may_have_run]
        if not self.state:
            return self.random.choice([words, restart])
        return self.random.choice([words, restart]) if self.state.get("is_planned") else self.resume()

    def redrive(self) -> list[str]:
        again = ["redrive", "run", *self.may_have_run, "--no-report"]
        return self.random.choice([again, again, self.resume()])

    def resume(self) -> list[str]:
        return ["resume", "run", *self.may_have_run, "--no-report"]

    @property
    def input(self) -> str:
        return "few.jsonl" if self.queue is None else "sqs://jobs"

    @property
    def how(self) -> list[str]:
        words = [
            "-j",
            str(CONCURRENCY),
            "--transport",
            self.transport,
            "--key",
            "id",
            "--no-report",
            *self.batch,
        ]
        return words if self.queue is None else [*words, "--empty-after", "1s"]

    @property
    def may_have_run(self) -> list[str]:
        return ["--may-have-run", "send" if self.resends else "skip"]

    # What run.json says.

    @property
    def state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.run_dir / "run.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    @property
    def verb_s(self) -> float:
        return pace[self.is_queue]

    @property
    def is_running(self) -> bool:
        return self.state.get("state") == "running"

    @property
    def is_finished(self) -> bool:
        state = self.state
        return state.get("state") == "finished" and not state.get("redrive") and not state.get("is_planned")

    @property
    def was_stopped_early(self) -> bool:
        return self.state.get("state") == "interrupted" and bool(self.state.get("counts"))

    def has_redriven(self, generation: int) -> bool:
        state = self.state
        if state.get("generation", 0) >= generation and not state.get("redrive"):
            return not self.is_running
        return not self.is_running and not any(
            head.status == "function_error" for head, _ in iter_lines(self.run_dir)
        )

    # Doing it, and breaking it off.

    def until(self, is_done: Any, words: Any) -> None:
        """Type commands until it is done."""
        for _ in range(_MOST_TRIES):
            if is_done():
                return
            self.command(words())
        check(False, f"never done: {words.__name__}: {self.state}")

    def command(self, words: list[str]) -> None:
        """One command, killed at some moment or not at all."""
        self.is_planned_again |= words[0] == "plan" and bool(self.state)
        fresh = self.random.random() < 0.15
        command = Command(words, self.folder, self.environment, fresh=fresh)
        allowed = {0, 1, 5, 143, -signal.SIGTERM, -signal.SIGKILL}
        is_spared = self.random.random() < _SPARED_SHARE
        began_s = time.monotonic()
        if command.has_ended_within(_LIMIT_S if is_spared else self.random.uniform(0, self.verb_s)):
            if is_spared:  # kills are spread over the length of a verb, whatever the machine
                seen_s = 1.2 * (time.monotonic() - began_s)
                pace[self.is_queue] = max(seen_s, 0.7 * self.verb_s)
        elif self.random.random() < 0.3:
            command.send(signal.SIGTERM)
            if not command.has_ended_within(self.random.uniform(0, 0.05)) and self.random.random() < 0.7:
                command.send(signal.SIGKILL)
        else:
            command.send(signal.SIGKILL)
        code = command.code
        self.typed.append(f"{' '.join(words)}: {code}")
        self.tally.exit_codes[code] += 1
        said = command.words
        check("Traceback" not in said, f"a traceback of {words}:\n{said}")
        if code == 2:  # the other verb's turn
            command_of_it = {"redrive": "resume", "plan": "resume", "run": "resume"}.get(words[0])
            check(command_of_it is not None and command_of_it in said, f"{words}: {said}")
            check(said.count("\n") == 1, f"{words}: {said}")
            check(bool(self.state), f"{words} is refused without a run: {said}")
            self.command(self.resume())
            return
        check(code in allowed, f"exit code {code} of {words}: {said}")
        self.tally.breaks += code not in (0, 1)
        self.check_break()
        if self.queue is not None:
            self.queue.pass_time()

    # What must hold.

    def executions(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for key, count in settled_counts(self.emulator).items():
            for each in _ids(key):
                counts[each] += count
        return counts

    def check_break(self) -> None:
        """What ran has a line, or is known as what may have run. Report and export work."""
        executed = self.executions()
        state = self.state
        if not state:
            check(not executed, "calls before there was a run directory")
            return
        lines = list(iter_lines(self.run_dir, latest=False))
        known = replay(self.run_dir)
        generation = known.generation
        ran, seqs, has_line = Counter[str](), dict[str, int](), set[int]()
        for head, line in lines:
            key = json.loads(line)["key"]
            seqs[key] = head.seq
            ran[key] += head.status in ("succeeded", "function_error")
            if head.generation == generation:
                has_line.add(head.seq)
        unjournaled = 0
        for key, count in executed.items():
            surplus = count - ran[key] - self.allowed[key]
            check(surplus >= 0, f"record {key} has a line of an execution that never was")
            if not surplus:
                continue
            check(surplus == 1, f"record {key} ran {surplus} times without a line")
            unjournaled += 1
            self.allowed[key] += 1
            seq = seqs.get(key, None if self.queue is not None else int(key))
            if seq is None:  # of a queue: its number is known to the run alone
                check(known.may_have_run_count > 0, f"message {key} ran, and nothing may have run")
                continue
            if seq in known.finished:  # being redriven
                is_suspect = known.was_allowed(generation, seq) and seq not in has_line
            else:
                is_suspect = known.may_have_run(seq)
            check(is_suspect, f"record {key} ran, and is taken for one that never started")
        self.tally.most_unjournaled = max(self.tally.most_unjournaled, unjournaled)
        self.check_reading(state, known.counts)

    def check_reading(self, state: dict[str, Any], counts: dict[str, int]) -> None:
        """``report`` and ``export``, on whatever stands there."""
        report = Command(["report", "run", "--json"], self.folder, self.environment, fresh=False)
        check(report.code == 0, f"report: {report.words}")
        said = json.loads(report.out)
        found = {status: count for status, count in said["counts"].items() if count}
        check(found == counts, f"report counts {found}, the journal {counts}")
        check(said["records"] == sum(counts.values()) + said["pending"], f"report: {said}")
        if state["state"] == "finished" and not state.get("redrive"):
            check(said["pending"] == 0, f"finished with {said['pending']} pending")
        elif state["state"] != "running":
            read = state["records_read"]
            check(said["pending"] == read - sum(counts.values()), f"read {read}, {said}")
        status, flags = self.random.choice(
            [(None, ["--outcomes"]), ("succeeded", ["--outputs"]), ("function_error", []), ("unknown", [])]
        )
        if status is not None:
            flags = [*flags, "--status", status]
        export = Command(["export", "run", *flags], self.folder, self.environment, fresh=False)
        check(export.code == 0, f"export: {export.words}")
        wanted = sum(counts.values()) if status is None else counts.get(status, 0)
        is_settled_in_batches = status == "succeeded" and bool(self.batch)
        if not is_settled_in_batches and not (status == "unknown" and self.queue is not None):
            check(
                export.out.count("\n") == wanted, f"export {flags}: {export.out.count(chr(10))} of {wanted}"
            )
        self.tally.states_read += 1

    def check_end(self) -> None:
        """One outcome each, and as many executions as the lines say."""
        executed = self.executions()
        latest: dict[str, str] = {}
        unknown: Counter[str] = Counter()
        ran: Counter[str] = Counter()
        generations: dict[str, set[int]] = {}
        for head, line in iter_lines(self.run_dir, latest=False):
            key = json.loads(line)["key"]
            check(head.generation not in generations.setdefault(key, set()), f"record {key} has two outcomes")
            generations[key].add(head.generation)
            latest[key] = head.status
            unknown[key] += head.status == "unknown"
            ran[key] += head.status in ("succeeded", "function_error")
        check(set(latest) == set(map(str, range(self.records))), "records without an outcome")
        for key in latest:
            surplus = executed[key] - ran[key]
            check(surplus == self.allowed[key], f"record {key}: {surplus} executions without a line")
            if self.resends:
                is_right = self.is_planned_again or not unknown[key]
                check(is_right, f"record {key} is unknown, though it was to be sent again")
                self.tally.executions_repeated += surplus
            else:
                check(surplus <= unknown[key], f"at most once, and record {key} ran {executed[key]} times")
        state = self.state
        counts = dict(Counter(latest.values()))
        check(state["counts"] == counts, f"run.json counts {state['counts']}, there are {counts}")
        check(state["records_read"] == self.records, f"run.json read {state['records_read']}")
        if self.queue is not None:
            left = self.queue.left()
            wanted = {key for key, status in latest.items() if status != "succeeded"}
            check(left == wanted, f"left in the queue: {sorted(left ^ wanted)} differ")
        self.tally.rounds += 1
        self.tally.records_unknown += counts.get("unknown", 0)


def _ids(key: str) -> list[str]:
    """The ids that one key of the emulator stands for: of one record, or of those of a batch."""
    value = json.loads(key)
    if not isinstance(value, list):
        return [str(value)]
    return [str(json.loads(each)["id"] if isinstance(each, str) else each) for each in value]
