"""``fanout tune`` and ``Dispatcher.tune``: a run changes while it goes on, and says so."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.journal import RunDir
from fanout.runs.tuning import TuneInbox, TuneRequest, tuning_of
from tests.cli.inside import Inside
from tests.cli.running import Shell, end, interrupted, wait_until
from tests.scripted import Scripted


def test_a_run_is_changed_from_another_process(shell: Shell) -> None:
    """Concurrency, pause and deadline take effect, are confirmed and kept; stale ones are not."""
    shell.write("in.jsonl", 5_000)
    process = shell.start("run", "slow", "in.jsonl", "-j", "2", "--out", "run", "--no-report")
    with interrupted(process):
        shell.wait_for_outcomes(1)
        tuned = shell.run("tune", "run", "-j", "30", "--max-cost", "9", "--json")
        assert tuned.code == 0, tuned
        assert (json.loads(tuned.out)["concurrency"], json.loads(tuned.out)["max_cost"]) == (30, 9.0)
        shell.wait_for_outcomes(25)
        paused = shell.run("tune", "run", "--pause")
        assert paused.code == 0, paused
        assert "paused, concurrency 30" in paused.out
        assert shell.emulator is not None
        wait_until(lambda: shell.emulator is not None and shell.emulator.stats()["in_flight"] == 0)
        held = len(shell.outcomes())
        assert "in force now: concurrency 30, rate " in shell.run("tune", "run", "--continue").out
        above = shell.run("tune", "run", "-j", "99999", "--rate", "1e9").out
        assert "concurrency: fanout tune 99999, bounded by the " in above
        assert "rate: 1e+09, bounded by the " in above
        shell.wait_for_outcomes(held + 1)
        shell.run("tune", "run", "-j", "@file").assert_one_line(2, "concurrency is '@file'")
        assert shell.run("tune", "run", "--deadline", "100ms").code == 0
        assert end(process).code == 5
    state = shell.state()
    assert [set(each) - {"at"} for each in state["tuned"]] == [
        {"concurrency", "max_cost"},
        {"pause"},
        {"pause"},
        {"concurrency", "rate"},
        {"deadline"},
    ]
    assert (state["options"]["concurrency"], "pause" in state["options"]) == ("99999", False)
    shell.run("tune", "run", "-j", "5").assert_one_line(2, "the run in run has ended")
    assert not (shell.directory / "run" / "tune.json").exists()


def test_bad_changes_are_refused(inside: Inside) -> None:
    """Before anything is written."""
    inside.write("in.jsonl", 1)
    inside.run("run", "fast", "in.jsonl", "--out", "run", "--no-report")
    inside.run("tune", "run").assert_one_line(2, "nothing to change")
    inside.run("tune", "run", "--pause", "--continue").assert_one_line(2, "exclude each other")
    inside.run("tune", "run", "-j", "0").assert_one_line(2, "concurrency is '0'")
    inside.run("tune", "run", "--rate", "-1").assert_one_line(2, "rate is -1.0")
    inside.run("tune", "elsewhere", "-j", "1").assert_one_line(2, "no such directory")


def test_what_an_earlier_session_left_is_never_applied(tmp_path: Path) -> None:
    """A tune written to the directory of a run that died is removed, not found at tomorrow's resume."""
    TuneRequest(tmp_path, tuning_of({"concurrency": 3})).send()
    applied: list[Any] = []

    def tune(changes: Any) -> dict[str, Any]:
        applied.append(changes)
        return {}

    inbox = TuneInbox(tmp_path)
    inbox.poll(tune)
    assert applied == []
    request = TuneRequest(tmp_path, tuning_of({"concurrency": 4}))
    request.send()
    assert request.answer() is None
    inbox.poll(tune)
    assert applied == [{"concurrency": 4}]
    answer = request.answer()
    assert answer is not None
    assert answer.in_force == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing to change"),
        ({"select": "x"}, "select cannot be changed"),
        ({"pause": "yes"}, "pause is 'yes'"),
        ({"max_cost": 0}, "max_cost is 0"),
        ({"max_cost": "much"}, "max_cost is 'much'"),
        ({"retries": -1}, "retries is -1"),
    ],
)
def test_what_is_no_change(changes: dict[str, Any], said: str) -> None:
    """ConfigError, naming it: the live page hands on whatever it is sent."""
    with pytest.raises(fanout.ConfigError, match=said):
        tuning_of(changes)


