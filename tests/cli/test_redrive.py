"""``fanout redrive``: failed records once more, from the journal alone; the latest outcome counts."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from shlex import quote, split
from typing import Any

import pytest

from tests.cli.inside import Inside
from tests.cli.running import HANDLER, Shell, end, interrupted, wait_until

MENDED = HANDLER.replace('event.get("fail")', 'event.get("never")')


def local_shell(directory: Path) -> Shell:
    """A directory with a handler that fails some records."""
    shell = Shell(directory)
    (directory / "app.py").write_text(HANDLER)
    return shell


@pytest.mark.parametrize("verb", [("report",), ("resume",)])
def test_no_redrive_is_advised_where_all_that_failed_can_never_be_sent(
    inside: Inside, verb: tuple[str, ...]
) -> None:
    """Neither it nor an export of inputs would find anything: the outcomes say what was wrong."""
    Path("in.jsonl").write_text('{"n":0}\n{broken\n{"n":NaN}\n{"n":3}\n')
    first = inside.run("run", "fast", "in.jsonl", "--out", "run")
    then = inside.run(*verb, "run")
    assert first.code == 1
    command = f"fanout export {quote(f'{Path.cwd()}/run')} --outcomes --status failed"
    for ended in (first, then):
        assert command in ended.err + ended.out
        assert "fanout redrive" not in ended.err + ended.out
    assert len(inside.run(*split(command)[1:]).lines) == 2
    Path("in.jsonl").write_text('{"n":0}\n{"n":1}\n{broken\n')
    mixed = inside.run("run", "errors", "in.jsonl", "--out", "mixed")
    assert "fanout redrive " in mixed.err
    assert f"{quote(f'{Path.cwd()}/mixed')} --status failed" in mixed.err


def latest(shell: Shell) -> dict[int, dict[str, Any]]:
    """The last outcome of each record."""
    return {outcome["seq"]: outcome for outcome in shell.outcomes()}


def test_a_redrive_sends_what_failed_and_keeps_the_history(tmp_path: Path) -> None:
    """By status and error type; as a new generation in the same directory."""
    shell = local_shell(tmp_path)
    records = [{"n": n, "fail": n % 3 == 0} for n in range(12)]
    lines = [
        str(record).replace("'", '"').replace("True", "true").replace("False", "false") for record in records
    ]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, "{broken"]))
    local = ("--local", "app.py:handler", "--local-concurrency", "2")
    first = shell.run("run", "demo", "in.jsonl", "--out", "run", *local, "--key", "n")
    assert first.code == 1
    assert shell.state()["counts"] == {"succeeded": 8, "function_error": 4, "rejected": 1}
    assert f"fanout redrive {quote(f'{shell.directory}/run')}\n" in first.err

    (tmp_path / "in.jsonl").unlink()  # the journal is enough
    none = shell.run("redrive", "run", "--error-type", "NoSuchError")
    assert "no record to send again" in none.err
    assert len(shell.outcomes()) == 13

    (tmp_path / "app.py").write_text(MENDED)
    second = shell.run("redrive", "run", "--status", "function_error", "--error-type", "ValueError")
    assert second.code == 1  # the broken line is still rejected
    outcomes = shell.outcomes()
    assert len(outcomes) == 13 + 4
    again = [outcome for outcome in outcomes if outcome.get("generation") == 1]
    assert sorted(outcome["seq"] for outcome in again) == [0, 3, 6, 9]
    assert {outcome["status"] for outcome in again} == {"succeeded"}
    assert sorted(outcome["key"] for outcome in again) == ["0", "3", "6", "9"]
    assert Counter(o["status"] for o in latest(shell).values()) == {"succeeded": 12, "rejected": 1}
    state = shell.state()
    assert (state["state"], state["counts"]) == ("finished", {"succeeded": 12, "rejected": 1})

    third = shell.run("redrive", "run")  # a line that is no JSON can never be sent: it stays rejected
    assert third.code == 1
    assert "no record to send again" in third.err
    rejected = [outcome for outcome in shell.outcomes() if outcome["status"] == "rejected"]
    assert [(each["line"], each["is_fault"]) for each in rejected] == [(13, True)]
    shell.run("redrive", "run", "--status", "succeeded").assert_one_line(2, "status is 'succeeded'")


def test_a_redrive_that_was_cut_off_goes_on_by_resume(shell: Shell) -> None:
    """What it had sent again is not sent a third time; what the first run left is sent too."""
    shell.write("in.jsonl", 300)
    run = shell.run("run", "errors", "in.jsonl", "--out", "run", "--take", "200", "-j", "20")
    assert run.code == 1
    # The same directory, now with a function that works, slowly.
    state_path = shell.directory / "run" / "run.json"
    state_path.write_text(state_path.read_text().replace('"errors"', '"steady"'))
    assert shell.emulator is not None
    shell.emulator.reset()
    process = shell.start("redrive", "run", "-j", "3")
    with interrupted(process):
        shell.wait_for_outcomes(220)
        process.send_signal(signal.SIGINT)
        cut = end(process)
    assert cut.code == 130
    on = f"fanout resume {quote(f'{shell.directory}/run')}"
    assert f"{on}\n" in cut.err
    shell.run("redrive", "run").assert_one_line(2, f"go on with `{on}` first")
    resumed = shell.run("resume", "run", "-j", "20")
    assert resumed.code == 0, resumed.err
    outcomes = latest(shell)
    assert sorted(outcomes) == list(range(200))
    assert {outcome["status"] for outcome in outcomes.values()} == {"succeeded"}
    assert set(shell.executions().values()) == {1}
    assert shell.state()["state"] == "finished"
    assert shell.state()["counts"] == {"succeeded": 200}


@pytest.mark.parametrize("choice", ["skip", "send"])
def test_a_redrive_that_was_killed_goes_on_as_may_have_run_says(shell: Shell, choice: str) -> None:
    """What it may have sent becomes unknown and is not sent, or is sent once more; the rest is sent once."""
    shell.write("in.jsonl", 200)
    assert shell.run("run", "errors", "in.jsonl", "--out", "run", "--no-report", "-j", "20").code == 1
    state_path = shell.directory / "run" / "run.json"
    state_path.write_text(state_path.read_text().replace('"errors"', '"steady"'))
    assert shell.emulator is not None
    shell.emulator.reset()
    process = shell.start("redrive", "run", "-j", "3", "--no-report")
    with interrupted(process):
        shell.wait_for_outcomes(220)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    emulator = shell.emulator
    wait_until(lambda: emulator.stats()["in_flight"] == 0)
    again = {each["seq"] for each in shell.outcomes() if each.get("generation")}
    ran = set(shell.executions())
    resumed = shell.run("resume", "run", "-j", "20", "--may-have-run", choice, "--no-report")
    outcomes = latest(shell)
    assert sorted(outcomes) == list(range(200))
    unknown = {seq for seq, outcome in outcomes.items() if outcome["status"] == "unknown"}
    executions = shell.executions()
    if choice == "skip":
        assert resumed.code == 1
        assert {int(key) for key in ran} - again <= unknown
        assert 0 < len(unknown) <= 3 + 16
        assert set(executions.values()) == {1}
        assert len(executions) == 200 - len(unknown - {int(key) for key in ran})
    else:
        assert (resumed.code, unknown) == (0, set())
        assert {int(key) for key, count in executions.items() if count > 1} == {int(k) for k in ran} - again
        assert len(executions) == 200


def test_a_redrive_of_an_interrupted_run_forgets_nothing_of_it(shell: Shell) -> None:
    """What certainly was not sent before the redrive is still known as such after it."""
    shell.write("in.jsonl", 600)
    words = ("-j", "10", "--retries", "50", "--rate", "500")
    process = shell.start("run", "mixed", "in.jsonl", "--out", "run", *words)
    with interrupted(process):
        shell.wait_for_outcomes(60)
        process.send_signal(signal.SIGINT)
        assert end(process).code == 130
    not_sent = shell.state()["not_sent"]
    assert not_sent  # some waited for another attempt
    failed = sum(outcome["status"] == "function_error" for outcome in shell.outcomes())
    assert failed
    shell.run("redrive", "run", "-j", "10")
    assert shell.state()["state"] == "interrupted"
    resumed = shell.run("resume", "run", "-j", "20", "--rate", "9999")
    assert "may have run" not in resumed.err
    outcomes = latest(shell)
    assert sorted(outcomes) == list(range(600))
    assert "unknown" not in {outcome["status"] for outcome in outcomes.values()}


def test_a_redrive_that_died_while_it_started_can_be_begun_again(shell: Shell) -> None:
    """run.json says that a redrive is going on, and nothing of it was sent: both verbs go on."""
    shell.write("in.jsonl", 3)
    assert shell.run("run", "errors", "in.jsonl", "--out", "run").code == 1
    assert shell.run("redrive", "run", "--profile", "nobody").code == 2
    state_file = shell.directory / "run" / "run.json"
    assert json.loads(state_file.read_text())["redrive"]
    assert shell.run("redrive", "run").code == 1
    assert set(shell.executions().values()) == {2}
    assert json.loads(state_file.read_text())["redrive"] is None


def test_the_spending_cap_of_a_redrive_counts_the_whole_run(shell: Shell) -> None:
    """What the run has spent already leaves nothing for it: one call at the most."""
    shell.write("in.jsonl", 60)
    assert shell.run("run", "errors", "in.jsonl", "--out", "run", "--no-report").code == 1
    redriven = shell.run("redrive", "run", "--max-cost", "0.000001", "--no-report")
    assert redriven.code == 5
    assert len([outcome for outcome in shell.outcomes() if outcome.get("generation")]) <= 1


def test_a_redrive_of_a_killed_run_knows_what_was_read(inside: Inside) -> None:
    """A kill leaves run.json behind its journal: what the journal knows was read, outcome or not."""
    inside.write("in.jsonl", 60)
    assert inside.run("run", "sometimes", "in.jsonl", "--out", "run", "--no-report", "-j", "5").code == 1
    folder = inside.directory / "run"
    lines = (folder / "outcomes.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["seq"] not in (3, 50)][:40]
    (folder / "outcomes.jsonl").write_bytes(b"".join(kept))
    state = inside.state() | {
        "state": "running",
        "records_read": 10,
        "counts": {},
        "is_input_exhausted": None,
    }
    (folder / "run.json").write_text(json.dumps(state))
    read = max(json.loads(line)["seq"] for line in kept) + 1
    for verb in ("redrive", "redrive"):
        inside.run(verb, "run", "--no-report", "--status", "function_error")
        state = inside.state()
        assert state["records_read"] == read
        report = json.loads(inside.run("report", "run", "--json").out)
        assert (report["records"], report["pending"]) == (read, read - sum(state["counts"].values()))
        assert report["pending"] > 0


def test_a_redrive_of_a_killed_run_that_finds_nothing_says_what_goes_on_with_it(inside: Inside) -> None:
    """It holds the run's lock itself: that is no sign of a run that goes on, to be watched or tuned."""
    inside.write("in.jsonl", 3)
    assert inside.run("run", "fast", "in.jsonl", "--out", "run", "--no-report").code == 0
    (inside.directory / "run" / "run.json").write_text(json.dumps(inside.state() | {"state": "running"}))
    redriven = inside.run("redrive", "run")
    assert "interrupted: its process was killed" in redriven.err
    assert "fanout resume" in redriven.err
    assert "fanout watch" not in redriven.err


