"""The collection of a durable function's Event calls: from the list of its executions alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.commands.collect import collect
from fanout.commands.collection import Collection
from fanout.errors import SourceError
from fanout.journal import iter_outcomes
from fanout.model import InvokeTemplate, OnChunk, Reply
from fanout.runs.audience import Audience
from tests.queues.stand_in import serving

LIST = "/2025-12-01/functions/f/durable-executions"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, keys: None) -> None:
    monkeypatch.setattr("fanout.commands.collect_executions._REQUESTS_PER_S", 1000.0)
    monkeypatch.setattr("fanout.commands.collect_executions._FIRST_PAUSE_S", 0.01)


class Executing:
    """Takes every event, and begins an execution with it."""

    def __init__(self) -> None:
        self.count = 0

    async def send(self, template: InvokeTemplate, body: bytes, on_chunk: OnChunk | None = None) -> Reply:
        arn = f"arn-{self.count}"
        self.count += 1
        return Reply(202, request_id=arn, durable_execution_arn=arn)

    def set_read_timeout(self, seconds: float) -> None: ...

    async def aclose(self) -> None: ...


async def accepted(out: Path, count: int) -> str:
    """Event calls of a durable function, and run.json as with ``durable``; returns the run's id."""
    await asyncio.to_thread(
        fanout.run, "f:$LATEST", [{"n": n} for n in range(count)], out=out, transport=Executing(),
        invocation_type="Event", concurrency=1, report=False, region="us-east-1",
    )  # fmt: skip
    state: dict[str, Any] = json.loads((out / "run.json").read_bytes())
    state["options"]["durable"] = True
    (out / "run.json").write_text(json.dumps(state))
    return str(state["id"])


async def gather(out: Path, url: str, said: list[str] | None = None, **asked: Any) -> fanout.RunReport:
    audience = Audience(on_note=None if said is None else said.append)
    return await collect(out, Collection(endpoint_url=url, **{"wait_s": 0.1, **asked}), audience)


async def test_each_record_takes_its_own_execution_and_no_other(tmp_path: Path) -> None:
    """Others' executions, those of an earlier call and those that still run are left alone."""
    out, said = tmp_path / "run", list[str]()
    run_id = await accepted(out, 6)

    def listed(seq: object, status: str, arn: str | None = None, run_id: str = run_id) -> dict[str, Any]:
        name = f"{run_id}-{seq}-0-0"
        return {"DurableExecutionName": name, "DurableExecutionArn": arn or f"arn-{seq}", "Status": status}

    executions = [
        listed(0, "SUCCEEDED", run_id="another"),
        {"Status": "SUCCEEDED"},
        listed("x", "SUCCEEDED"),
        listed(77, "SUCCEEDED"),
        listed(0, "SUCCEEDED"),
        listed(0, "FAILED"),
        listed(1, "FAILED"),
        listed(2, "TIMED_OUT"),
        listed(3, "RUNNING"),
        listed(4, "SUCCEEDED", "arn-of-an-earlier-call"),
    ]
    error = {"ErrorType": "ValueError", "ErrorMessage": "bad", "StackTrace": ["line 1"]}
    details = {
        "arn-0": {"Result": '{"got":0}'},
        "arn-1": {"Error": error, "InputPayload": '{"n":1}'},
        "arn-2": {"Status": "TIMED_OUT"},
    }
    objects = {f"/2025-12-01/durable-executions/{arn}": found for arn, found in details.items()}
    async with serving(objects={LIST: {"DurableExecutions": executions}, **objects}) as url:
        report = await gather(out, url, said, outputs=True)
    assert {status: n for status, n in report.counts.items() if n} == {
        "succeeded": 1,
        "function_error": 2,
        "accepted": 3,
    }
    first, second, third, *_ = sorted(iter_outcomes(out), key=lambda outcome: outcome.seq)
    assert first.output == {"got": 0}
    assert second.error is not None
    assert (second.error.type, second.error.message, second.input) == ("ValueError", "bad", {"n": 1})
    assert third.error is not None
    assert (third.error.type, third.error.message) == ("TIMED_OUT", "the execution ended as TIMED_OUT")
    assert said[0] == "6 executions are still out"
    assert said[-1] == "3 executions are still out"


async def test_a_refusal_or_no_reply_ends_the_collection_in_one_line(tmp_path: Path) -> None:
    """What is collected by then stays."""
    out = tmp_path / "run"
    await accepted(out, 1)
    async with serving() as url:
        with pytest.raises(SourceError, match="lambda:ListDurableExecutionsByFunction was refused: "):
            await gather(out, url)
    with pytest.raises(SourceError, match="lambda:ListDurableExecutionsByFunction brought no reply: "):
        await gather(out, "http://127.0.0.1:1")
    assert [outcome.status for outcome in iter_outcomes(out)] == ["accepted"]
