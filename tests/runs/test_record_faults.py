"""Faults of records and the end of an input: what is sent is what was asked, nothing is forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fanout
from fanout.cli import cli
from fanout.model import Outcome
from fanout.runs.result import state_and_exit_code
from tests.scripted import UNAVAILABLE, Scripted, function_error, lost, ok

DEEP = b"[" * 1_000_000 + b"]" * 1_000_000


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("failure", "options"),
    [
        (lambda: UNAVAILABLE, {}),
        (function_error, {"retry_function_errors": 1}),
        (lost, {"idempotent": True, "function_timeout": 0.1}),
    ],
    ids=["unavailable", "function error", "lost"],
)
def test_take_keeps_what_needs_a_second_attempt(
    tmp_path: Path, failure: Callable[[], Any], options: dict[str, Any]
) -> None:
    """The end by --take is not the stopping of the run: every record taken has its outcome."""
    transport = Scripted(lambda call: failure() if call.attempt == 1 and call.number % 5 == 0 else ok())
    report = fanout.run(
        "f", range(100), take=20, out=tmp_path / "run", transport=transport, concurrency=5, **options
    )
    assert (report.state, report.exit_code, report.counts["succeeded"]) == ("finished", 0, 20)


def test_nothing_pending_is_called_finished() -> None:
    """Whatever else went well."""
    assert state_and_exit_code(None, {"succeeded": 3}) == ("finished", 0)
    assert state_and_exit_code(None, {"succeeded": 3}, 1) == ("halted", 5)


def test_a_selection_holds_for_records_of_a_program(tmp_path: Path) -> None:
    """Key and payload are taken from them as from a file's; a selection that fails is the record's fault."""
    payloads = [{"id": 1, "p": {"a": 2}}, fanout.Record({"id": 2, "p": 3}, key="own"), {"id": 3}, b"["]
    transport = Scripted()
    seen: list[Outcome] = []
    fanout.run(
        "f",
        payloads,
        key="id",
        select="p",
        out=tmp_path / "run",
        transport=transport,
        concurrency=1,
        on_outcome=seen.append,
    )
    seen.sort(key=lambda outcome: outcome.seq)
    assert transport.bodies == [{"a": 2}, 3]
    assert [(o.key, o.status, o.is_fault) for o in seen] == [
        ("1", "succeeded", False),
        ("own", "succeeded", False),
        (None, "rejected", True),
        (None, "rejected", True),
    ]


@pytest.mark.parametrize(
    "payload",
    [DEEP, _Unprintable(), float, 10**5000, {"a": [_Unprintable()]}],
    ids=["deep", "no repr", "a type", "a long number", "inside"],
)
def test_a_record_that_cannot_be_sent_is_rejected(payload: Any) -> None:
    """Whatever is raised while it is looked at; the others go on."""
    seen: list[Outcome] = []
    fanout.run("f", [1, payload, 2], transport=Scripted(), concurrency=1, on_outcome=seen.append)
    statuses = {outcome.seq: outcome.status for outcome in seen}
    assert (statuses[0], statuses[2]) == ("succeeded", "succeeded")
    assert statuses[1] in ("rejected", "succeeded" if isinstance(payload, int) else "rejected")


def test_a_reply_nested_too_deeply_is_kept_as_text() -> None:
    """It is no reason to end anything."""
    seen: list[Outcome] = []
    fanout.run("f", [1], transport=Scripted([ok(DEEP)]), concurrency=1, on_outcome=seen.append)
    assert (seen[0].status, seen[0].output_encoding) == ("succeeded", "text")
    assert seen[0].output_bytes == DEEP


@pytest.mark.parametrize("is_old", [False, True], ids=["now", "0.1"])
def test_no_verb_sends_a_record_at_fault(tmp_path: Path, is_old: bool) -> None:
    """Not a redrive, not an export; the journal of an older version does not say so itself."""
    (tmp_path / "in.csv").write_text("id,qty\n1,2\n3\n")
    out = tmp_path / "run"
    transport = Scripted()
    fanout.run("f", tmp_path / "in.csv", out=out, transport=transport, concurrency=1)
    assert transport.count == 1
    journal = out / "outcomes.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    if is_old:
        for line in lines:
            line.pop("is_fault", None)
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    exported = CliRunner().invoke(cli, ["export", str(out)])
    assert exported.stdout == ""
    redriven = CliRunner().invoke(cli, ["redrive", str(out), "--endpoint-url", "http://127.0.0.1:9"])
    assert "no record to send again: 1 record can never be sent" in redriven.stderr
    assert redriven.exit_code == 1