async def test_a_dispatcher_is_tuned() -> None:
    """In the library: more at once, and a pause that holds new calls."""
    transport = Scripted(latency_s=0.01)
    async with fanout.Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        in_force = dispatcher.tune(concurrency=8, retries=1)
        assert (in_force["concurrency"], in_force["retries"], in_force["pause"]) == (8, 1, False)
        outcomes = [outcome async for outcome in dispatcher.map(range(40))]
        assert len(outcomes) == 40
        assert transport.most_in_flight > 1
        with pytest.raises(fanout.ConfigError, match="concurrency is 0"):
            dispatcher.tune(concurrency=0)
        assert dispatcher.options.concurrency == 8


def test_a_paused_run_of_the_library_goes_on(tmp_path: Path) -> None:
    """By the files, from a thread of the same program."""
    out = tmp_path / "run"
    is_tuned = threading.Event()

    async def payloads() -> AsyncIterator[int]:
        for number in range(300):
            while number == 200 and not is_tuned.is_set():
                await asyncio.sleep(0.01)
            yield number

    def tune() -> None:
        outcomes = out / "outcomes.jsonl"
        wait_until(lambda: outcomes.exists() and outcomes.stat().st_size > 0)
        for changes in ({"pause": True}, {"pause": False, "concurrency": 50}):
            request = TuneRequest(out, tuning_of(changes))
            request.send()
            wait_until(lambda: request.answer() is not None)  # noqa: B023 - is called here
        is_tuned.set()

    thread = threading.Thread(target=tune)
    thread.start()
    report = fanout.run(
        "f", payloads(), transport=Scripted(latency_s=0.02), concurrency=5, out=out, report=False
    )
    thread.join(100)
    assert (report.ok, report.records) == (True, 300)


VERBS = {
    "run": ["run", "steady", "in.jsonl", "--out", "run", "-j", "1", "--no-report"],
    "plan": ["plan", "steady", "in.jsonl", "--out", "run", "-j", "1", "--canary", "100", "--yes"],
    "resume": ["resume", "run", "--take", "100"],
    "redrive": ["redrive", "run", "-j", "1", "--rate", "20"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_sends_is_tuned(inside: Inside, verb: str) -> None:
    """A run, the canary of a plan, a resume and a redrive: each confirms, and keeps what was changed."""
    inside.write("in.jsonl", 100)
    if verb == "resume":
        inside.run(*VERBS["run"], "--take", "10")
    elif verb == "redrive":
        inside.run("run", "errors", "in.jsonl", "--out", "run", "--no-report")
    said: list[Any] = []

    def ask(changes: dict[str, Any]) -> Any:
        request = TuneRequest(inside.directory / "run", tuning_of(changes))
        request.send()
        wait_until(lambda: request.answer() is not None)
        answer = request.answer()
        return answer and answer.in_force

    def tune() -> None:
        outcomes = inside.directory / "run" / "outcomes.jsonl"
        before = outcomes.stat().st_size if outcomes.exists() else 0
        wait_until(lambda: outcomes.exists() and outcomes.stat().st_size != before)
        changes: list[dict[str, Any]] = [
            {"pause": True},
            {"concurrency": 20, "retries": 7},
            {"pause": False, "rate": 500},
        ]
        said.extend(ask(each) for each in changes)

    thread = threading.Thread(target=tune)
    thread.start()
    inside.run(*VERBS[verb])
    thread.join(100)
    assert [(each["pause"], each["concurrency"], each["retries"]) for each in said] == [
        (True, 1, 3),
        (True, 20, 7),
        (False, 20, 7),
    ]
    state = inside.state()
    assert (state["options"]["concurrency"], state["options"]["retries"]) == (20, 7)
    assert len(state["tuned"]) == 3
    assert len({outcome["seq"] for outcome in inside.outcomes()}) == 100


def test_a_run_that_does_not_answer(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is held and says nothing, as while it starts: nothing stays for it to find later."""
    inside.write("in.jsonl", 1)
    inside.run("run", "fast", "in.jsonl", "--out", "run", "--no-report")
    monkeypatch.setattr("fanout.cli.tune._ANSWER_WITHIN_S", 0.1)
    with RunDir.open(inside.directory / "run").lock():
        refused = inside.run("tune", "run", "-j", "5")
    refused.assert_one_line(2, "did not answer within 0.1 s", "nothing was changed; try again")
    assert not (inside.directory / "run" / "tune.json").exists()
