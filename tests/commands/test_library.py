"""``fanout.run``: a batch from a script, a notebook or a thread."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.model import Outcome
from fanout.stats import Snapshot
from tests.cli.running import wait_until
from tests.scripted import MISSING, Call, Scripted, function_error, ok

# On Python 3.11 pytest-asyncio's first question makes a loop, which asyncio.run would leave unclosed.
asyncio.set_event_loop(None)


def some_fail(call: Call) -> Any:
    """Every tenth record is bad."""
    return function_error() if call.json() % 10 == 3 else ok(call.body)


def test_a_report_of_every_record() -> None:
    """Counts, failures and a way to hear of each outcome."""
    seen: list[Outcome] = []
    snapshots: list[Snapshot] = []
    report = fanout.run(
        "f",
        range(100),
        transport=Scripted(some_fail, latency_s=0.001),
        concurrency=8,
        on_outcome=seen.append,
        on_progress=snapshots.append,
    )
    assert (report.state, report.ok, report.exit_code) == ("finished", False, 1)
    assert (report.counts["succeeded"], report.counts["function_error"]) == (90, 10)
    assert (report.records, report.pending, report.run_dir) == (100, 0, None)
    assert [(cluster.type, cluster.count) for cluster in report.failures] == [("ValueError", 10)]
    assert sorted(outcome.seq for outcome in seen) == list(range(100))
    assert (snapshots[-1].done, snapshots[-1].cause) == (100, "source")  # ended, and not paused


def test_a_run_in_a_directory_resumes(tmp_path: Path) -> None:
    """With ``out`` it is journaled; with ``resume`` the same payloads go on."""
    out = tmp_path / "run"
    transport = Scripted(some_fail)

    def breaks() -> Iterator[int]:
        yield from range(40)
        raise ConnectionError("the database went away")

    first = fanout.run("f", breaks(), transport=transport, concurrency=4, out=out)
    assert (first.state, first.halted_by) == ("halted", "source")
    assert "the database went away" in first.run["message"]
    assert len((out / "outcomes.jsonl").read_bytes().splitlines()) == 40
    second = fanout.run("f", range(60), transport=transport, concurrency=4, out=out, resume=True)
    assert (second.state, second.records) == ("finished", 60)
    assert sorted(transport.bodies) == list(range(60))
    with pytest.raises(fanout.JournalError, match="holds a run already"):
        fanout.run("f", range(3), transport=transport, concurrency=4, out=out)


def test_what_becomes_of_records_that_may_have_run_is_for_the_program_to_say(tmp_path: Path) -> None:
    """As the command's option: the default of a run that is not idempotent gives them up."""
    statuses = {}
    for choice in (None, "skip", "send"):
        out = tmp_path / f"run-{choice}"
        fanout.run("f", range(4), transport=Scripted(), concurrency=1, out=out)
        lines = (out / "outcomes.jsonl").read_bytes().splitlines(keepends=True)
        (out / "outcomes.jsonl").write_bytes(b"".join(lines[:-1]))  # as a kill leaves it
        state = json.loads((out / "run.json").read_text())
        (out / "run.json").write_text(json.dumps(state | {"state": "running"}))
        more: dict[str, Any] = {} if choice is None else {"may_have_run": choice}
        report = fanout.run("f", range(4), transport=Scripted(), concurrency=1, out=out, resume=True, **more)
        statuses[choice] = report.counts["unknown"]
    assert statuses == {None: 1, "skip": 1, "send": 0}
    with pytest.raises(fanout.ConfigError, match="may_have_run goes with resume"):
        fanout.run("f", range(4), transport=Scripted(), may_have_run="send")
    with pytest.raises(fanout.ConfigError, match="give 'send' or 'skip'"):
        fanout.run("f", [1], transport=Scripted(), out=tmp_path, resume=True, may_have_run="no")  # type: ignore[arg-type]


def test_every_payload_is_a_record_and_so_is_none(tmp_path: Path) -> None:
    """Lost once: None is JSON's null, and was taken for the end of what there is just now."""

    async def again() -> AsyncIterator[Any]:
        for payload in payloads:
            yield payload

    payloads: list[Any] = [None, 1, None, "", 0, False, [], b"null", fanout.Record(None)]
    sources: tuple[Any, ...] = (payloads, iter(payloads), again())
    for number, source in enumerate(sources):
        transport = Scripted()
        report = fanout.run("f", source, transport=transport, concurrency=2, out=tmp_path / str(number))
        assert (report.ok, report.counts["succeeded"], report.records) == (True, 9, 9)
        assert len(transport.bodies) == 9


def test_an_async_iterable_and_a_file_will_do(tmp_path: Path) -> None:
    """Whatever can be iterated, and whatever the command reads."""

    async def payloads() -> AsyncIterator[Any]:
        for number in range(20):
            yield fanout.Record({"n": number}, key=f"k{number}")

    keys: list[str | None] = []
    report = fanout.run(
        "f", payloads(), transport=Scripted(), concurrency=4, on_outcome=lambda o: keys.append(o.key)
    )
    assert report.ok
    assert sorted(keys, key=lambda key: int((key or "k0")[1:])) == [f"k{number}" for number in range(20)]
    path = tmp_path / "in.jsonl"
    path.write_text("1\n2\n\n3\n")
    assert fanout.run("f", path, transport=Scripted(), concurrency=4).records == 3


