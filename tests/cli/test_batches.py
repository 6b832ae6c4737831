"""Batches through the command: resumed, redriven, planned, exported; what does not go together is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout import ConfigError
from fanout.emulator import EmulatorProcess
from tests.cli.inside import Inside
from tests.cli.running import Shell, interrupted
from tests.cli.test_resume import kill_in_the_middle
from tests.scripted import Scripted

HANDLER = """
import json, os, time

LOG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sent.log")


def queue(event, context):
    failed = []
    with open(LOG, "a") as log:
        for record in event["Records"]:
            body = json.loads(record["body"])
            log.write(json.dumps({"n": body["n"], "id": record["messageId"]}) + "\\n")
            if body["n"] % 7 == 3 and not MENDED:
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def array(event, context):
    with open(LOG, "a") as log:
        for item in event:
            log.write(json.dumps({"n": item["n"]}) + "\\n")
    time.sleep(0.02)
    return [item["n"] * 2 for item in event]


MENDED = False
"""
SQS = ("--batch", "10", "--batch-shape", "sqs")


@pytest.fixture
def handlers(inside: Inside) -> Inside:
    """A directory with handlers that write down what they were sent."""
    (inside.directory / "app.py").write_text(HANDLER)
    return inside


def sent(directory: Path) -> list[dict[str, Any]]:
    """What the handlers were sent, in order."""
    return [json.loads(line) for line in (directory / "sent.log").read_text().splitlines()]


def latest(inside: Inside) -> dict[int, dict[str, Any]]:
    """The last outcome of each record."""
    return {outcome["seq"]: outcome for outcome in inside.outcomes()}


def test_what_failed_is_redriven_in_new_batches(handlers: Inside) -> None:
    """The messageIds are those of the run; the mended handler gets the failed alone; export tells them."""
    handlers.write("in.jsonl", 50)
    words = ("run", "q", "in.jsonl", "--local", "app.py:queue", "--out", "run", "--no-report", *SQS)
    done = handlers.run(*words)
    assert done.code == 1, done
    bad = [n for n in range(50) if n % 7 == 3]
    outcomes = latest(handlers)
    assert [seq for seq in sorted(outcomes) if outcomes[seq]["status"] != "succeeded"] == bad
    assert {outcomes[n]["error"]["type"] for n in bad} == {"BatchItemFailure"}
    exported = handlers.run("export", "run", "--status", "failed")
    assert sorted(json.loads(line)["n"] for line in exported.out.splitlines()) == bad
    told = json.loads(handlers.run("report", "run", "--json").out)
    assert (told["calls"], sum(told["counts"].values())) == (5, 50)
    app = handlers.directory / "app.py"
    app.write_text(HANDLER.replace("MENDED = False", "MENDED = True"))
    before = {each["n"]: each["id"] for each in sent(handlers.directory)}
    (handlers.directory / "sent.log").unlink()
    again = handlers.run("redrive", "run", "--no-report")
    assert again.code == 0, again
    after = {each["n"]: each["id"] for each in sent(handlers.directory)}
    assert after == {n: before[n] for n in bad}
    outcomes = latest(handlers)
    assert {outcome["status"] for outcome in outcomes.values()} == {"succeeded"}
    assert {outcomes[n]["batch"]["size"] for n in bad} == {len(bad)}


def test_a_run_past_its_deadline_is_resumed_in_batches(handlers: Inside) -> None:
    """Every record is sent once; the batches of the resume are new ones."""
    handlers.write("in.jsonl", 400)
    words = ("--local", "app.py:array", "--out", "run", "--no-report", "-j", "1")
    batched = ("--batch", "7", "--batch-shape", "array", "--deadline", "100ms")
    assert handlers.run("run", "a", "in.jsonl", *words, *batched).code == 5
    first = len(handlers.outcomes())
    assert first < 400
    done = handlers.run("resume", "run", "--no-report", "--deadline", "1m", "--batch", "9")
    assert done.code == 0, done
    assert sorted(each["n"] for each in sent(handlers.directory)) == list(range(400))
    outcomes = latest(handlers)
    assert [outcomes[n]["output"] for n in range(400)] == [2 * n for n in range(400)]
    assert max(outcome["batch"]["size"] for outcome in handlers.outcomes()[first:]) == 9


@pytest.mark.slow
def test_after_a_kill_the_records_of_a_batch_are_suspects_alike(shell: Shell) -> None:
    """None that may have run is sent again unasked; what never started is sent, in batches."""
    shell.write("in.jsonl", 3_000)
    batched = ("--batch", "10", "--batch-shape", "array")
    kill_in_the_middle(shell, "run", "steady", "in.jsonl", "--out", "run", *batched, "--no-report")
    resumed = shell.run("resume", "run", "--may-have-run", "skip", "--no-report")
    assert resumed.code == 1, resumed
    outcomes = shell.outcomes()
    assert sorted(outcome["seq"] for outcome in outcomes) == list(range(3_000))
    assert {outcome["status"] for outcome in outcomes} == {"succeeded", "unknown"}
    unknown = {outcome["seq"] for outcome in outcomes if outcome["status"] == "unknown"}
    assert 1 <= len(unknown) <= 20 * 10 + 256


@pytest.mark.slow
def test_killed_at_random_no_record_of_a_batch_is_lost_or_sent_twice(tmp_path: Path) -> None:
    """Ten runs, each killed and resumed until it ends, in at-most-once mode."""
    dice = random.Random(15)
    (tmp_path / "app.py").write_text(HANDLER)
    with EmulatorProcess(handler=f"{tmp_path / 'app.py'}:array", extra=["--quiet"]) as emulator:
        shell = Shell(tmp_path, emulator)
        shell.write("in.jsonl", 1_200)
        for round_number in range(10):
            out = f"run{round_number}"
            (tmp_path / "sent.log").unlink(missing_ok=True)
            words: tuple[str, ...] = ("run", "app", "in.jsonl", "--out", out, "--no-report", "-j", "4")
            words += ("--batch", "6", "--batch-shape", "array")
            for kill in range(2):
                process = shell.start(*words)
                with interrupted(process):
                    if kill == 0:
                        shell.wait_for_outcomes(1, out)
                    time.sleep(dice.uniform(0, 0.6) if kill == 0 else dice.uniform(0.2, 0.8))
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                words = ("resume", out, "--may-have-run", "skip", "--no-report")
            ended = shell.run(*words)
            assert ended.code in (0, 1), ended
            outcomes = shell.outcomes(out)
            assert sorted(outcome["seq"] for outcome in outcomes) == list(range(1_200))
            assert {outcome["status"] for outcome in outcomes} <= {"succeeded", "unknown"}
            times = Counter(each["n"] for each in sent(tmp_path))
            assert max(times.values()) == 1
            assert all(times[outcome["seq"]] for outcome in outcomes if outcome["status"] == "succeeded")


def test_a_plan_projects_calls_and_records(inside: Inside) -> None:
    """Three batches are the canary; the rest is judged by calls."""
    inside.write("in.jsonl", 1_000)
    words = ("plan", "steady", "in.jsonl", "--yes", "--out", "run", "--batch", "25", "--no-report")
    told = inside.run(*words, "--json")
    assert told.code == 0, told
    plan = json.loads(told.out)
    assert (plan["records"], plan["canary"], plan["canary_calls"]) == (1_000, 75, 3)
    assert (plan["projection"]["records"], plan["projection"]["calls"]) == (1_000, 40)
    assert plan["projection"]["duration_s"]["value"] < 1  # 40 calls of 50 ms at 20 at once, not 1,000
    said = inside.run(*words[:5], "other", *words[6:])
    assert "1,000 records in 40 calls, judged by the first 75 in 3 calls" in said.out
    done = inside.run("run", "steady", "in.jsonl", "--out", "run", "--batch", "25", "--no-report")
    assert done.code == 0, done
    assert len(inside.outcomes()) == 1_000
    assert json.loads(inside.run("report", "run", "--json").out)["calls"] == 40


REFUSED: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (("--batch", "2", "--durable"), {"batch": 2, "durable": True}, "batch"),
    (("--batch-shape", "sqs", "--durable"), {"batch_shape": "sqs", "durable": True}, "batch"),
    (("--batch", "2", "--durable-name", "n"), {"batch": 2, "durable_expr": "n"}, "durable_name"),
    (("--batch", "2", "--stream"), {"batch": 2, "stream": True}, "stream and batch"),
    (("--batch", "2", "--bisect"), {"batch": 2, "bisect": True}, "idempotent"),
    (("--bisect", "--idempotent"), {"bisect": True, "idempotent": True}, "bisect goes with batch"),
]


@pytest.mark.parametrize(("words", "options", "part"), REFUSED)
def test_what_does_not_go_with_batches_is_refused(
    inside: Inside, words: tuple[str, ...], options: dict[str, Any], part: str
) -> None:
    """In one line, before anything is made: by the command and by the library, path and iterable."""
    path = inside.write("in.jsonl", 2)
    inside.run("run", "fast", "in.jsonl", "--out", "run", *words).assert_one_line(2, part)
    assert not (inside.directory / "run").exists()
    for payloads in (path, [1, 2]):
        with pytest.raises(ConfigError, match=part):
            fanout.run("fast", payloads, out=inside.directory / "run", **options)
        assert not (inside.directory / "run").exists()


def test_a_resume_keeps_what_changes_payloads(inside: Inside) -> None:
    """The number of records may change; shape, input, reply, and whether there are batches may not."""
    inside.write("in.jsonl", 200)
    stop = ("--deadline", "100ms", "-j", "1", "--no-report")
    assert inside.run("run", "steady", "in.jsonl", "--out", "run", "--batch", "2", *stop).code == 5
    assert inside.run("run", "steady", "in.jsonl", "--out", "single", *stop).code == 5
    for words in (
        ("--batch-shape", "array"),
        ("--batch-input", "{}"),
        ("--batch-reply", "array"),
        ("--batch", "1"),
    ):
        inside.run("resume", "run", *words).assert_one_line(2, "cannot be changed now")
    inside.run("resume", "single", "--batch", "2").assert_one_line(2, "batch cannot be changed now")
    again = ("run", "steady", "in.jsonl", "--resume", "--out")
    inside.run(*again, "run").assert_one_line(2, "batch")
    inside.run(*again, "single", "--batch", "2").assert_one_line(2, "batch")
    done = inside.run("resume", "run", "--batch", "50", "--deadline", "1m", "--no-report")
    assert done.code == 0, done
    assert sorted(latest(inside)) == list(range(200))


def test_order_is_kept_for_a_listener() -> None:
    """With keep_order, whatever finishes first; the rest of a run that was stopped too."""
    seen: list[int] = []
    transport = Scripted(latency_s=lambda call: 0.0 if call.number % 5 else 0.05)
    report = fanout.run(
        "f",
        range(40),
        keep_order=True,
        on_outcome=lambda outcome: seen.append(outcome.seq),
        transport=transport,
        concurrency=8,
    )
    assert report.counts["succeeded"] == 40
    assert seen == list(range(40))


def test_order_and_formats_that_cannot_hold_are_refused(tmp_path: Path) -> None:
    """By the library: never ignored."""
    with pytest.raises(ConfigError, match="keep_order"):
        fanout.run("f", [1], keep_order=True, on_outcome=print, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="format"):
        fanout.run("f", [1], format="csv")
