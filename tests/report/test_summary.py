"""The summary: its text to the letter, its data, and the commands it names."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Literal

import pytest

import fanout.report
from fanout.errors import JournalError
from fanout.model import BatchPlace, ErrorDetail, Outcome, Status
from fanout.report import CostMeter, RunReport
from fanout.report.html import page
from fanout.report.totals import SessionTotals
from fanout.stats import Stats
from fanout.stats.story import stats_of_blocks
from tests.report.realistic import HOSTILE, write_run

START_S = 1_795_248_000.0


def stats_of(**counts: int) -> Stats:
    """Two seconds of a run with these counts."""
    stats = Stats(started_s=START_S)
    seq = 0
    for status, count in counts.items():
        for _ in range(count):
            stats.add(outcome(seq, status))  # type: ignore[arg-type]
            seq += 1
    stats.sample(now_s=START_S + 2, in_flight=5, limit=10, cause="account")
    return stats


def outcome(seq: int, status: Status) -> Outcome:
    """An outcome of 100 ms; a failure has an error with a trace."""
    error = None
    if status == "function_error":
        trace = ['  File "/var/task/app.py", line 7, in handler\n    raise ValueError\n']
        error = ErrorDetail(type="ValueError", message="bad total", stack_trace=trace)
    elif status == "unknown":
        error = ErrorDetail(type="ReplyLost", message="no reply")
    return Outcome(
        seq=seq,
        status=status,
        attempts=1,
        throttles=0,
        duration_ms=100.0,
        started_at="2026-11-21T08:00:00Z",
        error=error,
    )


def report_of(run: dict[str, object] | None = None, **counts: int) -> RunReport:
    """A report of a run in /runs/a b."""
    meta = {"function": "resize", "state": "finished", "run_dir": "/runs/a b"} | (run or {})
    return RunReport.from_stats(stats_of(**counts), meta)


def test_a_run_that_went_well() -> None:
    """Everything succeeded: short, and nothing to redrive."""
    assert report_of(succeeded=10).render(80) == (
        "resize: 10 records in 2.0s\n"
        "  succeeded      10    100%\n"
        "throughput  5/s, 5.0% of the limit\n"
        "latency     p50 100ms  p95 100ms  p99 100ms  max 100ms\n"
        "next\n"
        "  fanout report '/runs/a b' --html\n"
    )


def test_the_slowest_calls_are_named() -> None:
    """From twenty calls on: three of them, by record, key and request id, the slowest first."""
    stats = Stats(started_s=START_S)
    for seq in range(30):
        one = outcome(seq, "succeeded")
        one.duration_ms, one.request_id, one.key = 100.0 + seq, f"id-{seq}", "k" if seq == 28 else None
        stats.add(one)
    lines = RunReport.from_stats(stats, {"function": "f"}).render(80).splitlines()
    at = lines.index("slowest")
    assert lines[at + 1 : at + 4] == [
        "  129ms  record 29  id-29",
        "  128ms  record 28 k  id-28",
        "  127ms  record 27  id-27",
    ]
    assert len(lines) == at + 4


def test_a_failure_is_its_message_first() -> None:
    """The message is wrapped and whole, the path is cut to its last part, at any width."""
    message = "the order of customer 4711 has a total of -3.50, which is less than nothing at all"
    trace = [f'  File "/home/me/a long way/to/the/{"deep/" * 9}app.py", line 7, in handler']
    error = ErrorDetail(type="ValueError", message=message, stack_trace=trace)
    stats = Stats(started_s=START_S)
    stats.add(Outcome(seq=0, status="function_error", attempts=1, throttles=0, error=error))
    text = RunReport.from_stats(stats, {"function": "f"}).render(60)
    assert " ".join(text.split()).endswith(f"failures 1 ValueError: {message} (app.py:7 in handler)")
    assert max(map(len, text.splitlines())) <= 60
    html = page(RunReport.from_stats(stats, {"function": "f"}))
    assert message in html[: html.index("<details>")]


def test_kinds_as_common_as_the_fifth_are_listed() -> None:
    """Seven kinds of one failure each: none is left out by chance."""
    stats = Stats(started_s=START_S)
    for seq in range(7):
        error = ErrorDetail(type=f"Kind{seq}")
        stats.add(Outcome(seq=seq, status="function_error", attempts=1, throttles=0, error=error))
    text = RunReport.from_stats(stats, {"function": "f"}).render(80)
    assert all(f"Kind{seq}" in text for seq in range(7))
    assert "(other)" not in text


@pytest.mark.parametrize(
    ("verb", "said"),
    [("redrive", "sent again 7: 2 succeeded, 5 failed"), ("resume", "went on with 7: 2 succeeded, 5 failed")],
)
def test_a_later_command_says_first_what_it_did(verb: Literal["redrive", "resume"], said: str) -> None:
    """The first line is of this command, the second of the whole run."""
    session = SessionTotals(verb, succeeded=2, failed=5)
    report = RunReport.from_stats(stats_of(succeeded=100), {"function": "f"}, session=session)
    assert report.render(80).splitlines()[:2] == [f"f: {said}", "  the whole run: 100 records in 2.0s"]
    assert report.to_dict()["session"] == {"verb": verb, "succeeded": 2, "failed": 5}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"records_total": 40}, "30 of 40 records are left"),
        ({"input_share": 0.25}, "about 30 records are left: 25% of the input was read"),
        ({"input_share": 0.8, "records_read": 22}, "about 12 records are left: 80% of the input was read"),
        ({"input_share": 0.005}, "about 1,990 records are left: less than 1% of the input was read"),
        ({}, None),
        ({"records_total": 40, "state": "finished"}, None),
    ],
)
def test_an_interrupted_run_says_what_is_left(known: dict[str, object], said: str | None) -> None:
    """Where it is known, or can be told from the bytes; else nothing is said."""
    report = report_of({"state": "interrupted"} | known, succeeded=10)
    assert report.left == said
    if said is not None:
        assert said in report.render(80)
        assert said in page(report)


def test_thresholds_are_told_one_by_one() -> None:
    """Each rule with what was measured and whether it holds, on the terminal, the page and as data."""
    thresholds = [
        {"rule": "p95<500ms", "value": 612.4, "holds": False},
        {"rule": "failure_rate<1%", "value": 0.002, "holds": True},
        {"rule": "max<1s", "value": None, "holds": True},
    ]
    report = report_of({"thresholds": thresholds}, succeeded=3)
    text = report.render(80)
    for said in ("p95<500ms: broken, 612ms", "failure_rate<1%: holds, 0.2%", "max<1s: too few calls"):
        assert said in text
        assert said.replace("<", "&lt;") in page(report)
    assert report.to_dict()["thresholds"] == thresholds
    assert report_of({"thresholds": "damaged"}, succeeded=1).thresholds == []


def test_records_that_share_a_call() -> None:
    """Records are counted one by one; times, cold starts and cost once for their call."""
    stats, meter = Stats(started_s=START_S), CostMeter()
    outcomes = []
    for seq in range(20):
        one = outcome(seq, "function_error" if seq == 13 else "succeeded")
        one.batch = BatchPlace(f"b{seq // 10}", seq % 10, 10)
        one.billed_ms, one.memory_mb, one.init_ms = 100, 1024, 5.0
        outcomes.append(one)
    stats.add_many(outcomes)
    meter.add_many(outcomes)
    stats.sample(now_s=START_S + 1, in_flight=1, limit=1, cause="fixed")
    report = RunReport.from_stats(stats, {"function": "f"}, cost=meter.estimate())
    assert report.render(80).startswith("f: 20 records in 2 calls in 1.0s\n")
    assert (report.calls, report.latency_ms["count"], report.cold_starts) == (2, 2, 2)
    assert [cluster.count for cluster in report.failures] == [1]
    assert report.cost is not None
    assert report.cost.usd == pytest.approx(2 * (2e-7 + 0.1 * 0.0000166667))


def test_the_cap_and_the_cost_are_one_story() -> None:
    """A run that its cap stopped says why the cost is more than the cap."""
    cost = CostMeter().estimate()
    report = RunReport(stats_of(succeeded=1), {"state": "halted", "halted_by": "cost"}, cost=cost)
    assert "in flight when the cap was reached" in " ".join(report.render(80).split())


def test_a_run_with_failures_that_was_halted() -> None:
    """Why it stopped, what failed and where, and each command to go on with, ready for a shell."""
    report = report_of(
        {
            "state": "halted",
            "halted_by": "threshold",
            "message": "3 failures; 2 tolerated",
            "records_read": 12,
        },
        succeeded=7,
        function_error=2,
        unknown=1,
    )
    report.stats.note_throttle("CallerRateLimitExceeded")
    report = RunReport(report.stats, report.run, run_dir=report.run_dir)
    assert report.render(80) == (
        "resize: 12 records in 2.0s\n"
        "  halted by a threshold: 3 failures; 2 tolerated\n"
        "  succeeded      7   58.3%\n"
        "  function_error 2   16.7%\n"
        "  unknown        1    8.3%\n"
        "  pending        2   16.7%\n"
        "throughput  5/s, 5.0% of the limit\n"
        "latency     p50 100ms  p95 100ms  p99 100ms  max 100ms\n"
        "throttles   1 (CallerRateLimitExceeded 1)\n"
        "failures\n"
        "  2  ValueError: bad total (app.py:7 in handler)\n"
        "  1  ReplyLost: no reply\n"
        "next\n"
        "  fanout resume '/runs/a b'\n"
        "  fanout redrive '/runs/a b'\n"
        "  fanout export '/runs/a b' --status failed\n"
        "  fanout report '/runs/a b' --html\n"
    )
    assert (report.exit_code, report.ok, report.pending) == (3, False, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deadline": 90.0}, "halted by its deadline of 1m30s; a resume has as long again"),
        ({}, "halted by the deadline"),
    ],
)
def test_a_deadline_is_told_once(options: dict[str, object], said: str) -> None:
    """Which it was, and what a resume makes of it; not that the deadline passed by the deadline."""
    run: dict[str, object] = {
        "state": "halted",
        "halted_by": "deadline",
        "message": "the deadline passed",
        "options": options,
    }
    report = report_of(run, succeeded=3)
    assert f"  {said}\n" in report.render(80)
    assert "deadline passed" not in report.render(80) + page(report)


def test_accepted_is_not_executed() -> None:
    """In Event mode the summary says in so many words that nothing is known of the executions."""
    report = report_of({"options": {"invocation_type": "Event"}}, accepted=3)
    assert "accepted is not executed" in report.render(80)
    assert report.next_commands[0] == "fanout collect '/runs/a b'"
    assert report.ok


@pytest.mark.parametrize(
    ("run", "code"),
    [
        ({"state": "finished"}, 0),
        ({"state": "interrupted"}, 130),
        ({"state": "interrupted", "exit_code": 143}, 143),
        ({"state": "fatal"}, 4),
        ({"state": "halted", "exit_code": 5}, 5),
    ],
)
def test_exit_codes(run: dict[str, object], code: int) -> None:
    """The exit code follows from how the run ended; one that run.json names is taken as it is."""
    assert report_of(run, succeeded=1).exit_code == code


def test_failures_make_exit_code_1() -> None:
    """Finished, but some records did not succeed."""
    assert report_of(succeeded=1, function_error=1).exit_code == 1


def test_no_records() -> None:
    """An empty input is a run that went well, with nothing in it."""
    report = report_of()
    assert report.ok
    assert "no records" in report.render(80)


def test_lines_with_strangers_text_never_wrap_and_commands_never_break() -> None:
    """At 40 columns every line is cut, but for commands, which must stay whole to be pasted."""
    report = report_of({"run_dir": "runs/" + "x" * 60}, succeeded=1, function_error=1)
    lines = report.render(40).splitlines()
    at = lines.index("next")
    assert all(len(line) <= 40 for line in lines[:at])
    assert f"  fanout redrive {quote(f'{Path.cwd()}/runs/' + 'x' * 60)}" in lines[at:]


def test_what_may_have_run_is_not_offered_to_a_redrive_that_would_leave_it() -> None:
    """A redrive takes ``unknown`` by name alone: where nothing else failed, they can be looked at."""
    assert report_of({"run_dir": "/r"}, unknown=2).next_commands[-2] == "fanout export /r --status unknown"
    assert not any("redrive" in each for each in report_of({"run_dir": "/r"}, unknown=2).next_commands)
    both = report_of({"run_dir": "/r"}, unknown=2, rejected=1).next_commands
    assert both[-3:-1] == ["fanout redrive /r", "fanout export /r --status failed"]


def test_commands_name_the_directory_so_that_they_work_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative run directory is absolute in every command; one named to do harm is harmless."""
    monkeypatch.chdir(tmp_path)
    for name, word in (
        ("runs/r", quote(f"{tmp_path}/runs/r")),
        ("-rf", quote(f"{tmp_path}/-rf")),
        ("$(reboot)", f"'{tmp_path}/$(reboot)'"),
    ):
        failed = report_of({"run_dir": name}, function_error=1).next_commands
        assert failed[0] == f"fanout redrive {word}"
        assert failed[-1] == f"fanout report {word} --html"
        halted = report_of({"run_dir": name, "state": "halted"}, succeeded=1)
        assert halted.resume_command == f"fanout resume {word}"


