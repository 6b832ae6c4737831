"""``fanout plan`` against the emulator: a canary that is kept, and a run that goes on after it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from fanout.commands.canary_plan import plan
from fanout.commands.options import Given, RunOptions
from fanout.commands.run_request import RunRequest
from fanout.emulator import EmulatorProcess
from fanout.errors import ConfigError, FatalRefusal
from fanout.model import Reply
from fanout.runs.audience import Audience, Stoppable
from tests.cli.forks import run_command
from tests.scripted import MISSING, Scripted

ENVIRONMENT = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    simulated = ["name=f,latency=20ms,concurrency=50", "name=full,throttle_rate=1"]
    with EmulatorProcess(simulate=simulated, extra=["--count-by", "id"]) as emulator:
        yield emulator


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id": {n}}}\n' for n in range(300)))
    return path


def fanout(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = run_command(*arguments, env=ENVIRONMENT)
    return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_plan_is_kept_and_a_run_goes_on_after_it(
    emulator: EmulatorProcess, records: Path, tmp_path: Path
) -> None:
    """30 records are sent, time and cost projected for 300; the run sends the other 270, each once."""
    out = tmp_path / "run"
    where = ("--endpoint-url", emulator.endpoint_url, "--out", out)
    emulator.reset()
    planned = fanout(
        "plan", "--yes", "f", records, *where, "--canary", "30", "--what-if", "concurrency=100", "--json"
    )
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert (plan["records"], plan["canary"], plan["limit"]) == (300, 30, 50)
    assert plan["counts"] == {"succeeded": 30}
    assert 0 < plan["projection"]["duration_s"]["low"] <= plan["projection"]["duration_s"]["value"]
    assert plan["what_if"]["concurrency=100"]["concurrency"] == 100
    assert emulator.stats()["executions"] == 30

    finished = fanout("run", "f", records, *where, "-q")
    assert finished.returncode == 0, finished.stderr
    state = json.loads((out / "run.json").read_text())
    assert (state["state"], state["counts"]) == ("finished", {"succeeded": 300})
    seqs = sorted(json.loads(line)["seq"] for line in (out / "outcomes.jsonl").read_text().splitlines())
    assert seqs == list(range(300))
    assert emulator.stats()["executions"] == 300


def test_what_the_canary_cost_counts_in_the_run(
    emulator: EmulatorProcess, records: Path, tmp_path: Path
) -> None:
    """The run's summary says the same as the report of its directory; and the directory is used up."""
    out = tmp_path / "run"
    where = ("--endpoint-url", emulator.endpoint_url, "--out", out)
    assert fanout("plan", "--yes", "f", records, *where, "--canary", "100").returncode == 0
    finished = fanout("run", "f", records, *where, "--json", "--quiet")
    reported = fanout("report", out, "--json")
    cost = json.loads(finished.stdout)["cost"]["usd"]
    assert cost == pytest.approx(json.loads(reported.stdout)["cost"]["usd"])
    assert cost > 300 * 0.0000002  # requests alone, canary and all

    again = fanout("run", "f", records, *where)
    assert again.returncode == 2
    assert f"{out} holds a run already" in again.stderr


def test_a_plan_for_people_names_time_cost_and_the_next_command(
    emulator: EmulatorProcess, records: Path, tmp_path: Path
) -> None:
    """Without --json the figures are lines, and the last one is what to type next."""
    out = tmp_path / "run"
    planned = fanout(
        "plan", "f", records, "--endpoint-url", emulator.endpoint_url, "--out", out, "--canary", "5", "--yes"
    )
    assert planned.returncode == 0, planned.stderr
    assert "300 records, judged by the first 5" in planned.stdout
    for word in ("limit", "time", "cost", "failures"):
        assert f"  {word}" in planned.stdout
    assert planned.stdout.rstrip().endswith(f"fanout run f {quote(str(records))} --out {quote(str(out))}")


