"""Runs over a queue that are killed, and go on: one outcome for each message, and none run twice unasked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.running import Shell, end, interrupted
from tests.queues.queue_process import QueueProcess

MESSAGES = 600
RUN = ("run", "jobs", "sqs://jobs", "--out", "run", "-j", "20", "--key", "id", "--no-report")
RESUME = ("resume", "run", "--no-report", "--may-have-run")


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    """A function of 20 ms that counts its executions by message."""
    with EmulatorProcess(simulate=["name=jobs,latency=20ms"], extra=["--count-by", "id"]) as found:
        yield found


@pytest.fixture
def queue() -> Iterator[QueueProcess]:
    """600 messages."""
    with QueueProcess() as found:
        found.fill(MESSAGES)
        yield found


def kill(shell: Shell, process: subprocess.Popen[bytes], outcomes: int) -> None:
    """End the whole process group once so many lines are there."""
    with interrupted(process):
        shell.wait_for_outcomes(outcomes)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("choice", "waits"), [("skip", False), ("send", False), ("send", True)])
def test_six_hundred_messages_have_six_hundred_outcomes(
    tmp_path: Path, emulator: EmulatorProcess, queue: QueueProcess, choice: str, waits: bool
) -> None:
    """The run is killed, then its resume, and the next resume ends it; the queue holds what is unknown.

    With ``waits`` the messages of the killed runs come again when their minute is over, as with SQS.
    """
    emulator.reset()
    shell = Shell(tmp_path, emulator)
    shell.environment["AWS_ENDPOINT_URL_SQS"] = queue.url
    kill(shell, shell.start(*RUN, "--empty-after", "2s"), 150)
    if not waits:
        queue.pass_time()
    kill(shell, shell.start(*RESUME, choice), 300)
    if not waits:
        queue.pass_time()
    done = end(shell.start(*RESUME, choice), within_s=110)
    assert done.code == (0 if choice == "send" else 1), done.err

    outcomes = [json.loads(line) for line in (tmp_path / "run/outcomes.jsonl").read_bytes().splitlines()]
    assert Counter(each["key"] for each in outcomes) == Counter(map(str, range(MESSAGES)))
    unknown = {each["key"] for each in outcomes if each["status"] == "unknown"}
    executions = emulator.stats()["executions_by_key"]
    repeated = {key for key, count in executions.items() if count > 1}
    if choice == "skip":
        assert not repeated
    else:
        assert not unknown
    # What a kill can leave without its line: calls in flight, 16 ahead of them, and replies of 50 ms or, on a
    # machine that is busy, of some more.
    assert len(unknown | repeated) <= 2 * (20 + 16 + 100)
    assert {key for key in map(str, range(MESSAGES)) if key not in executions} <= unknown
    assert queue.left() == unknown
