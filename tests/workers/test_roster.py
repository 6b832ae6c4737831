"""Greetings: a worker that does not answer, refuses, or comes back holds up no other and no budget."""

from __future__ import annotations

import asyncio
import logging
import resource
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.config import Options
from fanout.errors import ConfigError, FatalRefusal
from fanout.version import version
from fanout.workers import roster
from fanout.workers.crew import Link
from fanout.workers.lease_book import LeaseBook
from fanout.workers.messages import Greeting, Report, Settings
from fanout.workers.worker import Worker, encode
from tests.workers.crew_here import RUN, CrewHere, Function, Here


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "GATHER_S", 0.05)
    monkeypatch.setattr(roster, "GREET_S", 0.3)


def _make_silent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    opened = CrewHere.open

    async def open_(crew: CrewHere) -> None:
        await opened(crew)
        for name in names:
            crew.workers[name].is_silent = True

    monkeypatch.setattr(CrewHere, "open", open_)


def test_a_worker_that_does_not_answer_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
    crews: list[CrewHere],
    function: Function,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run is the others'; one line says which one it waited for."""
    _make_silent(monkeypatch, "w0")
    function.latency_s = 0.1
    with caplog.at_level(logging.WARNING, logger="fanout"):
        report = fanout.run("f", range(60), out=None, **RUN)
    assert report.exit_code == 0
    assert [each["name"] for each in report.workers] == ["w1"]
    assert "worker w0 has not answered for 0 s: it takes no work" in caplog.text


def test_a_worker_that_dies_while_it_is_greeted_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
    crews: list[CrewHere],
    function: Function,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The one that comes in its place takes the work."""
    monkeypatch.setattr(roster, "GREET_S", 600.0)
    monkeypatch.setattr(roster, "LOOK_S", 0.02)
    _make_silent(monkeypatch, "w0", "w1")
    link = CrewHere.link

    async def link_and_lose(crew: CrewHere, name: str) -> Link:
        if name in {"w0", "w1"}:
            crew.lose(name)
            crew.workers.setdefault("w2", Here(function))
        return await link(crew, name)

    monkeypatch.setattr(CrewHere, "link", link_and_lose)
    with caplog.at_level(logging.WARNING, logger="fanout"):
        report = fanout.run("f", range(30), out=None, **RUN)
    assert report.exit_code == 0
    assert [each["name"] for each in report.workers] == ["w2"]
    assert "worker w0 was lost before it took work" in caplog.text


def test_a_greeting_that_makes_no_sense_is_said(
    monkeypatch: pytest.MonkeyPatch,
    crews: list[CrewHere],
    function: Function,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was one worker less, without a word, and never asked again."""
    begun, asked = Here.begin, list[bytes]()

    async def begin(here: Here, settings: bytes) -> bytes:
        asked.append(settings)
        return b"\xc1" if len(asked) == 1 else await begun(here, settings)

    monkeypatch.setattr(Here, "begin", begin)
    monkeypatch.setattr(roster, "AGAIN_S", 0.0)
    monkeypatch.setattr("fanout.workers.coordinator.LOOK_EVERY_S", 0.05)
    function.latency_s = 0.1
    with caplog.at_level(logging.WARNING, logger="fanout"):
        report = fanout.run("f", range(60), out=None, **RUN)
    assert report.exit_code == 0
    assert sorted(each["name"] for each in report.workers) == ["w0", "w1"]
    assert "worker w0 was lost before it took work" in caplog.text


@pytest.mark.slow
def test_no_worker_answers(monkeypatch: pytest.MonkeyPatch, crews: list[CrewHere], tmp_path: Path) -> None:
    """Exit 5, resumable, as when none is there."""
    monkeypatch.setattr("fanout.workers.coordinator.ALONE_S", 0.5)
    _make_silent(monkeypatch, "w0", "w1")
    report = fanout.run("f", range(60), out=tmp_path / "r", **RUN)
    assert report.exit_code == 5


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, crews: list[CrewHere]) -> None:
    """One line, and not for ever."""

    async def members(crew: CrewHere) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(CrewHere, "members", members)
    monkeypatch.setattr(roster, "SCHEDULER_S", 0.1)
    with pytest.raises(fanout.ConfigError, match="the scheduler has not answered"):
        fanout.run("f", range(60), out=None, **RUN)


@pytest.mark.slow
def test_a_lost_worker_that_is_there_again_is_another(
    monkeypatch: pytest.MonkeyPatch, crews: list[CrewHere], function: Function
) -> None:
    """Restarted under its address: it takes work beside the share of its former self, which lingers."""
    monkeypatch.setattr(roster, "AGAIN_S", 0.5)
    function.latency_s = 0.1
    done: list[int] = []

    def look(snapshot: Any) -> None:
        if snapshot.done >= 20 and not done:
            done.append(1)
            crews[0].lose("w0")
            crews[0].workers["w0"] = Here(function)

    report = fanout.run("f", range(250), out=None, idempotent=True, on_progress=look, **RUN)
    assert report.exit_code == 0
    records = {each["name"]: each["records"] for each in report.workers}
    assert set(records) == {"w0", "w1", "w0#2"}
    assert records["w0#2"] > 0
    assert function.most_in_flight <= 10