def test_a_payload_is_planned_as_it_is_run(emulator: EmulatorProcess, tmp_path: Path) -> None:
    """--payload instead of an INPUT; the command to go on says it again, and under a rehearsal's emulator."""
    rest = ("--endpoint-url", emulator.endpoint_url, "--out", tmp_path / "run", "--repeat", "30")
    payload = ("--payload", '{"id": 1}')
    rehearsal = {"FANOUT_REHEARSAL": "fanout emulate h.py:h --"}
    planned = run_command("plan", "--yes", "f", *payload, *rest, "--json", env=ENVIRONMENT | rehearsal)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert (plan["records"], plan["canary"]) == (30, 20)
    before, words = plan["run_command"].split(" -- ")
    assert (before, shlex.split(words)) == (
        "fanout emulate h.py:h",
        ["fanout", "run", "f", *payload, "--repeat", "30", "--out", str(tmp_path / "run")],
    )
    finished = fanout("run", "f", *payload, *rest, "-q")
    assert finished.returncode == 0, finished.stderr
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert state["counts"] == {"succeeded": 30}
    refused = fanout("plan", "--yes", "f")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_a_canary_of_another_run_is_not_gone_on_with(
    emulator: EmulatorProcess, records: Path, tmp_path: Path
) -> None:
    """The same --out with another input is refused, in one line."""
    out = tmp_path / "run"
    where = ("--endpoint-url", emulator.endpoint_url, "--out", out)
    assert fanout("plan", "--yes", "f", records, *where, "--canary", "2").returncode == 0
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": 1}\n')
    refused = fanout("run", "f", other, *where)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"fanout: {out}: holds the canary of f with {records}")


def test_a_plan_stops_before_the_canary_when_the_function_is_not_there(
    emulator: EmulatorProcess, records: Path, tmp_path: Path
) -> None:
    """Preflight says no: exit 4, one line, nothing sent, no directory."""
    out = tmp_path / "run"
    refused = fanout("plan", "--yes", "nope", records, "--endpoint-url", emulator.endpoint_url, "--out", out)
    assert refused.returncode == 4
    assert refused.stderr.count("\n") == 1
    assert "nope" in refused.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments", [("f", "-"), ("f", "in.jsonl", "--what-if", "cores=3"), ("f", "in.jsonl", "--canary", "0")]
)
def test_bad_plans_are_usage_errors(arguments: tuple[str, ...]) -> None:
    """Standard input, an unknown what-if, a canary of none: exit 2 and one line."""
    refused = fanout("plan", "--yes", *arguments)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


KNOWN: Given = {"concurrency": 1, "rate": 1000, "function_timeout": 2}  # so that nobody is asked


async def test_a_canary_that_is_stopped_before_its_first_call_is_no_plan(tmp_path: Path) -> None:
    """Not an input of which nothing could be sent: the exit code is the signal's."""

    def attach(run: Stoppable) -> Callable[[], None]:
        run.stop("sigint")
        return lambda: None

    path = tmp_path / "in.jsonl"
    path.write_text("1\n2\n")
    options = RunOptions.of("f", {"transport": Scripted(lambda _: Reply(status=204)), **KNOWN})
    request = RunRequest(options=options, locations=(str(path),), out=tmp_path / "run")
    made, report = await plan(request, 2, {}, Audience(attach=attach))
    assert (made, report.state, report.exit_code, report.pending) == (None, "interrupted", 130, 0)


async def test_a_canary_of_which_nothing_can_be_sent_says_why(tmp_path: Path) -> None:
    """Lambda's refusal of all, or the fault of the first record that has one."""
    path = tmp_path / "in.jsonl"

    async def planned(text: str, answer: Any, out: str) -> None:
        path.write_text(text)
        options = RunOptions.of("f", {"transport": Scripted(lambda _: answer), **KNOWN})
        request = RunRequest(options=options, locations=(str(path),), out=tmp_path / out)
        await plan(request, 2, {}, Audience())

    with pytest.raises(FatalRefusal, match="ResourceNotFoundException"):
        await planned("1\n2\n", MISSING, "refused")
    with pytest.raises(ConfigError, match="none of its first 2 records could be sent: InvalidJson: line 1"):
        await planned("x\ny\n", Reply(status=204), "faults")


def test_other_figures_are_shown_to_people_and_a_plan_without_any_is_none(
    emulator: EmulatorProcess, records: Path, tmp_path: Path
) -> None:
    """What another limit would change; and a deadline that leaves no time for a canary."""
    where = ("--yes", "f", records, "--endpoint-url", emulator.endpoint_url)
    words = ("--canary", "5", "--what-if", "concurrency=500,rate=9", "--what-if", "concurrency=2")
    shown = fanout("plan", *where, "--out", tmp_path / "a", *words)
    assert shown.returncode == 0, shown.stderr
    for title in ("as it is", "concurrency=500,rate=9", "concurrency=2"):
        assert f"\n{title}" in shown.stdout
    where = ("--yes", "full", *where[2:])  # it refuses every call: none can run before the deadline
    late = fanout("plan", *where, "--out", tmp_path / "b", "--deadline", "300ms", "-j", "1")
    assert (late.returncode, late.stdout) == (5, "")
    assert "fanout: the deadline passed\n" in late.stderr
