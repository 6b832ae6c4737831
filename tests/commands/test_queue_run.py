"""Runs over a queue: what succeeded is deleted, what failed stays, nothing is deleted without its line."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.cli import main
from fanout.errors import ConfigError
from fanout.journal import OUTCOMES_FILE, iter_outcomes
from tests.journal.reads import journal_reads
from tests.queues.stand_in import Queue, serving
from tests.scripted import Call, Scripted, function_error, ok

pytestmark = pytest.mark.usefixtures("keys")


def filled(count: int) -> Queue:
    queue = Queue()
    for number in range(count):
        queue.send({"n": number})
    return queue


async def run(queue: Queue, out: Path, patch: pytest.MonkeyPatch, **options: Any) -> fanout.RunReport:
    """``fanout.run`` over the queue, in a thread."""
    options = {"transport": Scripted(), "concurrency": 20, "empty_after": 1, "report": False, **options}
    async with serving(queue) as url:
        patch.setenv("AWS_ENDPOINT_URL_SQS", url)
        return await asyncio.to_thread(fanout.run, "f", "sqs://jobs", out=out, **options)


def counted(report: fanout.RunReport) -> dict[str, int]:
    return {status: count for status, count in report.counts.items() if count}


def failing(call: Call) -> Any:
    return function_error() if call.json()["n"] % 10 == 0 else ok(call.body)


async def test_a_queue_is_drained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is one record; those that succeeded are gone, and those that failed are visible again."""
    queue = filled(60)
    report = await run(queue, tmp_path / "run", monkeypatch, transport=Scripted(failing))
    assert counted(report) == {"succeeded": 54, "function_error": 6}
    assert report.exit_code == 1
    assert len(queue.deleted) == 54
    assert sorted(json.loads(each.body)["n"] for each in queue.visible) == [0, 10, 20, 30, 40, 50]
    assert queue.actions["DeleteMessageBatch"] >= 6


async def test_nothing_is_deleted_whose_line_is_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power fails at each delete: what was never synced is gone, and no message with it."""
    queue = filled(40)
    out = tmp_path / "run"
    synced = {"bytes": 0}
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        if os.path.samestat(os.fstat(descriptor), (out / OUTCOMES_FILE).stat()):
            synced["bytes"] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", noted)
    lost: list[str] = []
    delete: Callable[[dict[str, Any]], str | None] = queue._delete

    def checked(entry: dict[str, Any]) -> str | None:
        message_id = queue._by_receipt.get(entry["ReceiptHandle"])
        if message_id in queue.messages:
            number = json.loads(queue.messages[message_id].body)["n"]
            lines = (out / OUTCOMES_FILE).read_bytes()[: synced["bytes"]].splitlines()
            outcomes = [json.loads(line) for line in lines]
            if not any(each["output"]["n"] == number for each in outcomes):
                lost.append(message_id)
        return delete(entry)

    monkeypatch.setattr(queue, "_delete", checked)
    report = await run(queue, out, monkeypatch)
    assert report.exit_code == 0
    assert len(queue.deleted) == 40
    assert lost == []


async def test_a_stopped_run_goes_on_under_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold ends the first session; a resume drains the rest, and no record has two outcomes."""
    queue = filled(40)
    out = tmp_path / "run"
    first = await run(
        queue, out, monkeypatch, transport=Scripted(failing, latency_s=0.01), concurrency=2,
        tolerated_failure_count=0,
    )  # fmt: skip
    assert first.exit_code == 3
    assert len(queue.visible) == len(queue.messages)
    with journal_reads() as reads:
        second = await run(queue, out, monkeypatch, resume=True, tolerated_failure_count=100)
    assert len(reads) == 1
    outcomes = list(iter_outcomes(out, latest=False))
    assert sorted(outcome.seq for outcome in outcomes) == list(range(40))
    assert second.counts["succeeded"] >= 36
    assert len(queue.deleted) == second.counts["succeeded"]


async def test_a_run_is_called_finished_once_its_messages_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between leaves a run that a resume goes on with; no later verb would delete them."""
    queue = filled(40)
    out = tmp_path / "run"
    states: list[str] = []
    act = queue.act

    def noted(action: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if action.startswith(("DeleteMessage", "ChangeMessageVisibility")) and (out / "run.json").exists():
            states.append(json.loads((out / "run.json").read_text())["state"])
        return act(action, asked)

    monkeypatch.setattr(queue, "act", noted)
    report = await run(queue, out, monkeypatch, transport=Scripted(failing))
    assert report.state == "finished"
    assert len(queue.deleted) == report.counts["succeeded"]
    assert set(states) == {"running"}
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


async def test_take_leaves_the_rest_in_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of them, and the others are visible."""
    queue = filled(35)
    report = await run(queue, tmp_path / "run", monkeypatch, take=10)
    assert (counted(report), report.exit_code) == ({"succeeded": 10}, 0)
    assert len(queue.visible) == 25


