"""The table of options: each, in ``run`` and in a resume, with a path, a list and an async generator.

In each cell the option reaches the run as it was given, or one ConfigError (or SourceError) says why not.
What an option does once it is there has its own tests. Those that need servers or processes of their own
stand in ``ELSEWHERE`` with the file that tests them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

import fanout
from fanout.commands.changes import Changes
from fanout.commands.options import KEPT_ON_RESUME, OF_WHOLE_RUNS, RunKeywords, RunOptions
from fanout.commands.redrive import redrive
from fanout.commands.session import RunSession
from fanout.model import Reply
from fanout.runs.audience import Audience
from tests.scripted import Call, Scripted, function_error, ok

Way = Literal["path", "list", "async generator"]
RECORDS = [{"id": str(number)} for number in range(6)]
# Each with a value that is not its default.
VALUES: dict[str, Any] = {
    "concurrency": 3,
    "rate": 5000.0,
    "retries": 7,
    "retry_function_errors": 2,
    "retry_on": ["KeyError"],
    "idempotent": True,
    "hedge": True,
    "timeout": 9.0,
    "function_timeout": 9.0,
    "connect_timeout": 9.0,
    "deadline": 99.0,
    "throttle_patience": 9.0,
    "outage_patience": 9.0,
    "leave": 5,
    "breaker": 9,
    "max_bytes_in_flight": 12_345_678,
    "qualifier": "live",
    "invocation_type": "Event",
    "log_type": "Tail",
    "client_context": {"custom": {"a": 1}},
    "tenant_id": "t",
    "durable_name": "n",
    "stream": True,
    "invocation": "stream",
    "batch": 3,
    "batch_bytes": 9999,
    "batch_wait": 0.5,
    "batch_shape": "array",
    "batch_input": {"a": 1},
    "batch_reply": "array",
    "bisect": True,
    "trace": True,
    "profile": "p",
    "region": "eu-west-1",
    "endpoint_url": "http://127.0.0.1:9",
    "verify": False,
    "seed": 4,
    "is_local": True,
    "format": "jsonl",
    "items": "/a",
    "csv_delimiter": ";",
    "csv_header": "id",
    "encoding": "latin-1",
    "nan": "null",
    "request_payer": True,
    "payload": "1",
    "repeat": 3,
    "key": "id",
    "select": "id",
    "durable_expr": "id",
    "durable": True,
    "take": 7,
    "enough": 3,
    "threshold": "p95<9s",
    "threshold_abort": True,
    "name": "n",
    "label": "a=b",
    "follow": True,
    "empty_after": 3.0,
    "tolerated_failure_count": 100,
    "tolerated_failure_percentage": 99.0,
    "max_cost": 1.0,
    "prices": "nowhere.toml",
    "grace": 9.0,
    "fsync": "never",
    "spool": False,
    "keep_order": True,
    "report": True,
    "preflight": True,
    "on_finish": "true",
}
# Options without which another means nothing.
WITH: dict[str, dict[str, Any]] = {
    **{key: {"batch": 3} for key in ("batch_bytes", "batch_wait", "batch_input")},
    **{key: {"format": "csv"} for key in ("csv_delimiter", "csv_header")},
    "hedge": {"idempotent": True},
    "batch_reply": {"batch": 3, "batch_shape": "array"},
    "bisect": {"batch": 3, "idempotent": True},
    "threshold_abort": {"threshold": "p95<9s"},
    "repeat": {"payload": "1"},
}
ELSEWHERE = {
    **dict.fromkeys(("workers", "scheduler"), "tests/workers/test_run_options.py"),
    **dict.fromkeys(("local", "local_concurrency", "local_timeout"), "tests/commands/test_local.py"),
    "collect": "tests/commands/test_collect.py",
    "results": "tests/cli/test_results.py",
}
# What cannot hold for records of a program; and for anything but a queue, a terminal or Lambda itself.
OF_INPUTS = {"format", "items", "csv_delimiter", "csv_header", "encoding", "nan", "request_payer"}
NOWHERE_HERE = {
    "payload",
    "repeat",
    "follow",
    "empty_after",
    "keep_order",
    "leave",
    "prices",
    "durable",
    "items",
    "nan",
    "request_payer",
}
ALSO_KEPT = {"batch", "invocation"}  # whether there are batches at all; stream, by its other name


def _input(way: Way, directory: Path) -> Any:
    async def one_by_one() -> AsyncIterator[object]:
        for record in RECORDS:
            yield record

    if way == "path":
        path = directory / "in.jsonl"
        path.write_text("".join(f'{{"id":"{record["id"]}"}}\n' for record in RECORDS))
        return path
    return RECORDS if way == "list" else one_by_one()


def test_the_table_has_every_option() -> None:
    """A new option must be given a value here, or a place elsewhere that exists."""
    assert set(VALUES).isdisjoint(ELSEWHERE)
    assert {*VALUES, *ELSEWHERE} == set(RunKeywords.__annotations__)
    root = Path(__file__).parents[2]
    assert all((root / place).exists() for place in ELSEWHERE.values())


def _answer(call: Call) -> Reply:
    """A success of every kind of call, and of a batch of three."""
    kinds = {"Event": Reply(202), "DryRun": Reply(204)}
    return kinds.get(call.template.invocation_type) or ok(b"[1,2,3]")


def _sessions(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    """The options that sessions begin with, from now on."""
    seen: list[RunOptions] = []
    init = RunSession.__init__

    def noted(self: RunSession, options: RunOptions, *arguments: Any, **more: Any) -> None:
        seen.append(options)
        init(self, options, *arguments, **more)

    monkeypatch.setattr(RunSession, "__init__", noted)
    return seen


def _reached(seen: list[RunOptions], name: str) -> Any:
    (options,) = seen
    if name == "invocation":  # stream, by another name
        return "stream" if options.calls.stream else None
    return getattr(options if name in RunOptions.__struct_fields__ else options.calls, name)


@pytest.mark.parametrize(
    ("verb", "way"),
    [
        ("run", "path"),
        ("run", "async generator"),
        ("resume", "list"),
        pytest.param("run", "list", marks=pytest.mark.slow),
        pytest.param("resume", "path", marks=pytest.mark.slow),
        pytest.param("resume", "async generator", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", sorted(VALUES))
def test_an_option_holds_or_is_refused(
    name: str, verb: str, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never ignored; and what is refused leaves the run as it was."""
    out = tmp_path / "run"
    options = {"concurrency": 1, "report": False, "max_cost": 1.0, **WITH.get(name, {}), name: VALUES[name]}
    if verb == "resume":
        first = fanout.run(
            "f", _input(way, tmp_path), out=out, transport=Scripted(), concurrency=1, timeout=1, max_cost=1e-9
        )
        assert (first.state, first.records < len(RECORDS)) == ("halted", True)
    seen = _sessions(monkeypatch)
    transport = Scripted(_answer)

    def execute() -> fanout.RunReport:
        return fanout.run(
            "f", _input(way, tmp_path), out=out, resume=verb == "resume", transport=transport, **options
        )

    if (
        name in NOWHERE_HERE
        or (way != "path" and name in OF_INPUTS)
        or (verb == "resume" and (name in KEPT_ON_RESUME | ALSO_KEPT or "batch" in WITH.get(name, {})))
    ):
        before = (out / "run.json").read_bytes() if verb == "resume" else None
        with pytest.raises((fanout.ConfigError, fanout.SourceError)) as refusal:
            execute()
        assert "\n" not in str(refusal.value)
        assert before == ((out / "run.json").read_bytes() if out.exists() else None)
        assert transport.count == 0
        return
    assert execute().state in ("finished", "halted")
    assert transport.count > 0
    assert _reached(seen, name) == VALUES[name]
    if name in ("name", "label"):
        state = json.loads((out / "run.json").read_text())
        assert (state["name"], state["labels"]) == (("n", {}) if name == "name" else (None, {"a": "b"}))