def test_what_stops_a_run_stands_in_the_report() -> None:
    """A refusal of every record alike is no exception: what was read is accounted for."""
    report = fanout.run("f", range(1000), transport=Scripted(lambda _: MISSING), concurrency=4)
    assert (report.state, report.exit_code, report.halted_by) == ("fatal", 4, "fatal")
    assert report.counts["rejected"] == report.records == 4
    assert "ResourceNotFoundException" in report.run["message"]


def test_inside_a_running_loop() -> None:
    """In a notebook it works in a thread of its own; the loop stands still meanwhile."""

    async def cell() -> fanout.RunReport:
        return fanout.run("f", range(10), transport=Scripted(), concurrency=2)

    assert asyncio.run(cell()).ok
    assert not [thread for thread in threading.enumerate() if thread.name == "fanout.run"]


def test_errors_before_the_first_call_are_raised(tmp_path: Path) -> None:
    """They are what the caller got wrong."""
    with pytest.raises(TypeError, match="payloads is int"):
        fanout.run("f", 5, transport=Scripted(), concurrency=1)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"payloads is dict, one payload: give a list of payloads, \[payload\]"
    ):
        fanout.run("f", {"id": 1}, transport=Scripted(), concurrency=1)
    with pytest.raises(fanout.ConfigError, match="deadline is '2s': give more than 0 seconds, as a number"):
        fanout.run("f", [1], deadline="2s")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown option 'concurency'"):
        fanout.run("f", [1], concurency=1)  # type: ignore[call-arg]
    with pytest.raises(fanout.ConfigError, match="concurrency is 0"):
        fanout.run("f", [1], transport=Scripted(), concurrency=0)
    with pytest.raises(fanout.SourceError, match="No such file"):
        fanout.run("f", tmp_path / "none.jsonl", transport=Scripted(), concurrency=1)
    with pytest.raises(fanout.ConfigError, match="select is 5: give a JMESPath expression"):
        fanout.run("f", [1], transport=Scripted(), concurrency=1, select=5)  # type: ignore[arg-type]
    with pytest.raises(fanout.ConfigError, match="resume goes with out"):
        fanout.run("f", [1], transport=Scripted(), concurrency=1, resume=True)
    with pytest.raises(fanout.ConfigError, match="spool is 'no': give True or False"):
        fanout.run("f", [1], transport=Scripted(), concurrency=1, spool="no")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["on_outcome", "on_progress"])
def test_a_callback_that_could_not_be_called_is_refused_before_the_first_call(where: str) -> None:
    """An async one would never run, and nobody would notice."""

    async def never_awaited(_: object) -> None: ...

    transport = Scripted()
    for callback in (never_awaited, 5):
        callbacks: dict[str, Any] = {where: callback}
        with pytest.raises(fanout.ConfigError, match=f"{where} is .*: give a function that is not async"):
            fanout.run("f", [1], transport=transport, concurrency=1, **callbacks)
    assert transport.calls == []


@pytest.mark.parametrize("where", ["on_outcome", "on_progress"])
def test_an_error_of_a_callback_comes_out_as_it_was(tmp_path: Path, where: str) -> None:
    """It ends the run; what is journaled is kept."""

    def fail(_: object) -> None:
        raise ZeroDivisionError("in the callback")

    callbacks: dict[str, Any] = {where: fail}
    with pytest.raises(ZeroDivisionError, match="in the callback"):
        fanout.run(
            "f",
            range(100),
            transport=Scripted(latency_s=0.001),
            concurrency=2,
            out=tmp_path / "run",
            **callbacks,
        )
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert state["state"] == "interrupted"


SCRIPT = """
import asyncio, sys, threading
sys.path.insert(0, {root!r})
import fanout
from tests.scripted import Scripted

def work():
    return fanout.run("f", range(100_000), transport=Scripted(latency_s=0.05), concurrency=5, out={out!r})

async def cell():
    global report
    report = work()

try:
    if {in_loop}:
        asyncio.run(cell())
    else:
        report = work()
except (KeyboardInterrupt, asyncio.CancelledError):
    pass
left = [thread.name for thread in threading.enumerate() if thread.name == "fanout.run"]
print(report.state, report.exit_code, left)
"""


@pytest.mark.parametrize("in_loop", [False, True])
def test_ctrl_c_ends_a_script_and_keeps_what_is_journaled(tmp_path: Path, in_loop: bool) -> None:
    """No new call, those in flight finish, nothing works on behind it, and the run resumes."""
    out = tmp_path / "run"
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(root=root, out=str(out), in_loop=in_loop)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        journal = out / "outcomes.jsonl"
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 20)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert printed.decode().strip() == "interrupted 130 []", errors.decode()
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") and json.loads(line)["status"] == "succeeded" for line in lines)


def test_the_command_alone_streams_to_stdout(tmp_path: Path) -> None:
    """A program has on_outcome."""
    with pytest.raises(fanout.ConfigError, match="out is '-': only the command streams to stdout"):
        fanout.run("f", [1], out="-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("progress", [False, True])
def test_a_live_page_of_the_library_has_its_address_on_stderr(
    capsys: pytest.CaptureFixture[str], progress: bool
) -> None:
    """The program's own listener and a display hear of the run as well."""
    seen: list[Snapshot] = []
    transport = Scripted(latency_s=0.05)
    report = fanout.run(
        "f",
        [1, 2],
        transport=transport,
        concurrency=1,
        dashboard=0,
        on_progress=seen.append,
        progress=progress,
    )
    assert (report.exit_code, seen[-1].done) == (0, 2)
    said = capsys.readouterr()
    assert said.out == ""
    assert "dashboard: http://127.0.0.1:" in said.err