def test_a_redrive_of_a_run_that_has_more_to_do_does_not_exit_0(inside: Inside) -> None:
    """All that was sent again has succeeded now; a record that was read has no outcome for all that."""
    inside.write("in.jsonl", 6)
    inside.run("run", "errors", "in.jsonl", "--out", "run", "--no-report", "--take", "3")
    path = inside.directory / "run/run.json"
    state = inside.state() | {"state": "running", "records_read": 5}
    path.write_text(json.dumps(state).replace('"errors"', '"fast"'))
    ended = inside.run("redrive", "run", "--no-report", "--json", "-q")
    report = json.loads(ended.out)
    assert (report["counts"]["succeeded"], report["pending"], report["state"]) == (3, 2, "interrupted")
    assert (ended.code, report["exit_code"], inside.state()["exit_code"]) == (5, 5, 5)


def test_a_redrive_of_a_run_that_had_enough_exits_0(inside: Inside) -> None:
    """That end was asked for, and run.json goes on saying so."""
    inside.write("in.jsonl", 6)
    inside.run("run", "errors", "in.jsonl", "--out", "run", "--no-report", "--take", "3")
    state = inside.state() | {"state": "halted", "halted_by": "enough", "records_read": 5}
    (inside.directory / "run/run.json").write_text(json.dumps(state).replace('"errors"', '"fast"'))
    assert inside.run("redrive", "run", "--no-report", "-q").code == 0
    assert (inside.state()["state"], inside.state()["halted_by"]) == ("halted", "enough")
