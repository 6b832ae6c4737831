"""Every option of a run holds with workers, or is refused in one line. Each is in one of the tables here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fanout
from fanout.cli import cli
from fanout.commands.options import RunKeywords, RunOptions
from fanout.commands.watch import Follower
from fanout.commands.workers import make_dispatcher
from fanout.dispatcher import Hooks
from fanout.errors import ConnectFailed, SourceError
from fanout.model import InvokeTemplate, Reply
from fanout.progress import plain_line
from fanout.runs import Audience, Intake, PassingLedger
from fanout.runs.receiver import RunReceiver
from fanout.stats import Snapshot
from tests.workers.crew_here import RUN, CrewHere, Function, install

RECORDS = 200
BASE: dict[str, Any] = {**RUN, "concurrency": 20}
REFUSED = {"stream", "hedge", "invocation", "follow", "empty_after"}
COORDINATOR = {  # reads, counts, stops and writes; workers never hear of these
    *("format", "items", "csv_delimiter", "csv_header", "encoding", "nan", "request_payer", "payload"),
    *("repeat", "key", "select", "durable_expr", "take", "collect", "enough", "threshold", "label"),
    *("threshold_abort", "name", "tolerated_failure_count", "tolerated_failure_percentage"),
    *("max_cost", "prices", "grace", "fsync", "spool", "keep_order", "report", "preflight", "workers"),
    *("scheduler", "results", "on_finish", "local", "local_concurrency", "local_timeout"),
}
BUDGET = {"concurrency", "rate", "leave", "function_timeout", "deadline"}  # the coordinator's, leased
WORKER = {  # each worker's engine and transport have them as one process would
    *("retries", "retry_function_errors", "retry_on", "idempotent", "timeout", "connect_timeout"),
    *("throttle_patience", "outage_patience", "qualifier", "invocation_type", "log_type"),
    *("client_context", "tenant_id", "durable", "durable_name", "batch", "batch_bytes", "batch_wait"),
    *("batch_shape", "batch_input", "batch_reply", "bisect", "trace", "profile", "region"),
    *("endpoint_url", "verify", "seed", "is_local"),
}
EACH_FOR_ITSELF = {"max_bytes_in_flight", "breaker"}  # of a process: its memory, its failures in a row


def test_every_option_has_its_place() -> None:
    """A new option must be thought of here."""
    placed = [REFUSED, COORDINATOR, BUDGET, WORKER, EACH_FOR_ITSELF]
    assert set().union(*placed) == set(RunKeywords.__annotations__)
    assert sum(map(len, placed)) == len(RunKeywords.__annotations__)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stream": True}, "stream does not go with workers"),
        ({"invocation": "stream"}, "stream does not go with workers"),
        ({"hedge": True, "idempotent": True}, "hedge does not go with workers"),
        ({"follow": True}, "follow"),
        ({"empty_after": 1.0}, "empty_after"),
    ],
)
def test_what_cannot_hold_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Before anything is made."""
    with pytest.raises(fanout.ConfigError, match=words):
        fanout.run("f", [1], out=tmp_path / "r", **{**BASE, **options})
    assert not (tmp_path / "r").exists()


def _run(tmp_path: Path, **options: Any) -> fanout.RunReport:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id":{number}}}\n' for number in range(RECORDS)))
    return fanout.run("f", path, out=tmp_path / "r", **{**BASE, **options})


def _outcomes(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "r/outcomes.jsonl").read_text().splitlines()]


def _seqs(tmp_path: Path) -> list[int]:
    return sorted(outcome["seq"] for outcome in _outcomes(tmp_path))


