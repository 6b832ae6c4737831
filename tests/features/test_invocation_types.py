"""Event, DryRun and preflight: what is said, and what is not claimed."""

from __future__ import annotations

import json
import time

import pytest

from tests.cli.running import Shell

BOTH = pytest.mark.parametrize("transport", ["direct", "sdk"])


@BOTH
def test_events_are_accepted_and_not_called_executed(user: Shell, transport: str) -> None:
    """Request ids to find them by, the 1 MB limit, and a clear word that they run later."""
    large = json.dumps({"x": "y" * 1_048_576})
    (user.directory / "in.jsonl").write_text(f'{{"n":1}}\n{large}\n{{"n":2}}\n')
    words = ["--invocation-type", "Event", "--out", "run", "--transport", transport]
    done = user.run("run", "sim", "in.jsonl", *words)
    assert done.code == 1
    accepted = [outcome for outcome in user.outcomes() if outcome["status"] == "accepted"]
    assert len({outcome["request_id"] for outcome in accepted}) == 2
    assert all("output" not in outcome for outcome in accepted)
    (refused,) = [outcome for outcome in user.outcomes() if outcome["status"] == "rejected"]
    assert refused["error"]["type"] == "PayloadTooLarge"
    assert "an Event call may have 1,048,576" in refused["error"]["message"]
    assert "accepted is not executed" in done.err
    assert user.run("run", "sim", "-", *words[:2], "--out", "two", stdin=b"1\n2\n").code == 0


def test_events_are_bound_by_the_rate_that_is_asked_for(user: Shell) -> None:
    """Lambda queues them as fast as they come; only ``--rate`` slows them down."""
    path = user.write("in.jsonl", 60)
    took: list[float] = []
    for words in (["--rate", "50"], []):
        begun_s = time.monotonic()
        done = user.run("run", "sim", path, "--invocation-type", "Event", "--out", "-", *words)
        took.append(time.monotonic() - begun_s)
        assert {line["status"] for line in done.lines} == {"accepted"}
    assert took[0] - took[1] > 0.7


@BOTH
def test_a_dry_run_checks_and_executes_nothing(user: Shell, transport: str) -> None:
    """``valid`` for each record; a function that is not there stops the run."""
    assert user.emulator is not None
    user.emulator.reset()
    words = ["--invocation-type", "DryRun", "--transport", transport, "--out"]
    done = user.run("run", "sim", user.write("in.jsonl", 3), *words, "run")
    assert (done.code, [outcome["status"] for outcome in user.outcomes()]) == (0, ["valid"] * 3)
    assert "nothing was executed" in done.err
    assert user.emulator.stats()["executions"] == 0
    done = user.run("run", "nobody", "in.jsonl", *words, "other")
    assert (done.code, user.state("other")["state"]) == (4, "fatal")


def test_preflight_stops_before_the_first_call(user: Shell) -> None:
    """No such function, or a call that is not permitted: exit code 4, one line, nothing executed."""
    assert user.emulator is not None
    path = user.write("in.jsonl", 3)
    user.run("run", "nobody", path, "--preflight", "--out", "x").assert_one_line(
        4, "nobody", "no such function"
    )
    user.emulator.reset()
    user.emulator.set_limits(deny=["Invoke"])
    try:
        user.run("run", "sim", path, "--preflight", "--out", "x").assert_one_line(4, "sim", "AccessDenied")
    finally:
        user.emulator.set_limits(deny=[])
    assert user.emulator.stats()["executions"] == 0
    assert not (user.directory / "x").exists()
    assert user.run("run", "sim", path, "--preflight", "--out", "x", "-q").code == 0
