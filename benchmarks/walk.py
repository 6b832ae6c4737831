"""Random walks through the command: options, ways in and verbs drawn at random, over a function that fails.

    python -m benchmarks.walk [SECONDS] [SEED]

A walk draws options of every theme, a way in and a function with faults of its own, then types what a person
might: a plan, a run, resumes (or the same run with ``--resume``) until it is finished, and a redrive. Some
commands are killed. After each, what the command said, the run directory and the emulator's own count are
held against one another. A fault prints its seed; ``python -m benchmarks.walk 0 SEED`` plays that walk alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import fanout
from benchmarks.crash_tally import ENVIRONMENT, Wrong, check, settled_counts
from benchmarks.walk_ways import BUCKET, Store, call_of, draw_way, store
from fanout.cli import main as command
from fanout.emulator import EmulatorProcess

FUNCTIONS = (
    "name=clean,latency=2ms",
    "name=falters,latency=4ms,error_rate=0.15,item_error_rate=0.15",
    "name=refuses,latency=4ms,status_503_rate=0.15,status_500_rate=0.1",
    "name=loses,latency=4ms,lost_rate=0.02,reset_rate=0.02,runs_on=100ms,timeout=1s",
    "name=narrow,latency=10ms,concurrency=3",
    "name=everything,latency=6ms,error_rate=0.05,status_503_rate=0.05,reset_rate=0.01,concurrency=8,timeout=1s",
    "name=slow,latency=60ms,error_rate=0.05",
)
GOOD = {"succeeded", "accepted", "valid"}
RAN = {*GOOD, "function_error"} - {"valid"}
STOPS = {"enough": 0, "threshold": 3, "deadline": 5, "cost": 5, "outage": 5, "fatal": 4, "sigint": 130}
STOPS |= {"sigterm": 143, "sighup": 129}
PLANNED = {"-j", "--idempotent", "--batch", "--batch-shape", "--bisect"}
PLANNED |= {"--invocation-type", "--stream", "--key", "--select"}
WORKERS_SHARE = 0.05  # they take seconds to start
_LIMIT_S = 90.0


class Ended:
    """One command, forked from this program, at its end; killed at some moment if asked."""

    def __init__(
        self,
        words: list[str],
        folder: Path,
        environment: dict[str, str],
        stdin: Path,
        kill: Any,
        call: dict[str, Any] | None = None,
        *,
        pauses: bool = False,
    ) -> None:
        files = [folder / "stdout", folder / "stderr"]
        for path in files:
            path.write_bytes(b"")  # it may be killed before it opens them
        feeder = _little_by_little(stdin) if pauses else None
        pid = os.fork()
        if not pid:
            if feeder is not None:
                stdin = Path(f"/dev/fd/{feeder[0]}")
            _become(words, folder, environment, [stdin, *files], call)
        began_s, status, sent = time.monotonic(), None, list(kill)
        while status is None:
            found, code = os.waitpid(pid, os.WNOHANG)
            if found:
                status = os.waitstatus_to_exitcode(code)
                break
            passed_s = time.monotonic() - began_s
            if sent and passed_s > sent[0][0]:
                os.kill(pid, sent.pop(0)[1])
            if passed_s > _LIMIT_S:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise Wrong(f"never ends: {words}: {files[1].read_text()[-600:]}")
            time.sleep(0.004)
        if feeder is not None:
            os.close(feeder[0])
            os.waitpid(feeder[1], 0)
        self.code, self.was_killed = status, len(sent) < len(kill)
        self.out, self.err = (path.read_text() for path in files)


def _little_by_little(path: Path) -> tuple[int, int]:
    """A pipe that brings a file in pieces, with pauses; its end to read, and the process that writes."""
    end, other_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(other_end)
        return end, pid
    os.close(end)
    data = path.read_bytes()
    with suppress(BrokenPipeError):
        for at in range(0, len(data), 700):
            os.write(other_end, data[at : at + 700])
            time.sleep(0.03)
    os._exit(0)


def _become(
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    files: list[Path],
    call: dict[str, Any] | None,
) -> None:
    os.setsid()
    for number, path in enumerate(files):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m, closefd=False) for n, m in enumerate("rww"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["fanout", *words]
    code: object = 1
    try:
        if call is None:
            command()
        code = _call(words[1], **(call or {}))
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(str(code or 0)))


def _call(function: str, payloads: Any, **options: Any) -> int:
    """The run in Python: its report where the command prints it, its exit code."""
    try:
        report = fanout.run(function, payloads, **options)
    except (fanout.ConfigError, fanout.SourceError, fanout.JournalError) as error:
        sys.stderr.write(f"fanout: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:  # after the end of the run, before its report was returned
        return 130
    print(json.dumps(report.to_dict()))
    return report.exit_code


def draw_options(rng: random.Random) -> list[str]:
    """Options of a run; some of these cannot go together, and are refused."""
    words = ["--no-report", "-j", rng.choice(("1", "4", "16"))]

    def maybe(share: float, *choices: str) -> bool:
        drawn = rng.random() < share
        if drawn:
            words.extend(rng.choice(choices).split(" "))
        return drawn

    repeats = maybe(0.35, "--idempotent")
    if maybe(0.35, "--batch 2", "--batch 7", "--batch 50"):
        maybe(0.6, "--batch-shape items", "--batch-shape sqs", "--batch-shape array")
        maybe(0.3 if repeats else 0.02, "--bisect")
    maybe(0.15 if repeats else 0.02, "--hedge")
    maybe(0.15, "--invocation-type Event", "--invocation-type DryRun")
    maybe(0.1, "--stream")
    maybe(0.3, "--key id", "--key nope")
    maybe(0.35, "--select v", "--select {i:id,w:v}", "--select @")
    maybe(0.2, "--take 0", "--take 1", "--take 25")
    maybe(0.2, "--enough 1", "--enough 20")
    maybe(0.15, "--deadline 0.2s", "--deadline 30s")
    maybe(0.1, "--max-cost 0.000001", "--max-cost 1")
    maybe(0.15, "--tolerated-failure-count 2", "--tolerated-failure-percentage 5")
    if maybe(0.15, "--threshold p95<9s", "--threshold failure_rate<1%", "--threshold p50<1ms"):
        maybe(0.5, "--threshold-abort")
    maybe(0.3, "--retries 0", "--retries 8")
    maybe(0.2, "--retry-function-errors 2")
    maybe(0.15, "--outage-patience 0", "--outage-patience 3s")
    maybe(0.1, "--breaker 3")
    maybe(0.15, "--rate 150", "--rate 5000")
    maybe(0.1, "--transport sdk")
    maybe(0.1, "--fsync always", "--fsync never")
    maybe(0.1, "--log-type Tail", "--log-type OnError")
    return words


class Walk:
    """One walk of one seed."""

    def __init__(self, seed: int, emulator: EmulatorProcess, bucket: Store, folder: Path) -> None:
        self.rng, self.emulator, self.folder, self.out = random.Random(seed), emulator, folder, folder / "run"
        self.bucket, self.prefix = bucket, f"{folder.name}/"
        rng = self.rng
        self.function = rng.choice(FUNCTIONS).split(",")[0].removeprefix("name=")
        self.options = draw_options(rng)
        count = rng.choice((0, 1, 3, 30, 150, 300))
        self.environment = dict(ENVIRONMENT)
        self.environment["AWS_ENDPOINT_URL_LAMBDA"] = emulator.endpoint_url
        self.environment["AWS_ENDPOINT_URL_S3"] = bucket.url
        self.said: list[str] = []
        self.kills = 0
        self.way = draw_way(rng, count, folder, bucket, self.prefix)
        self.count, self.stdin = len(self.way.records), self.way.stdin
        select = self.options[self.options.index("--select") + 1] if "--select" in self.options else "@"
        choose = {"v": lambda r: r.get("v"), "@": lambda r: r}
        chosen = choose.get(select, lambda r: {"i": r.get("id"), "w": r.get("v")})
        if self.way.name == "lines":
            chosen = {"v": lambda _: None, "@": chosen}.get(select, lambda _: {"i": None, "w": None})
        self.payloads: list[Any] = [record and chosen(record) for record in self.way.records]
        if rng.random() < 0.15:
            self.options += ["--results", f"s3://{BUCKET}/results/{self.prefix}"]
        if rng.random() < WORKERS_SHARE and count:
            self.options += ["--workers", "2"]

    # Commands.

    def type(self, *words: str, may_kill: bool = True, code: int | None = None) -> Ended:
        rng, kill = self.rng, []
        if may_kill and rng.random() < 0.35:
            at_s = rng.uniform(0, 0.6)
            first = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGHUP))
            kill = [(at_s, first)]
            if first == signal.SIGINT and rng.random() < 0.4:
                kill.append((at_s + rng.uniform(0, 0.1), signal.SIGINT))
        call = call_of(self.way, list(words[2:])) if words[0] == "run" and self.way.is_library else None
        if call is not None:
            words = ("fanout.run", *words[1:])
        ended = Ended(
            ["run", *words[1:]] if call else list(words),
            self.folder,
            self.environment,
            self.stdin,
            kill,
            call,
            pauses=self.way.pauses,
        )
        self.said.append(
            f"{' '.join(words)}  # {ended.code} {[s.name for _, s in kill] if ended.was_killed else ''}"
        )
        self.kills += ended.was_killed and (ended.code < 0 or len(kill) > 1)
        is_noise = "Exception ignored" in ended.err  # of Python, at a signal while it ends
        check("Traceback" not in ended.err or is_noise, ended.err)
        check(code is None or ended.code == code, f"exit {ended.code}, not {code}: {ended.err[-400:]}")
        return ended

    def go(self) -> str:
        """The whole walk; returns how it ended. Raises Wrong."""
        time.sleep(0.15)  # for what the last walk's killed commands had sent, and its events
        while settled_counts(self.emulator) and self.emulator.stats()["events"]["pending"]:
            time.sleep(0.01)
        self.emulator.reset()
        verb, how = "run", [*self.options, "--out", "run"]
        if self.rng.random() < 0.2 and not self.way.is_library:
            ended = self.type(*self.whole("run"), *self.options, "--dry-run", may_kill=False)
            if ended.code == 2:
                return "refused: " + ended.err.strip()
            check(not self.out.exists() and not self.executions(), "a dry run left something")
            if self.rng.random() < 0.5 and "--take" not in self.options:
                verb, how = "plan", [*self.lasting(), "--out", "run", "--canary", "5", "--yes"]
        ended = self.type(*self.whole(verb), *how, *(["--json"] if verb == "run" else []))
        if self.way.after is not None and self.out.joinpath("inputs.gz").exists():
            self.way.after()
        if ended.code == 2:
            check(not self.out.exists(), f"refused, but there is a directory: {ended.err}")
            check(ended.err.count("\n") == 1, ended.err)
            check(not self.executions(), "refused, but something ran")
            return "refused: " + ended.err.strip()
        if not self.out.joinpath("run.json").exists():
            check(ended.was_killed or verb == "plan", f"no directory: {ended.code} {ended.err}")
            return "killed before it began"
        self.check(ended, verb)
        for _ in range(12):
            if self.is_finished:
                break
            ended = self.go_on()
            self.check(ended, "resume")
        check(self.is_finished, f"never finished: {self.state.get('halted_by')}: {ended.err[-300:]}")
        before, size = self.executions(), self.out.joinpath("outcomes.jsonl").stat().st_size
        ended = (
            self.again(may_kill=False) if self.way.is_iterable else self.type("resume", "run", may_kill=False)
        )
        self.check(ended, "resume")
        check(before == self.executions(), "a resume of a finished run sent something")
        check(size == self.out.joinpath("outcomes.jsonl").stat().st_size, "a resume of a finished run wrote")
        how = self.redrive() if self.count else "empty"
        self.read_back()
        return how

    def read_back(self) -> None:
        """What report and export say of the run, and what was uploaded."""
        said = json.loads(self.type("report", "run", "--json", may_kill=False).out)
        state, newest = self.state, self.newest
        told = {status: count for status, count in said["counts"].items() if count}
        check(told == state["counts"], f"report says {told}, run.json {state['counts']}")
        ended = self.type("export", "run", "--outcomes", may_kill=False, code=0)
        found = [json.loads(line)["seq"] for line in ended.out.splitlines()]
        check(sorted(found) == sorted(newest), f"export --outcomes has {len(found)} of {len(newest)}")
        ended = self.type("export", "run", "--outputs", may_kill=False, code=0)
        succeeded = sum(line["status"] == "succeeded" for line in newest.values())
        if "--batch" not in self.options:  # there an output may stand for many, and a reply for none
            check(
                len(ended.out.splitlines()) == succeeded,
                f"export --outputs: {ended.out[:300]} of {succeeded}",
            )
        if "--results" in self.options:
            if state["results"].get("error"):  # a signal ended the upload
                self.type("export", "run", "--results", may_kill=False, code=0)
            folder = f"results/{self.prefix}{state['id']}/"
            manifest = json.loads(self.bucket.read(f"{folder}manifest.json"))
            told = {status: count for status, count in manifest["counts"].items() if count}
            kept = {status: count for status, count in state["counts"].items() if count}
            check(told == kept, f"the manifest counts {told}, run.json {kept}")

    def lasting(self) -> list[str]:
        """What a plan takes of the options."""
        found, at = [], 0
        while at < len(self.options):
            word = self.options[at]
            length = 1 + (at + 1 < len(self.options) and not self.options[at + 1].startswith("-"))
            if word in PLANNED:
                found += self.options[at : at + length]
            at += length
        return found

    def whole(self, verb: str) -> list[str]:
        return [verb, self.function, *([] if self.way.is_library else self.way.words)]

    def lifted_of(self, *names: str) -> list[str]:
        found = self.lifted
        return [word for at, word in enumerate(found) if {word, found[at - 1]} & set(names)]

    @property
    def lifted(self) -> list[str]:
        """What lets a stopped run go on."""
        words = {"--deadline": "--deadline 60s", "--max-cost": "--max-cost 1", "--enough": "--all"}
        words |= {"--tolerated-failure-count": "--tolerated-failure-count 1000"}
        words |= {"--tolerated-failure-percentage": "--tolerated-failure-percentage 100"}
        found = [word for name, more in words.items() if name in self.options for word in more.split(" ")]
        if "--threshold" in self.options:
            found += ["--threshold", "p95<60s"]
        if "--outage-patience" in self.options:
            found += ["--outage-patience", "60s"]
        if self.state["state"] == "running" or self.rng.random() < 0.3:
            found += ["--may-have-run", self.rng.choice(("send", "skip"))]
        return found

    def go_on(self) -> Ended:
        if self.way.is_iterable:
            return self.again()
        is_piped = self.stdin != Path(os.devnull)  # then what is not in the spool has to be piped once more
        if self.rng.random() < 0.5 and self.out.joinpath("spool.end").exists() >= is_piped:
            return self.type("resume", "run", "--json", *self.lifted)
        return self.again()

    def again(self, *, may_kill: bool = True) -> Ended:
        """The same run with --resume, as whatever restarts commands types it."""
        lifted = [word for word in self.lifted if word != "--all"]
        if "--enough" in self.options:
            lifted += ["--enough", "100000"]
        words = [*self.whole("run"), *self.options, "--out", "run", "--resume", "--json", *lifted]
        return self.type(*words, may_kill=may_kill)

    def redrive(self) -> str:
        redrivable = {
            seq
            for seq, line in self.newest.items()
            if line["status"] in ("function_error", "undelivered", "rejected")
            and self.payloads[seq] is not None
        }
        lines = len(self.lines)
        generation = self.state["generation"]
        for _ in range(12):  # until a kill lets it begin
            ended = self.type(
                "redrive", "run", *self.lifted_of("--deadline", "--max-cost", "--outage-patience")
            )
            if (ended.code >= 0 and not ended.was_killed) or self.state["generation"] > generation:
                break
        for _ in range(12):
            self.check(ended, "redrive")
            if self.is_finished:
                break
            ended = self.type("resume", "run", *self.lifted)
        check(
            self.is_finished, f"the redrive never finished: {self.state.get('halted_by')} {ended.err[-300:]}"
        )
        sent = [line["seq"] for line in self.lines[lines:]]
        check(set(sent) == redrivable, f"redriven: {sorted(sent)}, not {sorted(redrivable)}")
        return "redriven" if redrivable else "all good"

    # What must hold.

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.joinpath("run.json").read_text())
        return found

    @property
    def lines(self) -> list[dict[str, Any]]:
        text = (
            self.out.joinpath("outcomes.jsonl").read_text()
            if self.out.joinpath("outcomes.jsonl").exists()
            else ""
        )
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def newest(self) -> dict[int, dict[str, Any]]:
        return {line["seq"]: line for line in self.lines}

    @property
    def is_finished(self) -> bool:
        state = self.state
        return state["state"] == "finished" and not state.get("redrive") and not state.get("is_planned")

    def executions(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        while "Event" in self.options and self.emulator.stats()["events"]["pending"]:
            time.sleep(0.01)
        is_sqs = "sqs" in self.options
        is_batch = "--batch" in self.options
        for key, count in settled_counts(self.emulator).items():
            (payload,) = json.loads(key)
            each = [payload]
            if is_sqs:
                each = [json.loads(record["body"]) for record in payload["Records"]]
            elif is_batch:
                each = payload if isinstance(payload, list) else payload["Items"]
            for one in each:
                counts[json.dumps(one)] += count
        return counts

    def check(self, ended: Ended, verb: str) -> None:
        """Hold what was said, written and run against one another."""
        state, lines, newest, ran = self.state, self.lines, self.newest, self.executions()
        asked = {json.dumps(payload) for payload in self.payloads if payload is not None}
        check(set(ran) <= asked, f"sent what nobody asked for: {set(ran) - asked}")
        least: Counter[str] = Counter()
        most: Counter[str] = Counter()
        loose = {"--idempotent", "--hedge", "--retry-function-errors"} & set(self.options)
        for line in lines:
            payload = json.dumps(self.payloads[line["seq"]])
            least[payload] += line["status"] in RAN and line["status"] != "accepted"  # it runs at its time
            if loose or line["status"] == "accepted":  # which is tried three times
                most[payload] += 10 * max(1, line["attempts"])
            else:
                most[payload] += line["status"] in RAN or line["status"] == "unknown"
        kills = self.kills * (10 if loose else 1)  # a call that a kill cut off may have been repeated before
        for payload, times in ran.items():
            check(times <= most[payload] + kills, f"{payload} ran {times} times, {most[payload]} allowed")
        for payload, times in least.items():
            check(
                ran[payload] >= times, f"{payload} is said to have run {times} times, and ran {ran[payload]}"
            )
        if ended.code == 2:
            raise Wrong(f"refused: {verb}: {ended.err}")
        if ended.code < 0 or state["state"] == "running" or verb == "plan":
            check(
                ended.code < 0 or verb == "plan" or ended.was_killed,
                f"{ended.code}: {state['state']}: {ended.err}",
            )
            return
        if state.get("redrive"):
            return
        counts = Counter(line["status"] for line in newest.values())
        told = {status: count for status, count in state["counts"].items() if count}
        check(told == counts, f"run.json counts {told}, the journal has {dict(counts)}")
        read, pending = state["records_read"], state["records_read"] - len(newest)
        check(pending >= 0, f"{read} read, {len(newest)} outcomes")
        check(state["state"] != "finished" or not pending, f"finished with {pending} pending")
        bad = sum(count for status, count in counts.items() if status not in GOOD)
        if state["state"] == "finished":
            allowed = {1, 3} if bad else {0, 3} if "--threshold" in self.options else {0}
            if "--enough" in self.options and not bad:
                allowed |= {1}
        else:
            allowed = {STOPS[state["halted_by"]]} if state.get("halted_by") in STOPS else {130, 143, 129, 4}
        if ended.was_killed:  # before it began, or after its end
            allowed |= {130, 143, 129}
        check(
            ended.code in allowed,
            f"exit {ended.code} of {state['state']} {state.get('halted_by')}, {told}: {ended.err[-500:]}",
        )
        if ended.out.strip() and not ended.was_killed:
            summary = json.loads(ended.out)
            check(
                summary["exit_code"] == ended.code, f"--json says {summary['exit_code']}, exit {ended.code}"
            )


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, walk for so long, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seconds", type=float, nargs="?", default=None, help="default: 60, quick: 10")
    parser.add_argument("seed", type=int, nargs="?", default=0, help="of the first walk; default: any")
    parser.add_argument("--quick", action="store_true", help="a short walk, unless the seconds are said")
    chosen = parser.parse_args(arguments)
    seconds = chosen.seconds if chosen.seconds is not None else 10.0 if chosen.quick else 60.0
    seed = chosen.seed
    fanout.preload()
    for name in ("run", "plan", "resume", "redrive", "report", "export"):
        importlib.import_module(f"fanout.cli.{name}")
    importlib.import_module("fanout.commands.restart")
    seed = seed or random.randrange(1_000_000)
    ended: Counter[str] = Counter()
    faults, give_up_at_s = 0, time.monotonic() + seconds
    extra = [
        "--count-by",
        "[@]",
        "--account-concurrency",
        "1000",
        "--seed",
        str(seed),
        "--event-wait-scale",
        "0.0001",
    ]
    with store() as bucket, EmulatorProcess(simulate=FUNCTIONS, extra=extra) as emulator:
        for walk_seed in range(seed, seed + 1_000_000):
            folder = Path(tempfile.mkdtemp(prefix="fanout-walk-"))
            walk = Walk(walk_seed, emulator, bucket, folder)
            try:
                ended[walk.go()] += 1
            except Exception as error:
                faults += 1
                print(
                    f"SEED {walk_seed}: {type(error).__name__}: {error}\n  " + "\n  ".join(walk.said),
                    flush=True,
                )
                if not isinstance(error, Wrong):
                    import traceback

                    traceback.print_exc()
            shutil.rmtree(folder)
            if time.monotonic() > give_up_at_s:
                break
    print(f"{sum(ended.values())} walks without a fault, {faults} with, seeds {seed} to {walk_seed}")
    for what, count in ended.most_common():
        print(f"  {count:5d}  {what}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