def _command(*words: str) -> dict[str, Any]:
    found = CliRunner().invoke(cli, [*words, "--json", "--quiet"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    summary: dict[str, Any] = json.loads(found.stdout)
    return summary


def test_every_record_once_within_the_budget(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """Counts, sums and samples are those of one process."""
    report = _run(tmp_path, workers=3)
    assert report.counts["succeeded"] == RECORDS
    assert _seqs(tmp_path) == list(range(RECORDS))
    assert set(function.runs.values()) == {1}
    assert 15 <= function.most_in_flight <= 20
    assert report.latency_ms["count"] == RECORDS
    assert len(report.stats.executions()) == RECORDS
    assert report.cost is not None
    assert report.cost.usd == pytest.approx(RECORDS * 2e-7)
    assert sum(each["records"] for each in report.workers) == RECORDS


def test_the_total_is_known_once_as_many_as_were_asked_for_are_read(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """However far the input was read ahead."""
    report = _run(tmp_path, take=40)
    assert report.run["records_total"] == function.runs.total() == 40


def test_a_key_and_a_selection_reach_the_workers(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """The coordinator applies them."""
    _run(tmp_path, select="{n: id}", key="id")
    assert b'{"n":7}' in function.runs
    assert all(each["key"] == str(each["seq"]) for each in _outcomes(tmp_path))


def test_dask_is_there_before_the_directory(
    tmp_path: Path, crews: list[CrewHere], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing it takes a second, in which a signal would leave a run that nobody stops in order."""
    had_directory: list[bool] = []
    monkeypatch.setattr("fanout.workers.load_dask", lambda: had_directory.append((tmp_path / "r").exists()))
    fanout.run("f", [1], out=tmp_path / "r", **BASE)
    assert had_directory == [False]


def test_workers_without_records_leave_the_rate_to_others(crews: list[CrewHere], function: Function) -> None:
    """One worker has them all; it made a quarter of the calls that the rate allows."""
    options = {**BASE, "workers": 4, "rate": 10, "deadline": 5}
    report = fanout.run("f", list(range(20)), out=None, **options)
    assert (report.state, report.counts["succeeded"]) == ("finished", 20)


def test_the_spending_cap_bounds_windows_too(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """No call starts that could pass the cap, however many records a window has room for."""
    report = _run(tmp_path, max_cost=50 * 2e-7)
    assert report.exit_code == 5
    assert 40 <= function.runs.total() <= 50


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_spending_cap_is_reached_after_a_loss(
    tmp_path: Path, crews: list[CrewHere], function: Function, suffix: str
) -> None:
    """What a lost worker had counted as in flight, and left no call for itself."""
    function.latency_s = 0.2
    path = tmp_path / f"in.{suffix}"
    pq.write_table(pa.table({"id": range(60)}), path)
    if suffix == "jsonl":
        path.write_text("1\n" * 60)

    def lose(snapshot: Snapshot) -> None:
        if snapshot.done and not any(worker.is_lost for worker in crews[0].workers.values()):
            for worker in snapshot.workers:
                if worker.in_flight:
                    crews[0].lose(worker.name)
                    break

    options = {**BASE, "function_timeout": 0.2, "max_cost": 9 * 2e-7, "deadline": 60}
    report = fanout.run("f", path, out=tmp_path / "r", on_progress=lose, **options)
    assert (report.halted_by, report.counts["unknown"] > 0) == ("cost", True)


def test_enough_stops_and_the_rest_is_pending(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """Exit 0; what workers held unsent has come back."""
    report = _run(tmp_path, enough=50)
    assert report.exit_code == 0
    assert report.halted_by == "enough"
    assert function.runs.total() == report.counts["succeeded"] < RECORDS


def test_failures_stop_all_workers(tmp_path: Path, crews: list[CrewHere], function: Function) -> None:
    """As a share of all."""
    function.fails = True
    report = _run(tmp_path, tolerated_failure_percentage=10)
    assert report.exit_code == 3
    assert function.runs.total() < RECORDS
    assert all(each["line"] == each["seq"] + 1 for each in _outcomes(tmp_path))


def test_a_deadline_stops_all_workers(tmp_path: Path, crews: list[CrewHere], function: Function) -> None:
    """Exit 5, resumable."""
    function.latency_s = 0.2
    report = _run(tmp_path, deadline=1.0)
    assert (report.exit_code, report.halted_by) == (5, "deadline")
    assert report.pending or len(_seqs(tmp_path)) < RECORDS


def test_batches_are_formed_by_workers(tmp_path: Path, crews: list[CrewHere], function: Function) -> None:
    """One outcome for each record, fewer calls."""
    report = _run(tmp_path, batch=10)
    assert report.counts["succeeded"] == RECORDS
    assert report.calls == function.runs.total() == RECORDS / 10


def test_a_resume_goes_on_with_workers(tmp_path: Path, crews: list[CrewHere], function: Function) -> None:
    """As many as before; nothing runs twice."""
    _run(tmp_path, enough=50)
    summary = _command("resume", str(tmp_path / "r"), "--all")
    assert summary["counts"]["succeeded"] == RECORDS
    assert _seqs(tmp_path) == list(range(RECORDS))
    assert set(function.runs.values()) == {1}
    assert len(crews) == 2
    assert {each["name"] for each in summary["workers"]} == {"w0", "w1"}


@pytest.mark.parametrize("workers", ["2", "0"])
def test_an_input_that_has_changed_is_refused(
    tmp_path: Path, crews: list[CrewHere], function: Function, workers: str
) -> None:
    """Before any worker is asked for, and in the words of one process."""
    _run(tmp_path, enough=50)
    begun, ran = len(crews), function.runs.total()
    (tmp_path / "in.jsonl").write_text('{"id":"other"}\n' * RECORDS)
    words = ["resume", str(tmp_path / "r"), "--all", "--workers", workers]
    with pytest.raises(SourceError, match=r"in\.jsonl is not the input the run began with: its size was"):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert (len(crews), function.runs.total()) == (begun, ran)


def test_a_redrive_sends_failures_by_workers(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """From the journal alone."""
    function.fails = True
    _run(tmp_path, take=30)
    function.fails = False
    (tmp_path / "in.jsonl").unlink()
    summary = _command("redrive", str(tmp_path / "r"))
    assert summary["counts"]["succeeded"] == 30
    assert set(function.runs.values()) == {2}
    assert len(crews) == 2


def test_without_a_directory_outcomes_come_to_listeners(crews: list[CrewHere], function: Function) -> None:
    """In the order of the input where that is asked for."""
    heard: list[int] = []
    report = fanout.run(
        "f", ({"id": number} for number in range(60)), out=None, keep_order=True,
        on_outcome=lambda outcome: heard.append(outcome.seq), **BASE,
    )  # fmt: skip
    assert report.exit_code == 0
    assert heard == list(range(60))


async def _later() -> AsyncIterator[int]:
    for number in range(400):
        yield number


def _in_pages() -> Iterator[int]:
    for number in range(400):
        if number < 2:  # so slow that a thread reads it from here on
            time.sleep(0.06)
        yield number


@pytest.mark.parametrize(("payloads", "take"), [(_later, None), (_in_pages, 380)])
def test_an_iterable_fills_the_windows(
    crews: list[CrewHere], function: Function, payloads: Callable[[], Any], take: int | None
) -> None:
    """Each order carried one record of it: ten or twenty a second."""
    taken = payloads()
    report = fanout.run("f", taken, out=None, take=take, deadline=15, **BASE)
    assert (report.state, report.counts["succeeded"]) == ("finished", take or 400)
    if take and payloads is _in_pages:
        assert next(taken) == take  # nothing was read beyond


def _during(crews: list[CrewHere], after: int, act: Callable[[CrewHere], None]) -> Callable[[Snapshot], None]:
    """Acts once, when so many records are finished."""
    done: list[int] = []

    def look(snapshot: Snapshot) -> None:
        if snapshot.done >= after and not done:
            done.append(1)
            act(crews[0])

    return look


@pytest.mark.slow
def test_a_worker_that_joins_takes_work(tmp_path: Path, crews: list[CrewHere], function: Function) -> None:
    """Under the same budget."""
    function.latency_s = 0.15
    report = _run(tmp_path, on_progress=_during(crews, 20, lambda crew: crew.join("late")))
    assert report.counts["succeeded"] == RECORDS
    assert {each["name"]: each["records"] > 0 for each in report.workers}["late"]
    assert function.most_in_flight <= 20


@pytest.mark.parametrize("idempotent", [True, False])
def test_all_but_one_are_lost(
    tmp_path: Path, crews: list[CrewHere], function: Function, idempotent: bool
) -> None:
    """What they had is sent again where that is safe, else unknown; the rest goes on."""
    function.latency_s = 0.05

    def lose(crew: CrewHere) -> None:
        for name in ("w1", "w2"):
            crew.lose(name)

    report = _run(tmp_path, workers=3, idempotent=idempotent, on_progress=_during(crews, 60, lose))
    assert _seqs(tmp_path) == list(range(RECORDS))
    lost = [each for each in report.workers if each["lost"]]
    assert len(lost) == 2
    assert report.counts["unknown"] == (0 if idempotent else sum(each["lost_records"] for each in lost))
    assert function.most_in_flight <= 20
    assert idempotent or set(function.runs.values()) == {1}


def test_each_worker_is_shown_here_and_elsewhere(
    tmp_path: Path, crews: list[CrewHere], function: Function
) -> None:
    """In the display of the run, and in one that follows its directory."""
    seen: list[Snapshot] = []
    report = _run(tmp_path, on_progress=seen.append)
    follower = Follower(tmp_path / "r")
    elsewhere = follower.look(time.time())
    for snapshot in (seen[-1], elsewhere):
        assert [each.name for each in snapshot.workers] == ["w0", "w1"]
        assert sum(each.records for each in snapshot.workers) == report.counts["succeeded"]
        assert "w0: 0 in flight" in plain_line(snapshot)


def test_throttles_on_one_cut_once_for_all(tmp_path: Path, crews: list[CrewHere], function: Function) -> None:
    """A wall at 8 calls at once is found as by one process: few throttles, no failure."""
    function.wall = 8
    limits: list[float] = []
    report = _run(tmp_path, on_progress=lambda snapshot: limits.append(snapshot.limit or 0))
    assert report.counts["succeeded"] == RECORDS
    assert function.most_in_flight == 8
    assert min(limits) <= 12
    assert 0 < sum(report.throttles.values()) < RECORDS


async def test_a_worker_hears_of_other_retries_and_another_deadline(
    crews: list[CrewHere], function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its next order; one that joins meanwhile, too."""
    monkeypatch.setattr("fanout.workers.coordinator.LOOK_EVERY_S", 0.02)
    send, failures = function.send, iter(range(3))

    async def some(template: InvokeTemplate, body: bytes, on_chunk: object = None) -> Reply:
        if body == b"7" and next(failures, None) is not None:
            raise ConnectFailed("connection refused")
        return await send(template, body)

    monkeypatch.setattr(function, "send", some)
    options = RunOptions.of("f", cast(Any, {**BASE, "workers": 1, "retries": 0, "rate": 100}))
    dispatcher = make_dispatcher(options, hooks=Hooks(), run_id=None, generation=0, audience=Audience())
    async with dispatcher:
        receiver = RunReceiver(PassingLedger(lambda _: None), None, lambda: None)
        feed = dispatcher.start_feed(Intake(payloads=iter(range(1000))), receiver)
        dispatcher.tune(retries=3)
        crews[0].join("late")
        async with asyncio.timeout(100):
            while not function.runs[b"7"] or len(dispatcher.load().workers) < 2:
                await asyncio.sleep(0.02)
            feed.set_deadline(dispatcher.engine.clock())
            feed.expire()
            await receiver.finished.wait()
    assert next(failures, None) is None
    assert 8 < function.runs.total() <= receiver.delivered < 1000


@pytest.mark.slow
async def test_tune_changes_the_budget_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Function
) -> None:
    """Within a second, up and down."""
    install(monkeypatch, function)
    given: Any = {**BASE, "concurrency": 30}
    options = RunOptions.of("f", given)
    dispatcher = make_dispatcher(options, hooks=Hooks(), run_id=None, generation=0, audience=Audience())
    async with dispatcher:
        receiver = RunReceiver(PassingLedger(lambda outcomes: None), None, lambda: None)
        dispatcher.start_feed(Intake(payloads=iter(range(1500))), receiver)
        await asyncio.sleep(0.5)
        assert function.most_in_flight > 20
        dispatcher.tune(concurrency=6)
        await asyncio.sleep(0.5)
        function.most_in_flight = function.in_flight
        await asyncio.sleep(0.3)
        assert 3 <= function.most_in_flight <= 6
        dispatcher.tune(concurrency=40)
        async with asyncio.timeout(100):
            await receiver.finished.wait()
    assert function.most_in_flight > 20
    assert function.runs.total() == 1500