async def test_a_redrive_of_what_was_left_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is in the queue: it would be run twice. The command that runs it again is named."""
    queue = filled(11)
    out = tmp_path / "run"
    report = await run(queue, out, monkeypatch, transport=Scripted(failing), select="{n: n}", idempotent=True)
    from fanout.commands.changes import Changes
    from fanout.commands.redrive import redrive
    from fanout.runs.audience import Audience

    command = "fanout run f sqs://jobs --select '{n: n}' --idempotent"  # and not the records unselected
    assert any(each.startswith(command) for each in report.next_commands)
    with pytest.raises(ConfigError, match=re.escape(command)):
        await redrive(out, Changes(), Audience())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fsync": "never"}, "fsync"),
        ({"invocation_type": "DryRun"}, "DryRun"),
        ({"format": "csv"}, "format"),
        ({"out": None}, "directory"),
    ],
)
async def test_what_cannot_hold_for_a_queue_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], says: str
) -> None:
    """Before anything is received or created."""
    queue = filled(3)
    out = options.pop("out", tmp_path / "run")
    with pytest.raises(ConfigError, match=says):
        await run(queue, out, monkeypatch, **options)
    assert queue.actions["ReceiveMessage"] == 0
    assert not (tmp_path / "run").exists()


async def test_messages_go_on_as_in_their_triggers_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own ids, bodies, receive counts and attributes; what the reply names stays in the queue."""
    queue = filled(23)
    queue.send("no JSON at all", colour="red")

    def named(call: Call) -> Any:
        records = call.json()["Records"]
        failed = [each["messageId"] for each in records if each["body"] == "no JSON at all"]
        return ok(json.dumps({"batchItemFailures": [{"itemIdentifier": each} for each in failed]}).encode())

    ids = set(queue.messages)
    transport = Scripted(named)
    report = await run(
        queue,
        tmp_path / "run",
        monkeypatch,
        transport=transport,
        batch=10,
        batch_shape="sqs",
        batch_wait=0.05,
    )
    assert counted(report) == {"succeeded": 23, "function_error": 1}
    sent = [each for body in transport.bodies for each in body["Records"]]
    assert {each["messageId"] for each in sent} == ids
    assert {each["attributes"]["ApproximateReceiveCount"] for each in sent} == {"1"}
    assert {each["eventSourceARN"] for each in sent} == {"arn:aws:sqs:eu-west-1:123456789012:jobs"}
    (red,) = [each for each in sent if each["messageAttributes"]]
    assert red["messageAttributes"]["colour"]["stringValue"] == "red"
    assert [each.body for each in queue.messages.values()] == ["no JSON at all"]
    assert max(len(body["Records"]) for body in transport.bodies) > 1


def test_a_queue_is_the_only_input_of_its_run(tmp_path: Path) -> None:
    """With a file beside it there would be two ways of counting."""
    path = tmp_path / "in.jsonl"
    path.write_text("{}\n")
    ways = [[str(path), "sqs://jobs"], ["sqs://jobs", "sqs://more"]]
    for words in ways:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr("sys.argv", ["fanout", "run", "f", *words, "--out", str(tmp_path / "run"), "-q"])
            main()
        assert end.value.code == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["follow", "empty_after"])
def test_options_of_queues_are_refused_elsewhere(tmp_path: Path, name: str) -> None:
    """Never ignored: for a path and for an iterable alike."""
    path = tmp_path / "in.jsonl"
    path.write_text("{}\n")
    ways: list[Any] = [str(path), [{}]]
    for payloads in ways:
        with pytest.raises(ConfigError, match=name):
            fanout.run("f", payloads, transport=Scripted(), concurrency=1, **{name: 1})  # type: ignore[arg-type]


async def test_a_missing_permission_is_found_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt that cannot exist tells: no message was received, and no directory is left."""
    queue = filled(3)
    queue.faults["DeleteMessage"] = lambda number: (403, "AccessDenied")
    report = await run(queue, tmp_path / "run", monkeypatch)
    assert report.exit_code == 4
    assert "sqs:DeleteMessage" in report.run["message"]
    assert queue.actions["ReceiveMessage"] == 0
    assert not (tmp_path / "run").exists()


async def test_throttles_and_lost_replies_of_the_queue_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second request is throttled, fails, or loses its connection; every message has one outcome."""
    queue = filled(40)
    answers = [(400, "RequestThrottled"), (500, "InternalFailure")]
    for action in ("DeleteMessageBatch", "ChangeMessageVisibilityBatch", "ReceiveMessage"):
        queue.faults[action] = lambda number: answers[number // 2 % 2] if number % 2 else None
    report = await run(queue, tmp_path / "run", monkeypatch)
    assert counted(report) == {"succeeded": 40}
    assert len(queue.deleted) == 40


async def test_a_queue_that_is_deleted_in_mid_run_ends_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was received keeps its outcomes; the state can be gone on with."""
    queue = filled(200)
    queue.faults["ReceiveMessage"] = lambda number: (400, "QueueDoesNotExist") if number > 3 else None
    report = await run(queue, tmp_path / "run", monkeypatch, concurrency=2)
    assert report.exit_code == 2
    assert "sqs://jobs is gone" in str(report.run.get("message"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("format", "csv"),
        ("items", "/a"),
        ("csv_delimiter", ";"),
        ("csv_header", "a,b"),
        ("encoding", "latin-1"),
        ("request_payer", True),
        ("nan", "null"),
    ],
)
def test_options_of_files_are_refused(tmp_path: Path, option: str, value: Any) -> None:
    """A message is JSON or text: nothing else of an input has a meaning."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError, match=option):
        fanout.run("f", "sqs://jobs", out=tmp_path / "run", transport=Scripted(), concurrency=1, **options)
    assert not (tmp_path / "run").exists()