def test_the_coordinator_needs_no_file_for_each_call(
    monkeypatch: pytest.MonkeyPatch, crews: list[CrewHere], function: Function
) -> None:
    """Connections are the workers'."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 1024))
    report = fanout.run("f", range(20), out=None, **{**RUN, "concurrency": 30_000})
    assert report.exit_code == 0


async def test_a_worker_says_how_many_connections_it_can_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as its files allow; a lease never has more permits."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (100, 100))
    worker = Worker()
    options = Options(function="f", region="us-east-1", endpoint_url="http://127.0.0.1:9")
    greeting = await worker.begin(Settings(version(), options))
    assert greeting.refusal is None
    assert greeting.connections == 36
    worker._finish.set()
    assert worker._task is not None
    await worker._task
    book = LeaseBook()
    book.join("a", greeting.connections)
    for _ in range(3):
        lease = book.lease("a", 1000, None, 1.0)
        book.answered("a", Report(number=1, held=500, is_full=True), elapsed_s=0.1, wanted=500)
    assert lease.permits == 36


def test_a_worker_short_of_files_is_named(
    monkeypatch: pytest.MonkeyPatch,
    crews: list[CrewHere],
    function: Function,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where its share of the budget is more than it can open."""
    monkeypatch.setattr("fanout.workers.budgets.most_connections", lambda: 16)
    with caplog.at_level(logging.WARNING, logger="fanout"):
        fanout.run("f", range(20), out=None, **{**RUN, "concurrency": 30})
        assert "ulimit" not in caplog.text
        fanout.run("f", range(20), out=None, **{**RUN, "concurrency": 40})
    assert caplog.text.count("may open files for 16 calls at once") == 2
    assert "raise ulimit -n there" in caplog.text


def test_an_error_of_our_own_ends_no_run_in_a_wait(
    monkeypatch: pytest.MonkeyPatch, crews: list[CrewHere], tmp_path: Path
) -> None:
    """It counts as the loss of the worker; without any the run stops and can be resumed."""

    def window(member: object) -> float:
        raise ValueError("a fault")

    monkeypatch.setattr("fanout.workers.coordinator.ALONE_S", 0.5)
    monkeypatch.setattr("fanout.workers.windows.Window.order_every_s", property(window))
    report = fanout.run("f", range(300), out=tmp_path / "r", **RUN)
    assert report.exit_code == 5
    assert all(each["lost"] for each in report.workers)


@pytest.mark.parametrize(
    ("refusal", "expected", "words"),
    [
        (
            "it has fanout 0.1.0, the coordinator 9",
            ConfigError,
            "worker w0: it has fanout 0.1.0, the coordinator 9: install the same version on all workers",
        ),
        ("no AWS credentials found", FatalRefusal, "worker w0: no AWS credentials found"),
    ],
)
def test_workers_that_all_refuse_end_the_run_at_once(
    monkeypatch: pytest.MonkeyPatch,
    crews: list[CrewHere],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    refusal: str,
    expected: type[Exception],
    words: str,
) -> None:
    """One line names a worker and why; where another works, the run is its own."""
    begin = Here.begin

    async def refuse(here: Here, settings: bytes) -> bytes:
        if here is crews[-1].workers.get("w1") and len(crews) == 2:
            return await begin(here, settings)
        return encode(Greeting("0.1.0", 1, refusal))

    monkeypatch.setattr(Here, "begin", refuse)
    if expected is ConfigError:
        with pytest.raises(ConfigError) as raised:
            fanout.run("f", range(20), out=tmp_path / "r", **RUN)
        assert str(raised.value) == words
    else:
        report = fanout.run("f", range(20), out=tmp_path / "r", **RUN)
        assert report.exit_code == 4
        assert words in report.run["message"]
        assert not (tmp_path / "r").exists()
    with caplog.at_level(logging.WARNING, logger="fanout"):
        report = fanout.run("f", range(20), out=tmp_path / "s", **RUN)
    assert report.exit_code == 0
    assert [each["name"] for each in report.workers] == ["w1"]
    assert f"worker w0 takes no work: {refusal}" in caplog.text


def test_workers_go_on_without_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, crews: list[CrewHere], function: Function
) -> None:
    """It is asked who joins, and cannot say."""
    monkeypatch.setattr("fanout.workers.coordinator.LOOK_EVERY_S", 0.02)
    members, asked = CrewHere.members, []

    async def fail_later(crew: CrewHere) -> list[str]:
        asked.append(crew)
        if len(asked) > 1:
            raise OSError("connection refused")
        return await members(crew)

    monkeypatch.setattr(CrewHere, "members", fail_later)
    function.latency_s = 0.1
    report = fanout.run("f", range(40), out=None, **RUN)
    assert (report.exit_code, report.counts["succeeded"]) == (0, 40)
    assert len(asked) > 2