@pytest.mark.parametrize(
    ("kind", "spool", "is_kept", "may_resume"),
    [
        ("stdin", True, True, True),
        ("stdin", False, False, False),
        ("pipe", True, False, False),
        ("pipe", True, True, True),
        ("file", False, False, True),
    ],
)
def test_no_resume_is_offered_of_a_pipe_that_was_not_kept(
    tmp_path: Path, kind: str, spool: bool, is_kept: bool, may_resume: bool
) -> None:
    """It would be refused: nothing is left to read. The summary says so."""
    if is_kept:
        (tmp_path / "spool").write_bytes(b"1\n")
    stopped = {"run_dir": str(tmp_path), "state": "interrupted", "options": {"spool": spool}}
    report = report_of({**stopped, "input": {"fingerprint": {"kind": kind}}}, succeeded=1)
    assert (report.resume_command is not None) is may_resume
    assert ("cannot be read again" in report.render()) is not may_resume
    assert any("fanout resume" in each for each in report.next_commands) is may_resume


def test_commands_of_a_rehearsal_begin_with_its_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator has ended with the run: pasted without it, they would call the account's function."""
    monkeypatch.setenv("FANOUT_REHEARSAL", "fanout emulate handler.py:handler --")
    failed = report_of({"run_dir": "/r"}, function_error=1).next_commands
    assert failed[0] == "fanout emulate handler.py:handler -- fanout redrive /r"
    assert failed[-1] == "fanout report /r --html"
    halted = report_of({"run_dir": "/r", "state": "halted"}, succeeded=1)
    assert halted.resume_command == "fanout emulate handler.py:handler -- fanout resume /r"


