"""How often each verb reads the journal: once, or twice where records were sent again."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fanout
from fanout.commands.canary_plan import plan
from fanout.commands.changes import Changes
from fanout.commands.export import Choice, Kind, write_lines
from fanout.commands.options import RunOptions
from fanout.commands.redrive import redrive
from fanout.commands.resume import resume
from fanout.commands.run_request import RunRequest
from fanout.journal import RunDir
from fanout.model import Reply
from fanout.runs.audience import Audience
from tests.journal.reads import journal_reads
from tests.scripted import Call, Scripted, function_error, ok

RECORDS = [{"n": number} for number in range(12)]
FINGERPRINTS = 1  # of a file, of its first and last MiB
LINES_SENT = 1  # a redrive opens the journal also for the lines of the records that it sends


def failing(call: Call) -> Any:
    if call.template.invocation_type == "DryRun":  # of a plan, for the permission
        return Reply(204, b"")
    return function_error() if call.json()["n"] % 3 == 0 else ok(call.body)


def changes(script: Any = (), **given: Any) -> Changes:
    options: Any = {"transport": Scripted(script), "concurrency": 2, "report": False, **given}
    return Changes(given=options)


def reads_of(act: Callable[[], object]) -> int:
    with journal_reads() as reads:
        act()
    return len(reads)


def test_a_plan_reads_its_input_twice_and_no_journal(tmp_path: Path) -> None:
    """To count it, and for the canary, whose outcomes it has seen; the run after it reads those once."""
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f'{{"n": {number}}}\n' for number in range(12)))
    options: Any = {"transport": Scripted(failing), "concurrency": 2, "report": False}
    request = RunRequest(options=RunOptions.of("f", options), locations=(str(source),), out=tmp_path / "run")
    with journal_reads("in.jsonl") as input_reads:
        assert reads_of(lambda: asyncio.run(plan(request, 4, {}, Audience()))) == 0
    assert len(input_reads) == 2 + FINGERPRINTS
    with journal_reads("in.jsonl") as input_reads:
        assert reads_of(lambda: fanout.run("f", source, out=tmp_path / "run", **options)) == 1
    assert len(input_reads) == 1 + FINGERPRINTS
    assert len(RunDir.open(tmp_path / "run").state["counts"]) == 2


def test_a_verb_reads_the_journal_no_more_often_than_it_must(tmp_path: Path) -> None:
    """A report, a resume and a redrive read it once; once records were sent again, a pass tells which."""
    path = tmp_path / "run"

    def run() -> None:
        transport = Scripted(failing)
        fanout.run("f", RECORDS, out=path, take=8, transport=transport, concurrency=2, report=False)

    def go_on(take: int) -> None:
        asyncio.run(resume(path, changes(failing, take=take), Audience(), payloads=RECORDS))

    def send_again(script: Any = ()) -> None:
        asyncio.run(redrive(path, changes(script), Audience()))

    def report() -> None:
        fanout.RunReport.from_run_dir(path)

    def export(kind: Kind) -> None:
        write_lines(io.BytesIO(), kind, Choice.of(RunDir.open(path), kind, (), ()))

    assert reads_of(run) == 0
    assert reads_of(report) == 1
    assert reads_of(lambda: go_on(10)) == 1
    assert reads_of(lambda: send_again(failing)) == 1 + LINES_SENT + 1  # the search, and the report
    assert reads_of(report) == 2
    assert reads_of(lambda: go_on(12)) == 2
    assert reads_of(send_again) == 1 + 1 + LINES_SENT + 1  # the search, the latest outcomes, the report
    kinds: tuple[Kind, ...] = ("outcomes", "outputs", "inputs")
    for kind in kinds:
        assert reads_of(partial(export, kind)) == 2, kind
    assert fanout.RunReport.from_run_dir(path).counts["succeeded"] == len(RECORDS)