@pytest.mark.parametrize("name", sorted(set(VALUES) - {"invocation"}))  # a word of fanout.run alone
async def test_an_option_of_a_redrive_holds_or_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redrive reads no input and sends a part of a run: what speaks of either is refused."""
    out = tmp_path / "run"
    failing = Scripted(lambda _: function_error())
    await asyncio.to_thread(fanout.run, "f", RECORDS, out=out, transport=failing, concurrency=1, report=False)
    seen = _sessions(monkeypatch)
    transport = Scripted(_answer)
    more = WITH.get(name, {})
    given: Any = {"concurrency": 1, "report": False, "transport": transport, **more, name: VALUES[name]}
    refused = KEPT_ON_RESUME | OF_WHOLE_RUNS | ALSO_KEPT
    if name in refused | {"leave", "prices"} or refused & set(more):
        before = (out / "run.json").read_bytes()
        with pytest.raises(fanout.ConfigError) as refusal:
            await redrive(out, Changes(given=given), Audience())
        assert "\n" not in str(refusal.value)
        assert ((out / "run.json").read_bytes(), transport.count) == (before, 0)
        return
    assert (await redrive(out, Changes(given=given), Audience())).state == "finished"
    assert transport.count > 0
    assert _reached(seen, name) == VALUES[name]