def test_hostile_text_is_inert() -> None:
    """Types, frames and messages of functions reach the terminal without one control character."""
    stats = Stats(started_s=START_S)
    error = ErrorDetail(type=f"Evil{HOSTILE}", message=HOSTILE, stack_trace=[HOSTILE, f"  at {HOSTILE}"])
    stats.add(Outcome(seq=0, status="function_error", attempts=1, throttles=0, error=error, key=HOSTILE))
    stats.note_throttle(HOSTILE)
    report = RunReport.from_stats(stats, {"function": HOSTILE, "state": "halted", "halted_by": HOSTILE})
    text = report.render(200)
    assert "Evil" in text
    assert not any(ord(char) < 32 for char in text.replace("\n", ""))
    assert "\u202e" not in text
    html = report._repr_html_()
    assert "Evil" in html
    assert "<script>" not in html
    assert "<img" not in html


def test_colour_only_when_asked() -> None:
    """Without colour there is no escape in it; with it the words are the same."""
    import re

    report = report_of(succeeded=1, function_error=1)
    plain, coloured = report.render(80), report.render(80, color=True)
    assert "\x1b" not in plain
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_rich_prints_it() -> None:
    """rich, and so a notebook's or a shell's pretty printer, shows the summary."""
    from rich.console import Console

    console = Console(width=80, record=True, color_system=None, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(report_of(succeeded=2))
    assert "resize: 2 records" in console.export_text()


def test_from_run_dir_equals_run_json(tmp_path: Path) -> None:
    """The figures of the report are those that the run wrote down, and as data they are JSON."""
    run = write_run(tmp_path, 3000, limit=300, mean_s=0.1)
    report = RunReport.from_run_dir(tmp_path)
    assert {status: count for status, count in report.counts.items() if count} == run["counts"]
    assert report.records == run["records_read"]
    data = json.loads(json.dumps(report.to_dict()))
    assert data["counts"]["function_error"] == run["counts"]["function_error"]
    assert sum(cluster["count"] for cluster in data["failures"]) == report.stats.failed
    assert data["cost"]["usd"] > 0
    assert data["latency_ms"]["count"] == report.stats.latencies.count
    assert repr(report).startswith("RunReport('nightly-orders', finished, succeeded=")


def test_a_redriven_record_counts_once_and_is_paid_for_twice(tmp_path: Path) -> None:
    """Of a record that was sent again the latest outcome counts; the cost is of all."""
    figures = '"attempts":1,"throttles":0,"duration_ms":1000,"billed_ms":1000,"memory_mb":1024'
    first = f'{{"seq":0,"status":"function_error",{figures}}}'
    again = f'{{"seq":0,"status":"succeeded",{figures},"generation":1}}'
    (tmp_path / "run.json").write_text('{"function":"f","state":"finished","generation":1,"records_read":1}')
    (tmp_path / "outcomes.jsonl").write_text(f"{first}\n{again}\n")
    report = RunReport.from_run_dir(tmp_path)
    assert report.ok
    assert report.counts["succeeded"] == 1
    assert report.cost is not None
    assert report.cost.usd == pytest.approx(2 * (2e-7 + 0.0000166667))


def test_a_torn_journal_is_reported_as_far_as_it_goes(tmp_path: Path) -> None:
    """A line cut short by a crash is no outcome: its record is pending, and resume is the next command."""
    write_run(tmp_path, 300, limit=100, mean_s=0.1, state="running")
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    report = RunReport.from_run_dir(tmp_path)
    assert report.pending == 1
    assert report.next_commands[0] == f"fanout resume {quote(str(tmp_path))}"


def test_no_run_there(tmp_path: Path) -> None:
    """A directory that is no run is one line."""
    with pytest.raises(JournalError, match=r"run\.json"):
        RunReport.from_run_dir(tmp_path)


def test_library_surface() -> None:
    """What the run layer needs stands in the package."""
    assert {"RunReport", "CostEstimate", "CostMeter", "load_prices", "meter_of"} <= set(fanout.report.__all__)
    assert CostMeter().estimate().usd == 0


def test_a_record_sent_twice_in_one_generation_counts_once(tmp_path: Path) -> None:
    """What a refusal stopped is sent again by the resume: its latest outcome counts, both are paid."""
    first = '{"seq":0,"status":"function_error","attempts":1,"throttles":0,"duration_ms":1}'
    again = '{"seq":0,"status":"succeeded","attempts":1,"throttles":0,"duration_ms":1}'
    (tmp_path / "run.json").write_text('{"function":"f","state":"finished","records_read":1}')
    (tmp_path / "outcomes.jsonl").write_text(f"{first}\n{again}\n")
    report = RunReport.from_run_dir(tmp_path)
    assert (report.counts["succeeded"], report.counts["function_error"]) == (1, 0)
    assert report.cost is not None
    assert report.cost.usd == pytest.approx(2 * 2e-7)


@pytest.mark.parametrize(
    "odd", ['{"seq":1,"status":"succeeded","attempts":1,"throttles":0,"key":"\\ud800"}', ""]
)
def test_odd_lines_in_the_middle(tmp_path: Path, odd: str) -> None:
    """Lone surrogates are read; a line that is no outcome is damage, named by its number."""
    line = '{{"seq":{},"status":"succeeded","attempts":1,"throttles":0,"output":{{"a":"\\n"}}}}'
    (tmp_path / "run.json").write_text('{"function":"f","state":"finished"}')
    (tmp_path / "outcomes.jsonl").write_text("\n".join([line.format(0), odd, line.format(2)]) + "\n{")
    if odd:
        assert RunReport.from_run_dir(tmp_path).records == 3
    else:
        with pytest.raises(JournalError, match="line 2 is not an outcome"):
            RunReport.from_run_dir(tmp_path)


def test_any_journal_is_told_as_it_was_watched(tmp_path: Path) -> None:
    """Blocks of any size, times that are missing or run backwards: every outcome counts once."""
    outcomes = [outcome(seq, "succeeded") for seq in range(3000)]
    for seq, one in enumerate(outcomes):
        one.started_at = None if seq % 7 == 0 else f"2026-11-21T08:{seq // 60 % 60:02}:{seq * 13 % 60:02}Z"
    for size in (1, 7, 3000):
        blocks = [outcomes[i : i + size] for i in range(0, 3000, size)]
        told = stats_of_blocks(blocks, (), started_s=START_S)
        assert told.done == sum(bin_.finished for bin_ in told.series.bins) == 3000
