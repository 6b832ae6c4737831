"""Event, DryRun and preflight: what is said, and what is not claimed."""

from __future__ import annotations

from datetime import datetime

import pytest

import fanout
from fanout.emulator import EmulatorProcess
from tests.cli.running import Shell

BOTH = pytest.mark.parametrize("transport", ["direct", "sdk"])


@BOTH
def test_events_are_accepted_and_not_called_executed(at_emulator: EmulatorProcess, transport: str) -> None:
    """Request ids to find them by, the 1 MB limit, and a clear word that they run later."""
    outcomes: dict[int, fanout.Outcome] = {}
    report = fanout.run(
        "sim",
        [{"n": 1}, {"x": "y" * 1_048_576}, {"n": 2}],
        invocation_type="Event",
        transport=transport,
        on_outcome=lambda outcome: outcomes.update({outcome.seq: outcome}),
    )
    assert (report.exit_code, report.counts["accepted"], report.counts["rejected"]) == (1, 2, 1)
    assert outcomes[0].request_id != outcomes[2].request_id is not None
    assert (outcomes[0].http_status, outcomes[0].output) == (202, None)
    error = outcomes[1].error
    assert error is not None
    assert (error.type, "an Event call may have 1,048,576" in error.message) == ("PayloadTooLarge", True)
    assert "accepted is not executed" in report.render(100)


def test_accepted_is_a_success_of_the_command(user: Shell) -> None:
    """Exit code 0, and the word that nothing has been executed yet."""
    done = user.run("run", "sim", "-", "--invocation-type", "Event", "--out", "run", stdin=b"1\n2\n")
    assert (done.code, "accepted is not executed" in done.err) == (0, True)


def test_events_are_bound_by_the_rate_that_is_asked_for(user: Shell) -> None:
    """Lambda queues them as fast as they come; only ``--rate`` slows them down."""
    path = user.write("in.jsonl", 60)
    took: list[float] = []
    for words in (["--rate", "50"], []):
        done = user.run("run", "sim", path, "--invocation-type", "Event", "--out", "-", *words)
        assert {line["status"] for line in done.lines} == {"accepted"}
        began = sorted(datetime.fromisoformat(line["started_at"]) for line in done.lines)
        took.append((began[-1] - began[0]).total_seconds())
    assert took[0] > 1 > took[1]


@BOTH
def test_a_dry_run_checks_and_executes_nothing(at_emulator: EmulatorProcess, transport: str) -> None:
    """``valid`` for each record; a function that is not there stops the run."""
    at_emulator.reset()
    report = fanout.run("sim", range(3), invocation_type="DryRun", transport=transport)
    assert (report.exit_code, report.counts["valid"]) == (0, 3)
    assert "nothing was executed" in report.render(100)
    assert at_emulator.stats()["executions"] == 0
    report = fanout.run("nobody", range(3), invocation_type="DryRun", transport=transport)
    assert (report.exit_code, report.state) == (4, "fatal")


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
